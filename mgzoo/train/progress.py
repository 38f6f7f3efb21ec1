"""Progress of a run on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time

LINE_SECONDS = 30


class Progress:
    """Progress on stderr: a bar where it is a terminal, else a line about every thirty seconds; nothing on other ranks."""

    def __init__(self, done: int, steps: int, shown: bool):
        self.steps, self.shown, self.bar = steps, shown, None
        self.begun, self.from_step = time.monotonic(), -1
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
        """Say where the run is: `step` steps are done. What is left is reckoned from the second step on: the first one compiles and fills caches."""
        now = time.monotonic()
        first = self.from_step < 0
        if first:
            self.begun, self.from_step = now, step
        if self.bar is not None:
            if first:
                self.bar.reset(self.task, completed=step)
            self.bar.update(self.task, completed=step, description=said)
        elif self.shown and (now - self.last > LINE_SECONDS or step == self.steps):
            self.last = now
            left = (now - self.begun) / max(1, step - self.from_step) * (self.steps - step)
            self.say(f"step {step}/{self.steps} · {said}" + (f" · {left / 60:.1f} min left" if step > self.from_step or step == self.steps else ""))

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
