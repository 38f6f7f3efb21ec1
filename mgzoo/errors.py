"""Problems with origin and remedy, and the exceptions with them. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Origin of a value: a file (or ``command line``) and its 1-based line, or None."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem, with its place and its remedy.

    what: the problem. key: dotted recipe key, or "". origin: place of the value.
    remedy: the fix. kind: a short stable word for programs (``unknown-key``, ``latent-space`` …).
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
    """A user error: printed without a traceback, exit code 1.

    what: the problem. remedy: the fix. origin: file or reference.
    """

    def __init__(self, what: str, *, remedy: str = "", origin: str = ""):
        self.what, self.remedy, self.origin = what, remedy, origin
        super().__init__((f"{origin}: " if origin else "") + what + (f"\n    -> {remedy}" if remedy else ""))


class RecipeError(MgzooError):
    """An invalid recipe; `problems` lists all problems."""

    def __init__(self, problems):
        self.problems = tuple(problems)
        n = len(self.problems)
        ValueError.__init__(self, f"{n} problem{'s' if n != 1 else ''}\n" + "\n".join(map(str, self.problems)))
        self.what, self.remedy, self.origin = str(self), "", ""


class ArtifactError(RecipeError):
    """An invalid artifact; `problems` lists all problems."""


def suggest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The most similar known words, best first; for "did you mean"."""
    import difflib

    return difflib.get_close_matches(word, sorted(known), n=count, cutoff=0.6)
