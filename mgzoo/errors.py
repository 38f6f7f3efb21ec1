"""What is wrong and what to do about it: problems with their origin, and the errors that carry them. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a value was written: a file (or ``command line``) and its 1-based line, None where there is none."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong, said so that a person can act on it.

    what: what is wrong. key: the dotted recipe key it concerns, or "". origin: where it was written.
    remedy: what to do. kind: a short stable word for programs (``unknown-key``, ``latent-space`` …).
    """

    what: str
    remedy: str
    key: str = ""
    origin: Origin | None = None
    kind: str = "problem"

    def __str__(self) -> str:
        where = f"{self.origin}: " if self.origin else ""
        key = f"{self.key}: " if self.key else ""
        return f"{where}{key}{self.what}\n    -> {self.remedy}"

    def to_dict(self) -> dict:
        """For ``--json``."""
        return dataclasses.asdict(self)


class MgzooError(ValueError):
    """An error that a user can cause: printed without a traceback, exit code 1.

    what: what is wrong. remedy: what to do. origin: where it came from.
    """

    def __init__(self, what: str, *, remedy: str = "", origin: str = ""):
        self.what, self.remedy, self.origin = what, remedy, origin
        super().__init__((f"{origin}: " if origin else "") + what + (f"\n    -> {remedy}" if remedy else ""))


class RecipeError(MgzooError):
    """A recipe that does not hold; `problems` lists everything that is wrong with it, at once."""

    def __init__(self, problems):
        self.problems = tuple(problems)
        n = len(self.problems)
        ValueError.__init__(self, f"{n} problem{'s' if n != 1 else ''}\n" + "\n".join(map(str, self.problems)))
        self.what, self.remedy, self.origin = str(self), "", ""


class ArtifactError(RecipeError):
    """An artifact that does not hold; `problems` lists everything that is wrong with it, at once."""


def suggest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known words most like this one, best first; what "did you mean" names."""
    import difflib

    return difflib.get_close_matches(word, sorted(known), n=count, cutoff=0.6)
