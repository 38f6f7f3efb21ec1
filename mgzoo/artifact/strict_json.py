"""Strict parsing of untrusted JSON, with all problems collected. Never imports torch."""

from __future__ import annotations

import json
import re

from mgzoo.spec import CONTROL_CHARACTERS, Origin, Problem


def problem(kind: str, what: str, remedy: str, where, key: str = "", line: int | None = None) -> Problem:
    """A `Problem` of an artifact; ``where`` is the file or folder it was found in."""
    return Problem(what=what, remedy=remedy, key=key, origin=Origin(source=str(where), line=line), kind=kind)


def parse_strict_json(data: bytes):
    """Parsed JSON without what its readers disagree on: a key given twice, NaN, text that is not Unicode. Raises ValueError."""

    def once(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))
            raise ValueError(f"duplicate key {shorten(twice)!r}")
        return found

    def constant(text):
        raise ValueError(f"{text} is not JSON")

    text = data.decode("utf-8")
    content = json.loads(text, object_pairs_hook=once, parse_constant=constant)
    if r"\ud" in text.lower():  # half of an escaped pair is a text that cannot be written again
        json.dumps(content, ensure_ascii=False).encode()
    return content


class JsonChecker:
    """Walks parsed JSON and collects problems; what it cannot use it replaces by something empty of the right type."""

    def __init__(self, source: str):
        self.source = source
        self.problems: list[Problem] = []

    def problem(self, key: str, what: str, remedy: str = "correct it, or save the artifact again", kind: str = "manifest"):
        self.problems.append(problem(kind, what, remedy, self.source, key))

    def mapping(self, value, key: str, required: tuple[str, ...] | None = None, optional: tuple[str, ...] = ()) -> dict:
        """`value` as a dict; with `required` its keys are closed."""
        if not isinstance(value, dict):
            self.problem(key, f"must be an object, not {type(value).__name__}")
            return {}
        if required is not None:
            for name in value:
                if name not in required and name not in optional:
                    self.problem(f"{key}.{shorten(name)}".lstrip("."), "unknown key", "remove it, or use a newer mgzoo")
            for name in required:
                if name not in value:
                    self.problem(f"{key}.{name}".lstrip("."), "missing")
        return value

    def text(self, value, key: str, pattern: re.Pattern | None = None, limit: int = 20_000, hint: str = "") -> str:
        if value is None and any(found.key == key for found in self.problems):
            return ""
        if not isinstance(value, str):
            self.problem(key, f"must be text, not {type(value).__name__}")
        elif len(value) > limit or (pattern is not None and not pattern.fullmatch(value)):
            self.problem(key, f"{shorten(value)!r} is not {hint or 'allowed here'}")
        elif CONTROL_CHARACTERS.search(value):
            self.problem(key, "contains control characters (a risk for terminals)")
        else:
            return value
        return ""

    def integer(self, value, key: str, low: int, high: int = 2**62) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            if not (value is None and any(found.key == key for found in self.problems)):
                self.problem(key, f"must be an integer >= {low}, not {shorten(repr(value))}")
            return low
        return value


def shorten(text: str) -> str:
    """A stranger's text as an error may repeat it: printable, and at most 80 characters."""
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= 80 else text[:77] + "..."
