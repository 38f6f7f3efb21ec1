"""What the verbs print: data on stdout; notes, errors and progress on stderr, in colour only on a terminal that wants it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from mgzoo.spec import CONTROL_CHARACTERS, MgzooError, Origin, Problem, RecipeError


def emit_json(value) -> None:
    """Print a value as JSON."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value):
    """A value as JSON can hold it: dataclasses become mappings, tuples lists, and what JSON does not know text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def table(rows: Iterable[Sequence[str]], indent: int = 2) -> str:
    """Rows as left-aligned columns two spaces apart; the last column is as long as it is."""
    rows = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)][:-1]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths)] + row[len(widths) :]
        lines.append((" " * indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def printable(text: str) -> str:
    """A text without what could move the cursor, colour or reorder a terminal's lines: files and artifacts come from strangers."""
    return CONTROL_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text)


def note(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


def error(problem: MgzooError, as_json: bool = False) -> None:
    """What is wrong, where it came from and what to do, on stderr; with `as_json` also what `check --json` prints, on stdout."""
    label = "\x1b[1;31merror:\x1b[0m" if coloured(sys.stderr) else "error:"
    note(f"{label} {printable(str(problem))}")
    if as_json:
        origin = Origin(source=problem.origin) if problem.origin else None
        alone = (Problem(what=problem.what, remedy=problem.remedy, origin=origin, kind="error"),)
        found = problem.problems if isinstance(problem, RecipeError) else alone
        with contextlib.suppress(OSError):  # stdout may be what failed
            emit_json({"ok": False, "problems": [one.to_dict() for one in found]})


def coloured(stream) -> bool:
    """Whether a stream takes colour: a terminal, and neither ``NO_COLOR`` nor ``TERM=dumb`` is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def remedy(failure: OSError) -> str:
    """What to do about a failure of the operating system."""
    return {
        errno.ENOENT: "check the path",
        errno.ENOSPC: "free some disk space; `mgzoo doctor` shows the free space",
        errno.EACCES: "check the permissions of the path",
        errno.EROFS: "choose a writable path",
        errno.ENOTDIR: "a component of the path is a file, not a folder",
        errno.EISDIR: "the path is a folder; name a file",
        errno.EEXIST: "a file exists in place of a folder; choose another path",
    }.get(failure.errno, "")


def size(count: float) -> str:
    """Bytes with a binary unit: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def print_verdict(arguments, name: str, found: list[Problem]) -> int:
    """Print ``NAME: OK`` or every problem; the exit code."""
    if arguments.json:
        emit_json({"ok": not found, "problems": [problem.to_dict() for problem in found]})
    elif found:
        print(printable("\n".join(map(str, found))))
        note(f"{len(found)} problem{'s' if len(found) != 1 else ''}")
    else:
        print(f"{name}: OK")
    return 1 if found else 0
