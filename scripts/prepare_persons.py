"""Make data/persons64: stills of the persons of data/emoji64 in three styles, and which of them show whom.

    python scripts/prepare_persons.py FOLDER [--emoji data/emoji64] [--out data/persons64] [--demo data/persons_demo]

FOLDER holds the three npm archives named in `SOURCES`; where one is missing, the command that fetches it is printed. Needs mgzoo-personalize.
The stills are masked crops of 64x64 on white, one tar a style; `references.jsonl` says for each clip what it is asked for with and which stills
show its subject. `--demo data/persons_demo` also writes the few stills of held-out persons that the repository holds. Prints the counts that
data/persons_demo/README.md quotes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mgzoo_personalize.foreground import crop_subject, foreground

SOURCES = {
    "twitter": ("emoji-datasource-twitter-16.0.0.tgz", "emoji-datasource-twitter@16.0.0", "f64a530c63bca463", "package/img/twitter/64/"),
    "google": ("emoji-datasource-google-16.0.0.tgz", "emoji-datasource-google@16.0.0", "fb5fd131b362aab7", "package/img/google/64/"),
    "fluent": ("lobehub-fluent-emoji-3d-1.1.0.tgz", "@lobehub/fluent-emoji-3d@1.1.0", "c1bb7eee7de09020", "package/assets/"),
}
TRAINED = ("fluent", "twitter")  # styles of references; google's stills are for the judge alone
SIZE = 64
LOOKS = ("person", "person-role", "person-fantasy")
"""Subgroups whose emoji differ by how a person looks; those of the others (sport, gesture …) by what the person does."""
SEVERAL = ("1f46f", "1f93c", "1f46b", "1f46c", "1f46d")  # concepts that show more than one person
PORTRAIT = "1f9d1"
DEMO = {
    "woman": ("twitter", "1f469-1f3fe"), "person": ("fluent", "1f9d1-1f3fe"), "superhero": ("twitter", "1f9b8-1f3ff-200d-2640-fe0f"),
    "police_officer": ("fluent", "1f46e-1f3fd-200d-2640-fe0f"), "pilot": ("twitter", "1f468-1f3fd-200d-2708-fe0f"), "teacher": ("twitter", "1f469-1f3fb-200d-1f3eb"),
    "farmer": ("twitter", "1f468-1f3fc-200d-1f33e"), "bald_man": ("twitter", "1f468-1f3ff-200d-1f9b2"), "old_woman": ("twitter", "1f475-1f3fd"),
}  # fmt: skip
"""Held-out persons whose stills the repository holds: by combination, and the last three by look. `two.png` shows the last two side by side."""


def plain(hexcode: str) -> str:
    """Code points as a join key: variation selectors are written by one source and left out by the other."""
    return hexcode.lower().replace("-fe0f", "")


def archives(folder: Path) -> dict[str, Path]:
    """The archives by style, digests checked; exits with what is missing."""
    wrong = []
    for name, package, digest, _ in SOURCES.values():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{path} is missing\n    -> npm pack {package} --pack-destination {folder}")
        elif not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
            wrong.append(f"{path} has another sha256 than {digest}…\n    -> npm pack {package} --pack-destination {folder}")
    if wrong:
        sys.exit("\n".join(wrong))
    return {style: folder / SOURCES[style][0] for style in SOURCES}


def stills(path: Path, prefix: str, wanted: set[str]) -> dict[str, bytes]:
    """Key without variation selectors -> PNG of the masked crop, of those that are wanted."""
    found = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key = plain(Path(member.name).stem)
            if member.name.startswith(prefix) and key in wanted:
                image = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGBA")
                paper = Image.new("RGBA", image.size, "white")
                paper.alpha_composite(image)
                picture = torch.from_numpy(np.asarray(paper.convert("RGB")).copy())
                buffer = io.BytesIO()
                Image.fromarray(crop_subject(picture, foreground(picture), SIZE).numpy()).save(buffer, "PNG", optimize=True)
                found[key] = buffer.getvalue()
    return found


def persons(folder: Path) -> dict[str, dict]:
    """Rows of the clips that show one person, by key."""
    rows = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    row = json.load(tar.extractfile(member))
                    if row["person"] in ("man", "woman", "person") and row["subgroup"] != "family" and row["concept"] not in SEVERAL:
                        rows[member.name.removesuffix(".json")] = row
    return rows


def deed(row: dict) -> str | None:
    """What the person does, None where the emoji shows how somebody looks. The words say nothing of who it is: `woman running: dark skin
    tone` is `person running`."""
    if row["subgroup"] in LOOKS:
        return None
    words = row["caption"].split(":")[0]
    words = re.sub(r"^(woman|man|person) ", "", words)
    return f"person {words}"


def subject(row: dict) -> str:
    """Who it is: gender and skin tone, and for one who is known by the looks, which."""
    who = f"{row['person']} {row['skintone'] or 'yellow'}"
    return who if deed(row) or row["concept"] == PORTRAIT else f"{who} {row['concept']}"


def words(row: dict) -> str:
    """Who it is in words: what a picture can show of a person, without what they do in a clip."""
    if not deed(row):
        return row["caption"]
    return row["person"] + (f": {row['skintone']} skin tone" if row["skintone"] else "")


def demonstrate(folder: Path, out: Path) -> None:
    """Write the stills of `DEMO`, and one picture of two persons."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name, (style, key) in DEMO.items():
        with tarfile.open(folder / f"{style}.tar") as tar:
            data = tar.extractfile(f"{key}.png").read()
        (out / f"{name}.png").write_bytes(data)
        pictures[name] = Image.open(io.BytesIO(data)).convert("RGB")
    two = Image.new("RGB", (2 * SIZE + 24, SIZE + 8), "white")
    for i, name in enumerate(list(DEMO)[-2:]):
        two.paste(pictures[name], (4 + i * (SIZE + 16), 4))
    two.save(out / "two.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make data/persons64 from npm archives and data/emoji64.")
    parser.add_argument("folder", type=Path, help="where the archives lie")
    parser.add_argument("--emoji", type=Path, default=Path("data/emoji64"))
    parser.add_argument("--out", type=Path, default=Path("data/persons64"))
    parser.add_argument("--demo", type=Path, help="where the stills of the demo go")
    arguments = parser.parse_args()
    rows = persons(arguments.emoji)
    by_plain = {plain(key): key for key in rows}
    arguments.out.mkdir(parents=True, exist_ok=True)
    have = {}
    for style, path in archives(arguments.folder).items():
        found = stills(path, SOURCES[style][3], set(by_plain))
        have[style] = {by_plain[key] for key in found}
        with tarfile.open(arguments.out / f"{style}.tar.part", "w", format=tarfile.USTAR_FORMAT) as tar:
            for key in sorted(found):
                member = tarfile.TarInfo(f"{by_plain[key]}.png")
                member.size = len(found[key])
                tar.addfile(member, io.BytesIO(found[key]))
        (arguments.out / f"{style}.tar.part").replace(arguments.out / f"{style}.tar")
        size = (arguments.out / f"{style}.tar").stat().st_size
        print(f"{style}: {len(found)} stills, {size / 1e6:.1f} MB")
    shown: dict[str, list[str]] = {}
    for key, row in rows.items():
        shown.setdefault(subject(row), []).append(key)
    lines = []
    for key, row in sorted(rows.items()):
        references = [f"{style}/{other}" for style in TRAINED for other in sorted(shown[subject(row)]) if other in have[style]]
        lines.append({"key": key, "caption": deed(row) or "person", "does": bool(deed(row)), "subject": subject(row), "who": words(row), "references": references})
    (arguments.out / "references.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if arguments.demo:
        demonstrate(arguments.out, arguments.demo)
    print(f"{len(lines)} clips of {len(shown)} subjects; {sum(line['does'] for line in lines)} show what a person does, the others how one looks")
    print(f"references a clip: {Counter(len(line['references']) for line in lines).most_common(5)}; prompts: {len({line['caption'] for line in lines})}")


if __name__ == "__main__":
    main()
