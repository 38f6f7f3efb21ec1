"""Editing quality: right edits, unchanged rest and motion, on held-out pairs and held-out wordings.

    python benchmarks/edit.py MODEL [MODEL …] [--sdedit registry/emoji-t2v] [--items 16] [--steps 20] [--stills data/edits64]

For each task: the share of edits that are right (the nearest of all answers to that instruction, see benchmarks/edit_judge.py; for marking, an overlap of
at least one half); the error outside the edited region over what the autoencoder alone makes there; motion energy over the targets', and the mean
correlation of frame differences with theirs. Three held-out splits: new pairs in known wordings, known pairs in new wordings, both new. Beside the
models: the source copied (a model that does nothing), the real target through the autoencoder and back (a perfect model), and SDEdit on a plain
text-to-video model, told what the target shows, at the strength that is best on training pairs. The kind of an edit is guessed from the
instruction, as on the command line. Needs mgzoo-edit. Left out: human votes; instructions that nobody composed from parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import common
import edit_judge
import torch
from PIL import Image
from torch import Tensor

import mgzoo
from mgzoo.tasks import decode_frames
from mgzoo_edit import heads
from mgzoo_edit.configs import SdeditConfig
from mgzoo_edit.sdedit import edit_from_noised_source
from mgzoo_edit.tasks import EDITS, guess_task
from mgzoo_emoji.configs import PairsConfig
from mgzoo_emoji.instruction_templates import TEMPLATES, write_instruction
from mgzoo_emoji.pairs import SPLITS, Pairs

STRENGTHS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
TUNED = 4  # training pairs of each task that choose SDEdit's strength
BATCH = 16
COLUMNS = ("clips", "right", "outside", "inside", "motion", "follows")


def chosen(pairs: Pairs, items: int) -> list:
    """So many held-out samples of each task and split, the first of the list."""
    counted: dict[tuple, int] = {}
    taken = []
    for clip in pairs.held_out():
        key = (clip.extra["task"], clip.extra["split"])
        counted[key] = counted.get(key, 0) + 1
        if counted[key] <= items:
            taken.append(clip)
    return taken


def known(pairs: Pairs, items: int) -> list:
    """Training pairs in training wordings, beyond those of the training pool."""
    made = []
    for task in EDITS:
        for number in range(items):
            edit = pairs.pool.draw_edit(task, 950_001 + number, 0)
            kind = edit.kind if edit.kind in TEMPLATES else "look"
            made.append(pairs.pair(edit, write_instruction(kind, pairs.pool.slots(edit), number), split="trained"))
    return made


def through(model, clips: Sequence, make: Callable[[Tensor, Sequence, int], Tensor]) -> list[Tensor]:
    """Edited clips uint8 (F, Y, X, 3). make: source latents (B, C, T, H, W), clips, seed -> latents."""
    videos = []
    for start in range(0, len(clips), BATCH):
        part = clips[start : start + BATCH]
        sources = torch.stack(model.encode_clips([replace(clip, digest=clip.extra["source_digest"], load=clip.extra["source"]) for clip in part]))
        latents = make(sources, part, start)
        videos += [decode_frames(model, one, (clip.frames, clip.height, clip.width)) for one, clip in zip(latents, part, strict=True)]
    return videos


def instructed(model, steps: int) -> Callable:
    """What a model with the editing head makes."""

    def make(sources: Tensor, clips: Sequence, seed: int) -> Tensor:
        texts = [heads.prompt_text(model.task.config, clip.caption, clip.fps) for clip in clips]
        conditions = model.encode_conditions({key: texts for key in model.encoders})
        return model.task.edit_latents(model, sources, conditions, [guess_task(clip.caption) for clip in clips], seed=seed, steps=steps)

    return make


def noised(model, strength: float, steps: int) -> Callable:
    """What SDEdit makes, told what the target shows."""
    config = SdeditConfig(fps_token=model.task.config.fps_token)

    def make(sources: Tensor, clips: Sequence, seed: int) -> Tensor:
        texts = [heads.prompt_text(config, clip.extra["output_caption"], clip.fps) for clip in clips]
        conditions = model.encode_conditions({key: texts for key in model.encoders})
        return edit_from_noised_source(model, sources, conditions, strength, seed=seed, steps=steps)

    return make


def best_strength(model, pairs: Pairs, steps: int) -> tuple[float, list[dict]]:
    """The strength with most right edits on training pairs, among equals the one with the least error outside; and the figures of all."""
    clips = known(pairs, TUNED)
    found = [edit_judge.answers(pairs, clip) for clip in clips]
    own = reconstructed(model, clips)
    rows = [{"strength": s, **edit_judge.score(found, through(model, clips, noised(model, s, steps)), own)} for s in STRENGTHS]
    return max(rows, key=lambda row: (row["right"], -row["outside"]))["strength"], rows


def reconstructed(model, clips: Sequence) -> list[Tensor]:
    """The targets through the autoencoder and back."""
    latents = [one for start in range(0, len(clips), BATCH) for one in model.encode_clips(clips[start : start + BATCH])]
    return [decode_frames(model, one, (clip.frames, clip.height, clip.width)) for one, clip in zip(latents, clips, strict=True)]


def sheet(path: Path, found: Sequence, rows: Sequence[tuple[str, Sequence[Tensor]]], shown: int = 3) -> None:
    """One column for each of some held-out edits of every task: its source, its target and what was made of it, three frames each."""
    picked = [i for task in EDITS for i in [i for i, answer in enumerate(found) if answer.edit.task == task][:shown]]
    lines = []
    for start in range(0, len(picked), 7):
        columns = picked[start : start + 7]
        for videos in ([answer.source for answer in found], [answer.target for answer in found], *(videos for _, videos in rows)):
            strips = [torch.cat([videos[i][f] for f in (0, 5, 10)], 1) for i in columns]
            lines.append(torch.cat([torch.nn.functional.pad(strip, (0, 0, 2, 2, 1, 1), value=90) for strip in strips], 1))
    width = max(line.shape[1] for line in lines)
    whole = torch.cat([torch.nn.functional.pad(line, (0, 0, 0, width - line.shape[1])) for line in lines])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(whole.numpy()).save(path)


def main() -> None:
    parser = common.arguments(__doc__, items=16, steps=20)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="artifacts with the editing head; the last one is drawn")
    parser.add_argument("--sdedit", help="a text-to-video model to compare with")
    parser.add_argument("--stills", default="", help="data/edits64, to ask for vendors' styles too")
    options = parser.parse_args()
    if not (options.models or options.sdedit):
        parser.error("give a MODEL, or --sdedit")
    pairs = Pairs(PairsConfig(frames=16, stills=options.stills))
    clips = chosen(pairs, options.items)
    found = [edit_judge.answers(pairs, clip) for clip in clips]
    report: dict = {"models": options.models, "items": options.items, "steps": options.steps, "iou": edit_judge.IOU,
                    "guessed_right": {split: _share([guess_task(c.caption) == c.extra["task"] for c in clips if c.extra["split"] == split]) for split in SPLITS}}
    rows, made = [], {}

    def tell(name: str, videos: list[Tensor]) -> None:
        for split in SPLITS:
            for task in (*EDITS, "all"):
                at = [i for i, clip in enumerate(clips) if clip.extra["split"] == split and task in (clip.extra["task"], "all")]
                figures = edit_judge.score([found[i] for i in at], [videos[i] for i in at], [own[i] for i in at])
                rows.append({"clips shown": name, "split": split, "task": task, **figures})
        everything = [{"split": row["split"], "task": row["task"], **{key: row[key] for key in COLUMNS}} for row in rows if row["clips shown"] == name]
        print(f"\n{name}\n{common.table(everything)}", flush=True)

    model = mgzoo.load([*options.models, options.sdedit][0])  # all of them share an autoencoder
    own = reconstructed(model, clips)
    tell("the source, copied", [answer.source for answer in found])
    tell("the target, re-encoded", own)
    for reference in options.models:
        model, name = mgzoo.load(reference), _name(reference)
        made[name] = through(model, clips, instructed(model, options.steps))
        tell(name, made[name])
    if options.sdedit:
        model = mgzoo.load(options.sdedit)
        strength, tuned = best_strength(model, pairs, options.steps)
        report["sdedit"] = {"model": options.sdedit, "strength": strength, "on_training_pairs": tuned}
        print("\nSDEdit on training pairs\n" + common.table([{"strength": row["strength"], **{key: row[key] for key in COLUMNS}} for row in tuned]), flush=True)
        made["SDEdit"] = through(model, clips, noised(model, strength, options.steps))
        tell(f"SDEdit at {strength:g}", made["SDEdit"])
    drawn = [*map(_name, options.models[-1:]), *(["SDEdit"] if options.sdedit else [])]
    sheet(options.out / "edit_clips.png", found, [(name, made[name]) for name in drawn])
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["split"] == "pairs" or row["task"] == "all":
            groups.setdefault(f"{row['split']}, {row['task']}", {})[row["clips shown"]] = row["right"]
    common.bars(options.out, "edit", groups, unit="share of right edits", title="Edits that are right, on held-out pairs and wordings")
    print(common.write(options.out, "edit", {**report, "chance": _share([answer.chance for answer in found]), "rows": rows}))


def _share(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _name(reference: str) -> str:
    """What a model is called in the table: its folder, or the run it came from."""
    path = Path(reference)
    return path.parent.name if path.name == "artifact" else path.name


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        main()
