"""Scan a data set: its samples, each with its caption. The only place that decides which files belong to it.

Layouts: a folder of media, each with a .txt or .json of its name beside it; the same with tables (`mgzoo.data.captions.TABLES`), in any
folder of the tree; ``prompts.txt`` with ``videos.txt``; tar shards, one or a folder of them. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgzoo.data import captions, files, shards
from mgzoo.data.captions import MEDIA_LISTS, PROMPTS, TABLES, composed, normal_name
from mgzoo.data.files import Entry, LeftOut
from mgzoo.spec import MgzooError

TEXTS = (".txt", ".json")
NO_MEDIA = "files of unsupported types"
REMEDY = "add a .txt or .json of the same name, or a line in captions.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One media file of a data set, with its caption.

    key: its name without suffix, unique in the data set. name: for errors. file, offset, size: position of its bytes. caption: stripped,
    or empty. fields: the other fields of its sidecar or its table line.
    """

    key: str
    name: str
    file: Path
    offset: int
    size: int
    caption: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def bytes(self) -> bytes:
        """The medium."""
        with open(self.file, "rb") as opened:
            opened.seek(self.offset)
            return opened.read(self.size)


class TwoCaptions(Exception):
    """Two sidecars of the same kind with different contents."""


@dataclass(kw_only=True)
class Scan:
    """Result of a scan. problems: one per invalid sample. left_out: skipped files, by reason."""

    root: Path
    samples: list[Sample] = field(default_factory=list)
    problems: list[MgzooError] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(kw_only=True)
class _Listed:
    """Table entries for the media of a folder, by normalised name; `taken`: names of the tables."""

    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)


def scan_data(
    root: Path, suffixes: Sequence[str], *, caption_key: str = "caption", captioned: bool = True, held_out: Iterable[str] = (),
    keep: Callable[[Mapping[str, Any]], bool] | None = None,
) -> Scan:  # fmt: skip
    """All samples of a folder or shard, sorted by name (in a shard, by position).

    suffixes: supported media types, in lower case with dots. caption_key: JSON field of the caption. captioned: a missing
    caption is a problem. held_out: names of held-out lists, which are not captions. keep: filter on the fields.
    Raises MgzooError for another `root`, an invalid table, or duplicate keys.
    """
    found, media = Scan(root=root), tuple(suffixes)
    own, apart = shards.find_shards(root), {_relative(str(name), root, "") for name in held_out}
    if not own and not root.is_dir():
        raise MgzooError("not a folder or a .tar shard", remedy="set data.config.path to one", origin=str(root))
    entries = files.walk(root, found.left_out) if root.is_dir() else []
    if not own and not files.of_suffix(entries, media):  # shards in folders of their own
        own = [entry.file for entry in files.of_suffix(entries, files.SHARDS)]
    for shard in own:
        members = shards.shard_entries(shard, found.problems, found.left_out)
        _pair(found, members, media, _Listed(), caption_key, captioned, keep, _texts_of_shard(shard, members), webdataset=True)
    if own:
        _beside_shards(found, entries, set(own), media, apart)
    else:
        _lists_and_pairs(found, root, entries, media, caption_key, captioned, keep, apart)
    seen: dict[str, Sample] = {}
    for sample in found.samples:
        if (other := seen.setdefault(composed(sample.key), sample)) is not sample:
            raise MgzooError(f"duplicate key {sample.key}: {other.name} and {sample.name}", remedy="rename one of them", origin=str(root))
    return found


def _lists_and_pairs(found: Scan, root: Path, entries: list[Entry], media, caption_key: str, captioned: bool, keep, held_out: set[str]) -> None:
    """The samples of a folder of media."""
    by_name = {normal_name(entry.name): entry for entry in entries}
    listed = _tables(root, entries, caption_key)
    rest = []
    for entry in entries:
        if normal_name(entry.name) in held_out:
            found.left_out.add("held-out lists", entry.name)
        elif entry.name not in listed.taken:
            rest.append(entry)
    if missing := sorted(name for name in listed.fields if name not in by_name):
        table, files_ = listed.where[missing[0]].rpartition(":")[0], "1 file that is" if len(missing) == 1 else f"{len(missing)} files that are"
        found.problems.append(MgzooError(f"{Path(table).name} lists {files_} missing, the first is {missing[0]}", remedy="add the missing files, or remove their lines", origin=table))
    if strange := [name for name in listed.fields if name in by_name and by_name[name].suffix not in media]:
        for name in strange:
            found.problems.append(MgzooError("listed, but not a supported media file", remedy="remove its line", origin=by_name[name].shown))
    _pair(found, rest, media, listed, caption_key, captioned, keep, _texts_of_folder)


def _tables(root: Path, entries: list[Entry], caption_key: str) -> _Listed:
    """The entries of all tables in the tree. Names are relative to the folder of the table."""
    listed = _Listed()
    names = {entry.name: entry for entry in entries}
    for entry in entries:
        folder, slash, last = entry.name.rpartition("/")
        last, lines = last.lower(), None
        if last in TABLES:
            lines = captions.read_table(entry.file)
        elif last in MEDIA_LISTS and (prompts := next((names[folder + slash + one] for one in PROMPTS if folder + slash + one in names), None)):
            lines = captions.read_line_pairs(entry.file, prompts.file, caption_key)
            listed.taken.add(prompts.name)
        for name, where, fields in lines or ():
            full = _relative(name, root, folder)
            if listed.fields.setdefault(full, fields) != fields:
                raise MgzooError(f"{name} has two different entries: here and at {listed.where[full]}", remedy="remove one of the two", origin=where)
            listed.where.setdefault(full, where)
        if lines is not None:
            listed.taken.add(entry.name)
    return listed


def _relative(name: str, root: Path, folder: str) -> str:
    """The normal name, from the data's folder, of a file as a table in `folder` names it."""
    plain = normal_name(name)
    if Path(plain).is_absolute():
        top = normal_name(root.resolve().as_posix())
        return plain.removeprefix(top + "/")
    return normal_name(f"{folder}/{plain}") if folder else plain


def _texts_of_folder(entry: Entry) -> bytes:
    return entry.file.read_bytes()


def _texts_of_shard(shard: Path, members: list[Entry]) -> Callable[[Entry], bytes]:
    """Content of a shard's sidecars, read in one pass."""
    held: dict[str, bytes] = {}
    with open(shard, "rb") as opened:
        for entry in members:
            if entry.suffix in TEXTS:
                opened.seek(entry.offset)
                held[entry.name] = opened.read(entry.size)
    return lambda entry: held[entry.name]


def _pair(found: Scan, entries: list[Entry], media, listed: _Listed, caption_key: str, captioned: bool, keep, content, webdataset: bool = False) -> None:
    """Pair each media file with its sidecars: ``0001.v2.txt`` or ``0001.v2.mp4.txt`` for ``0001.v2.mp4``. A key ends at the last dot; in a
    shard, a medium without any takes those of its key as WebDataset has it, to the first dot: ``0001.caption.txt`` for ``0001.video.mp4``."""
    beside: dict[str, list[Entry]] = {}
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.suffix in TEXTS:
            beside.setdefault(composed(entry.stem) + entry.suffix, []).append(entry)
        if webdataset and (entry.suffix in TEXTS or entry.suffix in media):
            groups.setdefault(_first_dot(entry.name), []).append(entry)
    used: set[str] = set()
    for entry in entries:
        if entry.suffix not in media:
            continue
        sidecars = [one for name in (entry.stem, entry.name) for suffix in TEXTS for one in beside.get(composed(name) + suffix, ())]
        if not sidecars and webdataset:
            sidecars = _of_group(groups[_first_dot(entry.name)], media)
        used.update(one.name for one in sidecars)
        try:
            if (sample := _described(entry, sidecars, listed.fields.get(normal_name(entry.name)), content, caption_key, captioned, keep)) is not None:
                found.samples.append(sample)
        except MgzooError as error:
            found.problems.append(error)
    _rest(found, [entry for entry in entries if entry.suffix not in media and entry.name not in used])


def _of_group(group: list[Entry], media) -> list[Entry]:
    """The sidecars of a WebDataset sample that holds one medium; none where it is not clear which is whose."""
    texts = [[entry for entry in group if entry.suffix == suffix] for suffix in TEXTS]
    if sum(entry.suffix in media for entry in group) != 1 or any(len(some) > 1 for some in texts):
        return []
    return [entry for some in texts for entry in some]


def _first_dot(name: str) -> str:
    """WebDataset's key: the name up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _described(entry: Entry, sidecars: list[Entry], line: dict[str, Any] | None, content, caption_key: str, captioned: bool, keep) -> Sample | None:
    """A media file with its caption and fields. Raises MgzooError for a missing or invalid caption."""
    fields, text, said = dict(line or {}), None, False
    for sidecar in sidecars:
        try:
            words = captions.decode_text(content(sidecar))
            if sidecar.suffix == ".txt":
                if text is not None and text.strip() != words.strip():
                    raise TwoCaptions
                text = words
            else:
                more = json.loads(words)
                if not isinstance(more, dict):
                    raise ValueError("not a JSON object")
                if said and more.get(caption_key) not in (None, fields[caption_key]):
                    raise TwoCaptions
                if more.get(caption_key) is not None:  # a sidecar's own caption counts, a table's only where there is no .txt
                    said = True
                fields.update({name: value for name, value in more.items() if name != caption_key or value is not None})
        except TwoCaptions:
            names = " and ".join(one.name.rpartition("/")[2] for one in sidecars if one.suffix == sidecar.suffix)
            raise MgzooError(f"it has two different captions, in {names}", remedy="remove one of them", origin=entry.shown) from None
        except (ValueError, RecursionError) as error:
            reason = f": {error}" if isinstance(error, captions.NotText) else ""
            raise MgzooError(f"its {sidecar.suffix} cannot be read{reason}", remedy="use UTF-8 text, or a JSON object with the caption as text", origin=entry.shown) from None
    if keep is not None and not keep(fields):
        return None
    if text is not None and not said:
        fields.pop(caption_key, None)
    try:
        caption, source = captions.caption_of(fields, text, caption_key)
    except ValueError as error:
        raise MgzooError(f"its {'.json' if said else 'line of the table'} cannot be read: {error}", remedy="write the caption as text", origin=entry.shown) from None
    if captioned and caption is None:
        what = "no caption" if not sidecars and line is None else f"no caption: no .txt, and no field {caption_key!r}"
        raise MgzooError(what, remedy=REMEDY, origin=entry.shown)
    if captioned and not caption:
        into = "a line of its own" if not sidecars else "its " + (".txt" if source == ".txt" else f".json as {source}")
        raise MgzooError("the caption is empty", remedy=f"write one into {into}", origin=entry.shown)
    if not entry.size:
        raise MgzooError("the file is empty", remedy="create it again or remove it", origin=entry.shown)
    extra = {name: value for name, value in fields.items() if name != caption_key}
    return Sample(key=entry.stem, name=entry.shown, file=entry.file, offset=entry.offset, size=entry.size, caption=caption or "", fields=extra)


def _rest(found: Scan, entries: list[Entry]) -> None:
    """Log the skipped files with reasons."""
    for entry in entries:
        last = entry.name.rpartition("/")[2]
        if last.startswith("__") and last.partition(".")[0].endswith("__"):  # WebDataset's notes on a shard
            found.left_out.add("documents", entry.shown)
        elif files.is_about(entry.name):
            found.left_out.add("documents", entry.name)
        elif entry.suffix in TEXTS:
            found.left_out.add("captions without a media file", entry.name)
        elif entry.suffix in files.SHARDS or entry.name.lower().endswith(files.PACKED):
            found.left_out.add("archives are ignored", entry.name)
        else:
            found.left_out.add(NO_MEDIA, entry.name)


def _beside_shards(found: Scan, entries: list[Entry], own: set[Path], media, held_out: set[str]) -> None:
    """The other files in a folder of shards."""
    for entry in entries:
        if entry.file in own:
            continue
        if normal_name(entry.name) in held_out:
            found.left_out.add("held-out lists", entry.name)
        elif entry.suffix in media:
            found.left_out.add("media files next to shards are ignored", entry.name)
        elif entry.suffix in files.SHARDS or entry.name.lower().endswith(files.PACKED):
            found.left_out.add("archives are ignored", entry.name)
        elif files.is_about(entry.name) or entry.suffix == ".txt":
            found.left_out.add("documents", entry.name)
        else:
            found.left_out.add(NO_MEDIA, entry.name)
