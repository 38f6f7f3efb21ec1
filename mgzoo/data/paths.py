"""Paths of data in configs."""

from __future__ import annotations

from pathlib import Path

from mgzoo import storage
from mgzoo.spec import MgzooError


def find_data(
    path: str | Path, *, option: str = "path", what: str = "data at", wanted: str = "a folder or a shard", beside: str | Path = __file__, origin: str = ""
) -> Path:
    """The file or folder of this name: absolute, in the working directory, or in the source tree of a package.

    option: option name in the data config, for the error. what, wanted: words for the error: the missing thing and the expected value.
    beside: a file of a package whose source tree is searched (``__file__`` of the caller); wheels have none.
    Raises MgzooError for a missing file or folder.
    """
    storage.refuse_address(path, f"download it, then set data.config.{option} to {wanted} on this machine")
    named = Path(path).expanduser()
    tried = [named] if named.is_absolute() else [named, *(root / named for root in source_trees(beside))]
    for candidate in tried:
        if candidate.exists():
            return candidate
    looked = "" if named.is_absolute() else "; looked in " + " and ".join(str(one) for one in dict.fromkeys([Path.cwd(), *source_trees(beside)]))
    raise MgzooError(f"there is no {what} {path}", remedy=f"set data.config.{option} to {wanted}{looked}", origin=origin)


def source_trees(*files: str | Path) -> list[Path]:
    """The source trees (folders with a ``pyproject.toml``) above these files and above mgzoo, nearest first."""
    above = [parent for file in (*files, __file__) for parent in Path(file).resolve().parents]
    return list(dict.fromkeys(parent for parent in above if (parent / "pyproject.toml").is_file()))
