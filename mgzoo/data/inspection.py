"""Inspection of media files before the first training step, with cached results.

Sidecars may declare frames, height, width and fps; they are used until the file is decoded once. Results are cached in
the cache home by file name, size and modification time. No torch.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from mgzoo import __version__, media, storage
from mgzoo.data.scan import Sample
from mgzoo.spec import MgzooError

FACTS = ("frames", "height", "width", "fps")
LOOK_SECONDS = 60.0
"""Time limit in seconds for the inspection at the start; remaining files are inspected when used, and at the next start (our choice)."""
CHECKS = 2  # raise it when a medium that was found good may be found bad, or the other way
log = logging.getLogger("mgzoo")


def claimed_facts(sample: Sample) -> dict[str, float] | None:
    """Frames, height, width and fps of the sidecar; None unless all four are positive numbers."""
    known = {name: sample.fields.get(name) for name in FACTS}
    good = all(isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9 for value in known.values())
    return known if good and all(float(known[name]).is_integer() for name in FACTS[:3]) else None


def same_rate(a: float | None, b: float | None) -> bool:
    """Whether two frame rates are equal within the tolerance."""
    return a == b or bool(a and b and media.same_rate(a, b))


def disagreement(claimed: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Differences between a sidecar and its media file, as text; empty without any. The rate of a single picture is ignored."""
    differ = [name for name in FACTS[:3] if int(claimed[name]) != found[name]]
    if found["frames"] != 1 and not same_rate(claimed["fps"], found["fps"]):
        differ.append("fps")
    return ", ".join(f"{name} {claimed[name]:g} (it has {found[name] or 0:g})" for name in differ)


def decode_whole(data: bytes, name: str, claimed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Decode all frames of a media file once -> its facts. claimed: facts of the sidecar, returned if correct.

    Raises MgzooError for a damaged file, or one without frames.
    """
    facts = probed(data, name, decode=True)
    return dict(claimed) if claimed is not None and not disagreement(claimed, facts) else facts


def probed(source: bytes | Path, name: str, decode: bool = False) -> dict[str, Any]:
    """`media.probe` for video and images. Raises MgzooError for other media."""
    facts = media.probe(source, name, decode=decode, sound=False)
    if not facts["frames"]:
        raise MgzooError("the file has no video stream", remedy="remove it", origin=name)
    return {name: facts[name] for name in FACTS}


class Inspections:
    """Cached inspection results of one data set.

    root: of the data set. Entries older than their file are invalid. An unwritable cache home is no error: the results are
    not cached.
    """

    def __init__(self, root: Path):
        name = blake3(str(root.resolve()).encode()).hexdigest()[:32]
        self.path = storage.output_cache() / "data" / f"{name}.json"
        self._places: dict[Path, tuple[str, list[int]]] = {}
        self._made: dict[str, dict] = {}
        self._held: dict[str, dict] | None = None

    def ask(self, question: str, sample: Sample, answer: Callable[[], Any]) -> Any:
        """The result of `answer`, computed once per version of the file. A raised MgzooError is cached, too."""
        entry = self._entry(sample)
        if question not in entry:
            try:
                entry[question] = {"is": answer()}
            except MgzooError as error:
                entry[question] = {"error": [error.what, error.remedy]}
            self._made[self._name(sample)] = entry
        held = entry[question]
        if "error" in held:
            raise MgzooError(held["error"][0], remedy=held["error"][1], origin=sample.name)
        return held["is"]

    def knows(self, question: str, sample: Sample) -> bool:
        """Whether the result is cached."""
        return question in self._entry(sample)

    def save(self) -> None:
        """Write new results to the cache."""
        if not self._made:
            return
        whole = {**self._read(), **self._made}
        try:
            storage.atomic_write(self.path, json.dumps({"version": self._version(), "media": whole}), durable=False)
        except OSError as error:
            log.debug("the inspection results are not cached: %s", error)
        self._held, self._made = whole, {}

    def _name(self, sample: Sample) -> str:
        return f"{self._place(sample.file)[0]}:{sample.offset}:{sample.size}"

    def _entry(self, sample: Sample) -> dict:
        if self._held is None:
            self._held = self._read()
        name, stamp = self._name(sample), self._place(sample.file)[1]
        entry = self._made.get(name) or self._held.get(name)
        if not isinstance(entry, dict) or entry.get("stamp") != stamp:
            entry = {"stamp": stamp}
            self._held[name] = entry
        return entry

    def _place(self, file: Path) -> tuple[str, list[int]]:
        """The real path of a file, with its size and modification time."""
        if file not in self._places:
            status = file.stat()
            self._places[file] = str(file.resolve()), [status.st_size, status.st_mtime_ns, status.st_ino]
        return self._places[file]

    def _read(self) -> dict[str, dict]:
        try:
            whole = json.loads(self.path.read_text(encoding="utf-8"))
            return whole["media"] if whole["version"] == self._version() and isinstance(whole["media"], dict) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    @staticmethod
    def _version() -> list:
        import av
        import PIL

        return [CHECKS, __version__, av.__version__, PIL.__version__]


def look_at(inspections: Inspections, question: str, samples: Sequence[Sample], answer: Callable[[int], Any], *, seconds: float = LOOK_SECONDS) -> dict[int, Any]:
    """Inspect many media files -> result or MgzooError by index, within the time limit; the rest is logged.

    answer: index of a sample -> result; it may raise MgzooError.
    """
    found: dict[int, Any] = {}
    until, told, late = time.monotonic() + seconds, time.monotonic() + 3, 0
    for index, sample in enumerate(samples):
        if not inspections.knows(question, sample):
            if time.monotonic() > until:
                late += 1
                continue
            if told and time.monotonic() > told:
                log.info("checking %d media files, once; the results are cached", len(samples))
                told = 0
        try:
            found[index] = inspections.ask(question, sample, lambda index=index: answer(index))
        except MgzooError as error:
            found[index] = error
    inspections.save()
    if late:
        log.warning("%d of %d media files not checked within %g s: they are checked when used, and at the next start", late, len(samples), seconds)
    return found


def raise_or_tell(problems: Sequence[MgzooError], on_error: str, root: Path, *, noun: str = "clip", used: int = 0, can_skip: bool = True) -> None:
    """Raise MgzooError with up to ten of these problems or, with `on_error` ``skip``, log them.

    can_skip: whether the config has `on_error`.
    """
    if not problems:
        return
    if on_error == "raise":
        if len(problems) == 1:
            raise problems[0]
        shown = "\n".join(str(problem) for problem in problems[:10])
        more = f"\nand {len(problems) - 10} more" if len(problems) > 10 else ""
        raise MgzooError(f"{len(problems)} {noun}s cannot be used:\n{shown}{more}", remedy="repair them, or " + ("set data.config.on_error: skip" if can_skip else "remove them"), origin=str(root))
    for problem in problems[:10]:
        log.warning("skipped: %s", problem)
    log.warning("%s: %d %ss skipped, %d used", root, len(problems), noun, used)


def stand_in(index: int, group: Sequence[int], good: Callable[[int], bool], root: Path) -> int:
    """The sample itself if usable, else the next usable one of its group: the same on every rank without communication.

    Raises MgzooError if none is usable.
    """
    if good(index):
        return index
    start = group.index(index)
    for candidate in (*group[start + 1 :], *group[:start]):
        if good(candidate):
            return candidate
    raise MgzooError(f"none of these {len(group)} media files can be decoded", remedy="check the files", origin=str(root))
