"""The data files of a folder: every file is an entry or is skipped with a logged reason. Standard library only."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("mgzoo")

VIDEO = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".flv", ".f4v", ".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".vob", ".mxf")
IMAGES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
SOUND = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".aifc", ".wma", ".mka", ".caf", ".au", ".ac3", ".w64")
SHARDS, PACKED = (".tar",), (".tgz", ".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2", ".zip", ".7z", ".rar", ".parquet")
LEFT_BY_PROGRAMS = ("__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "$recycle.bin", "@eadir", "system volume information")
ABOUT = ("readme", "license", "licence", "notice", "citation", "copying", "changelog")
QUIET = ("hidden files", "documents", "held-out lists")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file of a data set: of a folder, or a member of a shard.

    name: relative to the data set or to its shard, with slashes. stem: the name without what follows the last dot of its last part; suffix: that,
    with the dot, in lower case. shown: what errors call it. file: the medium itself or the shard; offset, size: its bytes there.
    """

    name: str
    stem: str
    suffix: str
    shown: str
    file: Path
    offset: int
    size: int

    @classmethod
    def of(cls, name: str, shown: str, file: Path, offset: int, size: int) -> Entry:
        """One of this name."""
        suffix = suffix_of(name)
        return cls(name=name, stem=name[: len(name) - len(suffix)], suffix=suffix, shown=shown, file=file, offset=offset, size=size)

    def bytes(self) -> bytes:
        """Its content."""
        with open(self.file, "rb") as opened:
            opened.seek(self.offset)
            return opened.read(self.size)


@dataclass(kw_only=True)
class LeftOut:
    """Names of skipped files, by reason."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """One more."""
        self.names.setdefault(reason, []).append(name)

    def tell(self, root: Path) -> None:
        """Log one line per reason: the count, the suffixes and the first name."""
        for reason, names in self.names.items():
            suffixes = sorted({suffix_of(name) for name in names} - {""}) if reason == "files of unsupported types" else []
            what = f"{len(names)} {reason}" + (f" ({', '.join(suffixes[:8])})" if suffixes else "")
            log.log(logging.INFO if reason in QUIET else logging.WARNING, "%s: %s: %s%s", root, what, min(names), " …" if len(names) > 1 else "")


def suffix_of(name: str) -> str:
    """The suffix of a name with the dot, in lower case, or empty."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def is_hidden(name: str) -> bool:
    """Whether a part of this name is hidden or a system file."""
    return any((part.startswith(".") and part not in (".", "..")) or part.lower() in LEFT_BY_PROGRAMS for part in name.split("/"))


def is_about(name: str) -> bool:
    """Whether this is documentation, such as a README or a licence."""
    last = name.rpartition("/")[2].lower()
    return last.startswith(ABOUT) or last.endswith(".md") or last == "dataset_infos.json"


def walk(root: Path, left_out: LeftOut) -> list[Entry]:
    """All files below a folder, sorted by name. Links are followed; each folder is read once, without loops.

    Hidden files and broken links go to `left_out`.
    """
    found: list[Entry] = []
    seen = {_identity(root)}
    waiting, linked = [("", root)], []
    while waiting or linked:
        prefix, folder = waiting.pop() if waiting else linked.pop(0)
        if not waiting and prefix and folder.is_symlink():  # folders themselves come before the links to them
            if (here := _identity(folder)) in seen:
                left_out.add("links to a folder already read", prefix)
                continue
            seen.add(here)
        for each in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = f"{prefix}/{each.name}" if prefix else each.name
            if is_hidden(each.name):
                left_out.add("hidden files", name)
            elif each.is_dir():
                if each.is_symlink():
                    linked.append((name, Path(each.path)))
                else:
                    seen.add(_identity(Path(each.path)))
                    waiting.append((name, Path(each.path)))
            elif each.is_file():
                found.append(Entry.of(name, each.path, Path(each.path), 0, each.stat().st_size))
            elif each.is_symlink():
                left_out.add("broken links", name)
    return sorted(found, key=lambda entry: entry.name.split("/"))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def of_suffix(entries: Iterable[Entry], suffixes: tuple[str, ...]) -> list[Entry]:
    """Those of these suffixes."""
    return [entry for entry in entries if entry.suffix in suffixes]
