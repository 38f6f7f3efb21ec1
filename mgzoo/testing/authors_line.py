"""The line of a plugin's own code at which an error was raised."""

from __future__ import annotations

import linecache
import os
import traceback

from mgzoo.testing.component_under_test import Subject

LONGEST = 300
"""Most characters of an error's text (our choice)."""


def authors_line(subject: Subject, error: BaseException) -> str | None:
    """``file:line in function: code``, then the error, of the deepest frame in the component's own package; None where no frame is.

    The part's own package is the first word of the module names of its target, its config and its plugin.
    """
    own = {place.partition(":")[0].partition(".")[0] for place in (subject.component.target, subject.component.config, subject.plugin) if place}
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_own(frame.f_globals.get("__name__", ""), own, subject)]
    if not frames:
        return None
    frame, line = frames[-1]
    path = frame.f_code.co_filename
    shown = os.path.relpath(path) if not os.path.relpath(path).startswith("..") else path
    code = linecache.getline(path, line, frame.f_globals).strip()
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text if len(text) <= LONGEST else text[:LONGEST] + '…'}"
    return f"{shown}:{line} in {frame.f_code.co_name}: {code}\n    {said}"


def _is_own(module: str, own: set[str], subject: Subject) -> bool:
    if module.partition(".")[0] != "mgzoo":
        return module.partition(".")[0] in own
    return module == subject.component.target.partition(":")[0]  # a part of the core's own: not the kit around it
