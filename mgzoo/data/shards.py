"""Tar shards in WebDataset's format: members by their offset, without unpacking. Standard library only."""

from __future__ import annotations

import math
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path

from mgzoo.data.files import Entry, LeftOut, is_hidden
from mgzoo.spec import MgzooError


def shard_entries(shard: Path, problems: list[MgzooError], left_out: LeftOut | None = None) -> list[Entry]:
    """The files in a shard, in order. For a truncated or damaged shard: the files before the damage, and a problem.

    A link to another member duplicates that member. A leading ``./`` is removed from names.
    """
    left_out = left_out or LeftOut()
    if (plain := _plain_members(shard)) is not None:
        entries = []
        for written, offset, size in plain:
            name = posixpath.normpath(written)
            if is_hidden(name):
                left_out.add("hidden files", f"{shard.name}/{name}")
            else:
                entries.append(Entry.of(name, f"{shard}/{name}", shard, offset, size))
        return entries
    found: dict[str, Entry] = {}
    for member in _members(shard, problems):
        name = posixpath.normpath(member.name)
        if member.isdir():
            continue
        if is_hidden(name):
            left_out.add("hidden files", f"{shard.name}/{name}")
        elif member.issparse():
            problems.append(MgzooError(f"{name} is stored with holes (a sparse file)", remedy="write the shard again with tar's --hole-detection off", origin=str(shard)))
        elif member.isreg():
            found[member.name] = Entry.of(name, f"{shard}/{name}", shard, member.offset_data, member.size)
        elif (target := _target(member, found)) is not None:
            found[member.name] = Entry.of(name, f"{shard}/{name}", shard, target.offset, target.size)
        else:
            left_out.add("shard members are broken links or not files", f"{shard.name}/{name}")
    return list(found.values())


def _plain_members(shard: Path) -> list[tuple[str, int, int]] | None:
    """(name, offset, size) of the files of an intact shard with regular files only; None for others, which are read with tarfile.

    `tarfile` takes four times as long, and a data set may have a million members. The format is POSIX.1-1988's (ustar).
    """
    end, place, found = shard.stat().st_size, 0, []
    with open(shard, "rb") as opened:
        try:
            while (block := opened.read(tarfile.BLOCKSIZE)) != bytes(tarfile.BLOCKSIZE):
                told = int(block[148:156].strip(b" \0"), 8)
                if len(block) != tarfile.BLOCKSIZE or block[156:157] not in (b"0", b"\0") or told != sum(block) - sum(block[148:156]) + 256:
                    return None
                name, size = block[:100].partition(b"\0")[0], int(block[124:136].strip(b" \0"), 8)
                if block[257:263] == b"ustar\0":
                    prefix = block[345:500].partition(b"\0")[0]
                    name = prefix + b"/" + name if prefix else name
                place += tarfile.BLOCKSIZE
                if block[257:262] != b"ustar" or name.endswith(b"/") or place + size > end:
                    return None
                found.append((name.decode("utf-8"), place, size))
                place += math.ceil(size / tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                opened.seek(place)
        except ValueError:  # a number in base 256, a name in another encoding
            return None
    names = {name for name, _, _ in found}
    return found if len(names) == len(found) else None


def _target(member: tarfile.TarInfo, found: dict[str, Entry]) -> Entry | None:
    """The earlier member that a link refers to."""
    if member.islnk():
        return found.get(member.linkname)
    if member.issym():
        return found.get(posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname)))
    return None


def _members(shard: Path, problems: list[MgzooError]) -> list[tarfile.TarInfo]:
    """The complete members of a shard, and a problem if some are missing."""
    end, members, reason, place = shard.stat().st_size, [], None, ""
    with open(shard, "rb") as opened:
        try:
            with tarfile.open(fileobj=opened, mode="r:") as tar:
                for member in tar:
                    place = member.name
                    if member.offset_data + (member.size if member.isreg() and not member.issparse() else 0) > end:
                        reason = "the shard ends within this member"
                        break
                    members.append(member)
                else:
                    last = members[-1] if members else None
                    held = last.size if last and last.isreg() and not last.issparse() else 0
                    opened.seek(last.offset_data + math.ceil(held / tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE if last else 0)
                    if not (last and last.issparse()) and any(opened.read(tarfile.BLOCKSIZE)):  # tarfile takes a damaged header for the end
                        reason = "no valid tar header after it"
        except tarfile.ReadError as error:
            opened.seek(0)
            packed = opened.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
            reason = "compressed shards do not support random access" if packed else str(error)
    if reason:
        at = f" at {place}" if place else ""
        remedy = "copy it again" if "compressed" not in reason else "unpack it to a plain .tar"
        problems.append(MgzooError(f"the shard is damaged{at}: {reason}" if remedy == "copy it again" else f"the shard cannot be used: {reason}", remedy=remedy, origin=str(shard)))
    return members


def find_shards(root: Path) -> list[Path]:
    """The ``*.tar`` of a folder itself, or the one shard that `root` is, in order of name; hidden ones are none."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".tar" else []
    return sorted(path for path in root.iterdir() if path.suffix.lower() == ".tar" and not is_hidden(path.name) and path.is_file())


def read_members(shard: Path) -> Iterator[tuple[Entry, bytes]]:
    """(entry, its bytes) of every file of a shard. Raises MgzooError for a damaged shard."""
    problems: list[MgzooError] = []
    entries = shard_entries(shard, problems)
    if problems:
        raise problems[0]
    with open(shard, "rb") as opened:
        for entry in entries:
            opened.seek(entry.offset)
            yield entry, opened.read(entry.size)
