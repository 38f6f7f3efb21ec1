"""The main job on what the repository ships: generate, then the whole circle of compose, train, generate, push, pull, verify.

    make demo                                    # or: .venv/bin/python scripts/demo.py --out demo

Everything is read from the tree; nothing is fetched. Every file written and every figure measured is named at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402

import mgzoo  # noqa: E402
from mgzoo import media  # noqa: E402
from mgzoo.media.spectrogram import draw_spectrogram  # noqa: E402
from mgzoo.share.verify import verify  # noqa: E402

MODEL = "registry/emoji-t2v"
PROMPTS = (
    "man dancing: light skin tone",
    "man cook: dark skin tone",
    "alien",
    "crying face",
    "birthday cake",
    "octopus",
)
PERSON, DOES = "data/persons_demo/superhero.png", "person juggling"
INSTRUCTIONS = ("make the background blue", "make it a pencil drawing")
SILENT, HEARD = "data/sounds_demo/hit-1f431.mp4", "a snare drum hit at every turn of the motion"
UNSEEN = ("man biking: dark skin tone", "woman cook: medium skin tone")
"""Combinations of skin tone and person that `data/emoji64/held_out_combinations.txt` kept from training."""
console = Console(stderr=True)


@contextmanager
def steps_of(title: str):
    """A progress bar that a sampler's ``on_step`` or a loop can move."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def slug(prompt: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in prompt.lower()).strip("-")


class Demo:
    """Keeps what was written and what was measured."""

    def __init__(self, out: Path):
        self.out, self.files, self.figures = out, [], []

    def wrote(self, path: Path) -> Path:
        self.files.append(path)
        return path

    def measured(self, name: str, value: str) -> None:
        self.figures.append((name, value))

    def generate(self, model, prompts, title: str, folder: Path, seed: int = 0):
        begin = time.perf_counter()
        with steps_of(title) as on_step:
            clips = model.generate(list(prompts), seed=seed, on_step=on_step)
        seconds = time.perf_counter() - begin
        for prompt, clip in zip(prompts, clips, strict=True):
            clip.save(self.wrote(folder / f"{slug(prompt)}.mp4"))
        self.measured(f"{title}: seconds a clip", f"{seconds / len(clips):.1f}")
        return clips


    def asked(self, model: str, title: str, file: str, **request):
        """What a shipped model answers to one request."""
        begin = time.perf_counter()
        with steps_of(title) as on_step:
            made = mgzoo.load(model).generate(**request, seed=0, on_step=on_step)
        made.save(self.wrote(self.out / "clips" / file))
        self.measured(f"{model}, {title}: seconds", f"{time.perf_counter() - begin:.1f}")
        return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument("overrides", nargs="*", help="recipe overrides for the small training, e.g. stages.1.steps=20")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    demo, begin = Demo(args.out), time.perf_counter()

    console.rule("1. generate with the model the repository ships")
    model = mgzoo.load(MODEL)
    clips = demo.generate(model, PROMPTS + UNSEEN, "shipped model", args.out / "clips")
    rows = [(f"{clip.caption} (never seen together in training)" if clip.caption in UNSEEN else clip.caption, clip.video) for clip in clips]

    console.rule("2. a person from a picture, edits of a clip, sound for a clip")
    person = demo.asked("registry/personalize", "of a person", "person.mp4", prompt=DOES, reference=PERSON)
    picture = media.read(PERSON).video
    rows += [(f"{DOES}, who: the picture in front", torch.cat([media.fit(picture, *person.video.shape[1:3]).expand(2, -1, -1, -1), person.video[::2]]))]
    source = args.out / "clips" / f"{slug(PROMPTS[0])}.mp4"
    for instruction in INSTRUCTIONS:
        rows.append((instruction, demo.asked("registry/edit", instruction, f"{slug(instruction)}.mp4", prompt=instruction, source=source).video))
    heard = demo.asked("registry/audio", "sound", "heard.mp4", prompt=HEARD, video=SILENT)
    demo.wrote(draw_spectrogram(heard.audio, heard.rate, args.out / "clips" / "heard.spectrogram.png", title=HEARD))

    console.rule("3. compose a recipe and train it with DeepSpeed")
    recipe = mgzoo.compose("tiny/circle", args.overrides)
    start = time.perf_counter()
    run = mgzoo.train(recipe, out=args.out / "run")
    demo.measured("small training: seconds", f"{time.perf_counter() - start:.0f}")
    lines = [json.loads(line) for line in (args.out / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    demo.measured("small training: loss, first -> mean of the last ten", f"{losses[0]:.3f} -> {sum(losses[-10:]) / len(losses[-10:]):.3f}")
    demo.wrote(args.out / "run" / "curve.png")
    demo.wrote(args.out / "run" / "artifact")

    console.rule("4. generate from the result, push, pull, compare")
    mine = mgzoo.load(run.artifact)
    small = demo.generate(mine, PROMPTS[:4], "small model", args.out / "small")
    rows += [(f"{clip.caption} (small model)", clip.video) for clip in small]
    commit = mgzoo.push(run.artifact, f"{args.out}/hub/circle@v1")
    pulled = demo.wrote(mgzoo.pull(f"{args.out}/hub/circle@v1", dest=args.out / "pulled"))
    problems = verify(pulled)
    again = mgzoo.load(pulled).generate(list(PROMPTS[:4]), seed=0)
    same = all(torch.equal(a.video, b.video) for a, b in zip(small, again, strict=True))
    demo.measured("pushed as commit", commit)
    demo.measured("problems found by verify in the pulled copy", str(len(problems)))
    demo.measured("pulled model makes the same frames", "yes, bit for bit" if same else "NO")
    media.contact_sheet(rows, demo.wrote(args.out / "sheet.png"))

    table = Table(title="Measured", show_header=False)
    for name, value in (*demo.figures, ("whole demo: seconds", f"{time.perf_counter() - begin:.0f}")):
        table.add_row(name, value)
    console.print(table)
    console.print("Written:")
    for path in demo.files:
        print(path)
    return 0 if same and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
