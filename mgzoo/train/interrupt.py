"""Ctrl-C and SIGTERM in a run: finish the step, save, exit."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class Interrupt:
    """Defers the first SIGTERM or SIGINT to the end of the step; a second Ctrl-C interrupts at once.

    received: the signal that reached this process, 0 for none. say: called with a line that tells the user so.
    """

    def __init__(self, say: Callable[[str], None]):
        self.received, self.say = 0, say

    def __enter__(self) -> Interrupt:
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.before = {number: signal.signal(number, self.handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        if self.main:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    def handle(self, number: int, frame) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        again = "; Ctrl-C again stops now" if number == signal.SIGINT else ""
        self.say(f"{signal.Signals(number).name}: finishing this step and saving{again}")


@contextlib.contextmanager
def exit_at_once() -> Iterator[None]:
    """Context manager: SIGTERM and SIGINT end the program at once, also within an `Interrupt`; for waits outside steps."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda number, frame: exit_on(number)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_on(number: int) -> None:
    """End the program the way the signal asks: SystemExit(143) for SIGTERM, KeyboardInterrupt for SIGINT."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
