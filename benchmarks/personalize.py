"""Personalization: does the clip show the subject of the reference image and the action of the prompt?

    python benchmarks/personalize.py [MODEL] [--beside NAME=OTHER …] [--clips 60]    (needs data/persons64: scripts/prepare_persons.py)

Held-out clips are asked for with a prompt that does not say who (`person running`) and a picture of who, in a style that the clips are not drawn in
(Twitter's). Three sets: persons doing something in a combination of gender, skin tone and deed never trained on (the picture shows the same
person standing or doing something else), known looks in combinations never trained on, and looks never seen at all (the picture shows that look).
Identity: skin tone and gender by the nearest of the clips that differ in nothing else (benchmarks/clip_judge.py: pixels, no network); the same told by a
recogniser that learnt on a third style alone (benchmarks/person_judge.py); and whether the real clip is the nearest of all persons' clips. Against: another subject's picture, no picture, the base model without and with the identity in
words, and the real clips. Deed: the nearest clip of that person shows the deed that was asked for. Motion energy over the real clips'.
Pasting: how far a clip's middle frame is from the reference, over how far the real clip's is (1: as far; less: pasted), and the share whose
frame is nearer to the reference than to any real clip of that person.
Left out: human votes; faces of real people, of which no package ships footage.
"""

from __future__ import annotations

import json

import clip_judge
import common
import person_judge
import torch
from torch import Tensor

import mgzoo

STYLE = "twitter"  # of the references: drawn, while the clips are rendered
FAR = 24  # rows on, where another subject's reference is taken from
COLUMNS = ("tone", "gender", "tone, recogniser", "gender, recogniser", "nearest", "deed", "motion", "distance to reference", "pasted")

CARD = {"tone": "right skin tone", "gender": "right gender", "nearest": "the real clip is the nearest of 1,358", "deed": "right deed",
        "motion": "motion energy over the real clips'", "pasted": "frame nearer to the reference than to the person's clips"}


def sets(count: int) -> dict[str, list[str]]:
    """Keys of held-out clips: deeds of persons, known looks, looks never seen."""
    listed, rows, split = person_judge.listed(), person_judge.rows_by_key(), clip_judge.clips().split
    combinations = [key for key in sorted(listed) if rows[key] in set(split["combinations"])]
    concepts = [key for key in sorted(listed) if rows[key] in set(split["concepts"])]
    found = {
        "deeds": [key for key in combinations if listed[key]["does"]],
        "looks": [key for key in combinations if not listed[key]["does"]],
        "unseen looks": [key for key in concepts if not listed[key]["does"]],
    }
    return {name: clip_judge.evenly(keys, count) for name, keys in found.items()}


def reference(key: str) -> Tensor:
    """The picture of a clip's subject: of someone who does something, standing as a portrait or doing something else; of a look, that look."""
    row = person_judge.listed()[key]
    names = [name for name in row["references"] if name.startswith(STYLE)]
    if row["does"]:  # the picture must not show the deed
        concept = clip_judge.clips().facts[person_judge.rows_by_key()[key]]["concept"]
        names = [name for name in names if clip_judge.clips().facts[person_judge.rows_by_key()[name.partition("/")[2]]]["concept"] != concept]
        plain = [name for name in names if clip_judge.clips().facts[person_judge.rows_by_key()[name.partition("/")[2]]]["concept"] == "1f9d1"]
        names = plain or names
    return person_judge.stills(STYLE)[names[0].partition("/")[2]]


def score(net, video: Tensor, keys: list[str], references: Tensor) -> dict[str, float]:
    """The figures of one clip for each key."""
    listed, index = person_judge.listed(), person_judge.rows_by_key()
    rows = [index[key] for key in keys]
    known = person_judge.who(net, video)
    tones, genders = torch.tensor([person_judge.traits(row) for row in rows]).T
    others = sorted(index[key] for key in listed)  # every clip of one person
    distance = clip_judge.distances(video)
    nearest = distance[:, others].argmin(1)
    right = [others[i] == row for i, row in zip(nearest.tolist(), rows)]
    deeds = []
    for line, key, row in zip(distance, keys, rows):
        if listed[key]["does"]:
            mates = [index[k] for k in listed if listed[k]["does"] and listed[k]["subject"] == listed[key]["subject"]]
            found = mates[int(line[mates].argmin())]
            deeds.append(clip_judge.clips().facts[found]["concept"] == clip_judge.clips().facts[row]["concept"])
    real = clip_judge.clips().video[rows]
    small = [halved(person_judge.crops(one)) for one in (video, real)]
    shown = halved(references)
    to_reference, real_to_reference = ((one - shown).square().mean((1, 2, 3)) for one in small)
    mates = [[index[k] for k in listed if listed[k]["subject"] == listed[key]["subject"]] for key in keys]
    real_crops = {row: halved(person_judge.crops(clip_judge.clips().video[[row]]))[0] for row in sorted({row for group in mates for row in group})}
    to_real = torch.stack([min((frame - real_crops[row]).square().mean() for row in group) for frame, group in zip(small[0], mates)])
    return {
        "tone": clip_judge.variant(distance, rows, "skintone")[0],
        "gender": clip_judge.variant(distance, rows, "person")[0],
        "tone, recogniser": (known[:, : len(person_judge.TONES)].argmax(1) == tones).float().mean().item(),
        "gender, recogniser": (known[:, len(person_judge.TONES) :].argmax(1) == genders).float().mean().item(),
        "nearest": sum(right) / len(right),
        "deed": sum(deeds) / len(deeds) if deeds else float("nan"),
        "motion": (clip_judge.motion(video).mean() / clip_judge.motion(real).mean()).item(),
        "distance to reference": (to_reference.mean() / real_to_reference.mean()).item(),
        "pasted": (to_reference < to_real).float().mean().item(),
    }


def halved(pictures: Tensor) -> Tensor:
    """uint8 (B, 64, 64, 3) -> float (B, 3, 32, 32) in [0, 1]: pixels as the judge of clip_judge.py sees them."""
    return torch.nn.functional.avg_pool2d(pictures.permute(0, 3, 1, 2).float() / 255, 2)


def drawn(model, prompts: list[str], pictures: list[Tensor] | None, seed: int = 0) -> Tensor:
    """One clip a prompt, uint8 (B, F, Y, X, 3)."""
    made = []
    for start in range(0, len(prompts), 32):
        few = None if pictures is None else pictures[start : start + 32]
        made += [one.video for one in model.task.draw(model, prompts[start : start + 32], few, seed=seed + start)]
    return torch.stack(made)


def in_words(base, words: list[str], seed: int = 0) -> Tensor:
    """The base model's clips of these captions."""
    return torch.stack([one.video for start in range(0, len(words), 32) for one in base.generate(words[start : start + 32], seed=seed + start)])


def main() -> None:
    parser = common.arguments(__doc__, clips=60, seed=0)
    parser.add_argument("model", nargs="?", default="runs/personalize")
    parser.add_argument("--beside", nargs="*", default=[], metavar="NAME=OTHER", help="other models for the same requests, e.g. of tiny/personalize_paired")
    parser.add_argument("--base", default="registry/emoji-t2v", help="the text-to-video model that both start from")
    options = parser.parse_args()
    model, base = mgzoo.load(options.model).eval(), mgzoo.load(options.base).eval()
    beside = {name: mgzoo.load(reference).eval() for name, _, reference in (one.partition("=") for one in options.beside)}
    net, rows, report = person_judge.recogniser(), [], {"model": options.model, "sets": {}}
    for name, keys in sets(options.clips).items():
        prompts = [person_judge.listed()[key]["caption"] for key in keys]
        pictures = [reference(key) for key in keys]
        far = FAR % len(keys) or len(keys) // 2
        others = pictures[far:] + pictures[:far]
        captions = [clip_judge.clips().captions[person_judge.rows_by_key()[key]] for key in keys]
        arms = {"reference": drawn(model, prompts, pictures, options.seed), "another's reference": drawn(model, prompts, others, options.seed),
                "no reference": drawn(model, prompts, None, options.seed)}  # fmt: skip
        arms |= {other: drawn(them, prompts, pictures, options.seed) for other, them in beside.items()}
        arms["base, same prompt"] = in_words(base, prompts, options.seed)
        arms["base, told who"] = in_words(base, captions, options.seed)
        arms["real clips"] = clip_judge.clips().video[[person_judge.rows_by_key()[key] for key in keys]]
        report["sets"][name] = {}
        for arm, video in arms.items():
            found = score(net, video, keys, torch.stack(pictures))
            report["sets"][name][arm] = found
            rows.append({"set": f"{name} ({len(keys)})", "clips": arm, **{column: found[column] for column in COLUMNS}})
        print(common.table(rows[-len(arms) :]), flush=True)
    groups = {f"{name}, {column}": {arm: found[column] for arm, found in arms.items()} for name, arms in report["sets"].items() for column in ("tone", "gender", "nearest")}
    common.bars(options.out, "personalize", groups, unit="share of clips", title=f"Identity of {options.model}")
    command = f"python benchmarks/personalize.py {options.model}"
    card = [{"name": f"{name}: {said}", "value": round(arms["reference"][column], 3), "command": command,
             "baseline": "; ".join(f"{arm} {arms[arm][column]:.3f}" for arm in arms if arm != "reference")}
            for name, arms in report["sets"].items() for column, said in CARD.items() if arms["reference"][column] == arms["reference"][column]]  # fmt: skip
    (options.out / "card-personalize.json").write_text(json.dumps(card, indent=1) + "\n")
    print(common.write(options.out, "personalize", {**report, "rows": rows}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        main()
