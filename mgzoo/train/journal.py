"""What a run says of itself: `metrics.jsonl`, the curve, and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from mgzoo import storage

LINE_SECONDS = 30


def truncate(path: Path, step: int) -> None:
    """Drop what was logged after `step`, so that a resumed run tells its story once."""
    if not path.exists():
        return
    lines = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line)
        except json.JSONDecodeError:  # the last line of a killed run
            continue
    storage.atomic_write(path, "".join(line + "\n" for line in lines))


def note(path: Path, entry: Mapping) -> None:
    """Append one line of JSON."""
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def read(path: Path) -> list[dict]:
    """All lines of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def draw(metrics: Path, picture: Path) -> None:
    """Training and held-out loss over steps, with the learning rate, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = read(metrics)
    trained = [line for line in lines if "loss" in line]
    held = [line for line in lines if "validation" in line]
    figure, axis = pyplot.subplots(figsize=(7, 4), constrained_layout=True)
    axis.plot([line["step"] for line in trained], [line["loss"] for line in trained], linewidth=0.9, label="training loss")
    if held:
        axis.plot([line["step"] for line in held], [line["validation"]["loss"] for line in held], "o-", markersize=3, label="held-out loss")
    losses = [line["loss"] for line in trained]
    if losses and min(losses) > 0 and max(losses) > 10 * min(losses):
        axis.set_yscale("log")
    axis.set_xlabel("optimiser step")
    axis.grid(alpha=0.3)
    rate = axis.twinx()
    rate.plot([line["step"] for line in trained], [line["lr"] for line in trained], color="0.7", linewidth=0.8)
    rate.set_ylabel("learning rate", color="0.5")
    axis.legend(loc="upper right")
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)


class Progress:
    """Progress on stderr: a bar where it is a terminal, else a line about every thirty seconds; nothing on other ranks."""

    def __init__(self, done: int, steps: int, shown: bool):
        self.steps, self.shown, self.bar = steps, shown, None
        self.begun, self.from_step = time.monotonic(), done
        self.last = self.begun - LINE_SECONDS + 5
        if shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.bar.start()
            self.task = self.bar.add_task("training", total=steps, completed=done)

    def show(self, step: int, said: str) -> None:
        """Say where the run is: `step` steps are done."""
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(self.task, completed=step, description=said)
        elif self.shown and (now - self.last > LINE_SECONDS or step == self.steps):
            self.last = now
            left = (now - self.begun) / max(1, step - self.from_step) * (self.steps - step)
            self.say(f"step {step}/{self.steps} · {said} · {left / 60:.1f} min left")

    def say(self, line: str) -> None:
        """One line, whatever the terminal."""
        if not self.shown:
            return
        if self.bar is not None:
            self.bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
