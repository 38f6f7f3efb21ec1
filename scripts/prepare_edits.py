"""Make data/edits64, stills of emoji in three vendors' styles, or write data/edits_held_out.txt, the committed list of held-out edits.

    python scripts/prepare_edits.py FOLDER [--out data/edits64]
    python scripts/prepare_edits.py --lists [--emoji data/emoji64] [--stills data/edits64] [--to data/edits_held_out.txt]

FOLDER holds the four npm archives named in `SOURCES`; where one is missing, the command that fetches it is printed. The stills are PNG of 64x64
on white, with captions.jsonl; people with a skin tone and flags are left out. They are not committed: editing trains without them, with the looks
of mgzoo_emoji.instruction_templates.LOOKS alone as style. Licences: twitter CC-BY 4.0, google Apache 2.0, fluent MIT, captions (openmoji) CC-BY-SA 4.0.
Needs mgzoo-emoji and Pillow.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

from PIL import Image
from prepare_emoji import concept_of, plain

from mgzoo_edit.tasks import EDITS
from mgzoo_emoji.instruction_templates import HELD_OUT_TEMPLATES, TEMPLATES, write_instruction
from mgzoo_emoji.material import read_shards, read_stills
from mgzoo_emoji.scenes import Edit, EditPool, Scene, stable_number, variant_pairs

SOURCES = {
    "twitter": ("emoji-datasource-twitter-16.0.0.tgz", "emoji-datasource-twitter@16.0.0", "f64a530c63bca463", "package/img/twitter/64/"),
    "google": ("emoji-datasource-google-16.0.0.tgz", "emoji-datasource-google@16.0.0", "fb5fd131b362aab7", "package/img/google/64/"),
    "fluent": ("lobehub-fluent-emoji-3d-1.1.0.tgz", "@lobehub/fluent-emoji-3d@1.1.0", "c1bb7eee7de09020", "package/assets/"),
}
NAMES = ("openmoji-17.0.0.tgz", "openmoji@17.0.0", "55ee7d13485dec86")
SIZE = 64
HELD = 16
"""Held-out edits of each task, half of them of subjects that nothing was trained on; and as many of the training pool for held-out wordings."""
LISTS = ("held_out_concepts.txt", "held_out_combinations.txt")


def archives(folder: Path) -> None:
    """Exits with what to run where an archive is missing or another file."""
    wrong = []
    for name, package, digest, *_ in (*SOURCES.values(), NAMES):
        path = folder / name
        if not path.is_file():
            wrong.append(f"{path} is missing\n    -> npm pack {package} --pack-destination {folder}")
        elif not (found := hashlib.sha256(path.read_bytes()).hexdigest()).startswith(digest):
            wrong.append(f"{path}: sha256 is {found[:16]}, expected {digest}\n    -> npm pack {package} --pack-destination {folder}")
    if wrong:
        sys.exit("\n".join(wrong))


def still(data: bytes) -> Image.Image:
    """A picture with transparency on white, 64x64."""
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)
    return paper.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def stills(folder: Path, out: Path) -> None:
    """Write the stills that all three vendors have."""
    archives(folder)
    with tarfile.open(folder / NAMES[0]) as tar:
        entries = {plain(entry["hexcode"]): entry for entry in json.load(tar.extractfile("package/data/openmoji.json"))}
    entries = {code: entry for code, entry in entries.items() if not entry["skintone"] and entry["group"] not in ("flags", "extras-openmoji", "extras-unicode")}
    found: dict[str, dict[str, bytes]] = {}
    for vendor, (name, _, _, inside) in SOURCES.items():
        with tarfile.open(folder / name) as tar:
            for member in tar:
                code = plain(Path(member.name).stem)
                if member.name.startswith(inside) and code in entries:
                    found.setdefault(code, {})[vendor] = tar.extractfile(member).read()
    rows = []
    for code, pictures in sorted(found.items()):
        if len(pictures) < len(SOURCES):
            continue
        for vendor, data in pictures.items():
            file = out / vendor / f"{code}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            still(data).save(file)
            rows.append({"file": f"{vendor}/{code}.png", "caption": entries[code]["annotation"], "concept": concept_of(code)})
    (out / "captions.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    size = sum(path.stat().st_size for path in out.rglob("*.png"))
    print(f"{len(rows)} stills of {len(rows) // len(SOURCES)} emoji, {size / 1e6:.1f} MB")


def lists(emoji: Path, folder: Path | None, to: Path) -> None:
    """Write the held-out edits: for each task half of new subjects, half new changes of known ones, each in a known and a held-out wording."""
    pieces = read_shards(emoji)
    facts = {key: piece.facts for key, piece in pieces.items()}
    concepts, combinations = ([line.split("\t")[0] for line in (emoji / name).read_text().splitlines() if line and line[0] != "#"] for name in LISTS)
    known = EditPool(facts, [*concepts, *combinations], {key: piece.facts for key, piece in read_stills(folder).items()} if folder else {})
    new = EditPool({key: facts[key] for key in concepts})
    rows = []
    for task in EDITS:
        edits = local(known, facts, concepts, combinations) if task == "local" else composed(known, new, task)
        names = {edit.name() for edit in edits}
        assert len(names) == len(edits) == HELD, (task, len(edits), len(names))
        pool = [edit for i in range(HELD) if (edit := known.draw_edit(task, 900_001 + i, turn=0)).name() not in names]
        for i, edit in enumerate(edits):
            rows += [("pairs", edit, write_instruction(template_kind(edit), known.slots(edit), i)), ("both", edit, write_instruction(template_kind(edit), known.slots(edit), i, held_out=True))]
        rows += [("wordings", edit, write_instruction(template_kind(edit), known.slots(edit), i, held_out=True)) for i, edit in enumerate(pool)]
    rows.sort(key=lambda row: stable_number("row", row[0], row[1].text()))  # mixed, so that the first n are a fair sample
    head = "# edits kept out of training (pairs, both) and edits asked for in held-out wordings (wordings, both): split, edit, instruction\n"
    to.write_text(head + "".join(f"{split}\t{edit.text()}\t{instruction}\n" for split, edit, instruction in rows), encoding="utf-8")
    print(f"{len(rows)} held-out samples of {len(EDITS)} tasks in {to}")


def template_kind(edit: Edit) -> str:
    return edit.kind if edit.kind in TEMPLATES and edit.kind in HELD_OUT_TEMPLATES else "look"


def _first(edits, count: int) -> list[Edit]:
    """So many of these, in a fixed shuffle, no two of one name or subject."""
    chosen: dict[str, Edit] = {}
    subjects: set[str] = set()
    for edit in sorted(edits, key=lambda edit: stable_number("held out", edit.text())):
        if edit.name() not in chosen and edit.source.subject not in subjects and len(chosen) < count:
            chosen[edit.name()] = edit
            subjects.add(edit.source.subject)
    return list(chosen.values())


def local(known: EditPool, facts: dict, concepts: list[str], combinations: list[str]) -> list[Edit]:
    """Skin tone and gender in equal parts: targets that are held-out combinations, and people never trained on."""
    made = []
    for kind in ("skintone", "gender"):
        as_edits = [Edit(kind=kind, source=Scene(subject=x), target=Scene(subject=y)) for x, y in variant_pairs(facts, list(facts))[kind]]
        made += _first([e for e in as_edits if e.target.subject in combinations and e.source.subject in known.known], HELD // 4)
        made += _first([e for e in as_edits if e.target.subject in concepts], HELD // 4)
    return made


def composed(known: EditPool, new: EditPool, task: str) -> list[Edit]:
    """Half of subjects never trained on, with things that were; half new changes of known subjects; of style, a quarter by vendors where there are stills."""
    vendors = 4 if task == "style" and known.vendor_pairs else 0
    strangers = EditPool({**{key: known.facts[key] for key in known.known}, **new.facts}, [])
    strangers.__dict__.update(subjects=new.subjects, objects=known.objects)
    made = _first([strangers.draw_candidate(task, 500_000 + i, turn=0) for i in range(300)], HELD // 2)
    turns = range(2) if task == "background" else range(1)
    fresh = _first([known.draw_candidate(task, 700_000 + i, turn) for i in range(300) for turn in turns], HELD - HELD // 2 - vendors)
    vendor_pairs = [Edit(kind="vendor", source=Scene(subject=x), target=Scene(subject=y)) for x, y in known.vendor_pairs]
    return made + fresh + _first(vendor_pairs, vendors)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make data/edits64, or the list of held-out edits.")
    parser.add_argument("folder", type=Path, nargs="?", help="where the archives lie")
    parser.add_argument("--out", type=Path, default=Path("data/edits64"))
    parser.add_argument("--lists", action="store_true", help="write the held-out list instead")
    parser.add_argument("--emoji", type=Path, default=Path("data/emoji64"))
    parser.add_argument("--stills", type=Path, default=Path("data/edits64"), help="so that vendors' styles are held out too; left out where there are none")
    parser.add_argument("--to", type=Path, default=Path("data/edits_held_out.txt"))
    options = parser.parse_args()
    if options.lists:
        lists(options.emoji, options.stills if options.stills.is_dir() else None, options.to)
    elif options.folder:
        stills(options.folder, options.out)
    else:
        parser.error("give FOLDER, or --lists")


if __name__ == "__main__":
    main()
