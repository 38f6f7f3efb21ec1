"""`video.clips.v1`: captioned clips from a folder or from tar shards, as a resumable stream.

The stream is one endless sequence of micro-batches that depends on the seed and the batch size alone; rank r of W takes the
micro-batches m with m % W == r. Where a stream stands is therefore one number, good for any number of ranks.
"""

from __future__ import annotations

import bisect
import json
import logging
import math
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from mgzoo import media
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo_video.configs import ClipsConfig

MEDIA = (*media.VIDEO, *media.IMAGES)
CUT = "clips 2"  # part of every digest; raise it when the same bytes and config come out as other pixels
log = logging.getLogger("mgzoo")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one clip lies, and what is known of it without decoding.

    file: the medium or the shard that holds it; offset, size: its bytes there. facts: frames, height, width and fps of the medium.
    """

    key: str
    name: str
    file: Path
    offset: int
    size: int
    caption: str
    facts: dict[str, Any]
    extra: dict[str, Any]

    def bytes(self) -> bytes:
        with open(self.file, "rb") as opened:
            opened.seek(self.offset)
            return opened.read(self.size)


def locate(path: str, option: str = "path") -> Path:
    """The file or folder of this name: absolute, in the working directory, or in the repository that this package was installed from.

    option: the one of `ClipsConfig` that asks for it, named in the error where there is none.
    """
    tried = [Path(path).expanduser()]
    if not tried[0].is_absolute():
        tried += [parent / path for parent in Path(__file__).resolve().parents]
    for candidate in tried:
        if candidate.exists():
            return candidate
    what, wanted = ("held-out list", "files that list held-out keys") if option == "held_out" else ("data at", "a folder or a shard")
    raise MgzooError(f"there is no {what} {path}", remedy=f"set data.config.{option} to {wanted}; looked in {Path.cwd()} and beside mgzoo_video", origin="video.clips.v1")


def scan(path: Path, caption_key: str) -> tuple[list[Source], list[MgzooError]]:
    """Every clip of a folder or shard in order of name, and what is wrong with those that are none."""
    shards = [path] if path.suffix == ".tar" else sorted(path.glob("*.tar"))
    sources, problems = [], []
    for name, text, source in _in_shards(shards, problems) if shards else _in_folder(path):
        try:
            sources.append(_described(name, text, source, caption_key))
        except MgzooError as error:
            problems.append(error)
    seen: dict[str, Source] = {}
    for source in sources:
        if source.key in seen:
            raise MgzooError(f"two clips are called {source.key}: {seen[source.key].name} and {source.name}", remedy="rename one of them", origin=str(path))
        seen[source.key] = source
    return sources, problems


def _in_shards(shards: Sequence[Path], problems: list[MgzooError]) -> Iterator[tuple[str, tuple[str, bytes] | None, tuple]]:
    """(name, sidecar, (key, file, offset, size)) of every medium in these shards, from one pass over the headers of each."""
    for shard in shards:
        with open(shard, "rb") as opened:
            members = _members(shard, opened, problems)
            sidecars: dict[str, tuple[str, bytes]] = {}
            for member in members:
                key, _, suffix = member.name.rpartition(".")
                if suffix in ("json", "txt"):
                    opened.seek(member.offset_data)
                    sidecars[key] = (suffix, opened.read(member.size))
        for member in members:
            key, _, suffix = member.name.rpartition(".")
            if f".{suffix.lower()}" in MEDIA:
                yield f"{shard}/{member.name}", sidecars.get(key), (key, shard, member.offset_data, member.size)


def _members(shard: Path, opened, problems: list[MgzooError]) -> list[tarfile.TarInfo]:
    """The whole members of a shard; where it is cut off or damaged, those before that place, and a problem."""
    end, members, reason = shard.stat().st_size, [], None
    try:
        with tarfile.open(fileobj=opened) as tar:
            for member in tar:
                if member.offset_data + member.size > end:
                    reason = "the shard ends inside it"
                    break
                members.append(member)
            else:
                opened.seek(members[-1].offset_data + math.ceil(members[-1].size / tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE if members else 0)
                if any(opened.read(tarfile.BLOCKSIZE)):  # tarfile takes a damaged header for the end
                    reason = "what follows it is no tar header"
    except tarfile.ReadError as error:
        reason = str(error)
    if reason:
        last = members[-1].name if members else None
        if reason.startswith("the shard ends"):
            last = member.name
        where = f" at {last}" if last else ""
        problems.append(MgzooError(f"the shard is damaged{where}: {reason}", remedy="copy it again", origin=str(shard)))
    return [member for member in members if member.isfile()]


def _in_folder(path: Path) -> Iterator[tuple[str, tuple[str, bytes] | None, tuple]]:
    """The same for a folder of media, each with a .json or .txt beside it, or all in captions.jsonl."""
    listed: dict[str, bytes] = {}
    if (table := path / "captions.jsonl").is_file():
        for number, line in enumerate(table.read_bytes().splitlines(), 1):
            try:
                listed[json.loads(line)["file"]] = line
            except (ValueError, KeyError, TypeError):
                raise MgzooError("this line is not a JSON object with `file` and a caption", remedy='write {"file": "rabbit.mp4", "caption": "…"}', origin=f"{table}:{number}") from None
    if not path.is_dir():
        raise MgzooError("this is neither a folder nor a .tar shard", remedy="set data.config.path to one", origin=str(path))
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() not in MEDIA or not file.is_file():
            continue
        name = file.relative_to(path).as_posix()
        sidecar = ("json", listed[name]) if name in listed else None
        for suffix in ("txt", "json"):
            if (beside := file.with_suffix(f".{suffix}")).is_file():
                sidecar = (suffix, beside.read_bytes())
        yield str(file), sidecar, (name.removesuffix(file.suffix), file, 0, file.stat().st_size)


def _described(name: str, sidecar: tuple[str, bytes] | None, where: tuple, caption_key: str) -> Source:
    key, file, offset, size = where
    if sidecar is None:
        raise MgzooError("there is no caption", remedy="put a .txt or .json of the same name beside it", origin=name)
    suffix, text = sidecar
    try:
        fields = json.loads(text) if suffix == "json" else {caption_key: text.decode()}
        caption = fields.get(caption_key, "").strip()
    except (ValueError, AttributeError):
        raise MgzooError(f"its .{suffix} cannot be read", remedy="write UTF-8 text, or a JSON object with the caption as text", origin=name) from None
    if not caption:
        raise MgzooError("the caption is empty", remedy=f"write one into its .{suffix}" + (f" as {caption_key!r}" if suffix == "json" else ""), origin=name)
    source = Source(key=key, name=name, file=file, offset=offset, size=size, caption=caption, facts={}, extra={k: v for k, v in fields.items() if k != caption_key})
    if not size:
        raise MgzooError("the file is empty", remedy="make it again or leave it out", origin=name)
    known = {fact: fields.get(fact) for fact in ("frames", "height", "width", "fps")}
    if not all(isinstance(value, (int, float)) and value > 0 for value in known.values()):
        probed = media.probe(file if size == file.stat().st_size else source.bytes(), name)
        if not probed["frames"]:
            raise MgzooError("there is no video stream in it", remedy="leave it out", origin=name)
        known = {fact: probed[fact] for fact in known}
    source.facts.update(known)
    return source


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What is taken of a clip: a size (frames, height, width), the indices of the frames and their rate.

    drift: a single frame drawn anew each epoch, in place of `indices`.
    """

    size: tuple[int, int, int]
    indices: tuple[int, ...]
    fps: float
    drift: bool = False


def cut_of(config: ClipsConfig, source: Source) -> Cut:
    """The nearest of the config's sizes: the most frames the clip can fill, then the shape closest to its own, then the largest.

    Raises MgzooError for a clip with too few frames for every size.
    """
    facts, wanted = source.facts, config.sizes()
    native = facts["fps"] or config.fps or 1.0  # a picture has no rate
    step = 1.0 if config.fps is None else native / config.fps
    if step < 1:
        raise MgzooError(f"it has {native:g} frames per second, {config.fps:g} are asked for", remedy="lower data.config.fps, or leave the clip out (on_error: skip)", origin=source.name)
    have = int((facts["frames"] - 1) / step + 1e-6) + 1
    fitting = [size for size in wanted if size[0] <= have]
    if not fitting:
        least = min(size[0] for size in wanted)
        raise MgzooError(
            f"it has {have} frame{'s' if have > 1 else ''}" + (f" at {config.fps:g} frames per second" if config.fps else "") + f", {least} are asked for",
            remedy="lower data.config.frames, add a bucket of fewer frames, or leave the clip out (on_error: skip)",
            origin=source.name,
        )
    shape = facts["width"] / facts["height"]
    frames, height, width = min(fitting, key=lambda s: (-s[0], round(abs(math.log(s[2] / s[1] / shape)), 6), -s[1] * s[2]))
    size = (frames, height, width)
    if frames == 1:
        first = config.image_frame == "first"
        return Cut(size=size, indices=(0 if first else facts["frames"] // 2,), fps=native, drift=config.image_frame == "random" and facts["frames"] > 1)
    if config.cut == "spread":
        return Cut(size=size, indices=tuple(i * facts["frames"] // frames for i in range(frames)), fps=native * frames / facts["frames"])
    start = (facts["frames"] - 1 - (frames - 1) * step) / 2
    return Cut(size=size, indices=tuple(int(start + i * step + 1e-6) for i in range(frames)), fps=native / step)


class Clips:
    """A stream of captioned clips, `mgzoo.parts.Data`. seed: of the order. rank, world: this process and how many there are."""

    def __init__(self, config: ClipsConfig, seed: int = 0, rank: int = 0, world: int = 1):
        self.config, self.seed, self.rank, self.world = config, seed, rank, world
        self.root = locate(config.path)
        found, problems = scan(self.root, config.caption_key)
        self.sources, self.cuts = [], []
        for source in found:
            try:
                self.cuts.append(cut_of(config, source))
                self.sources.append(source)
            except MgzooError as error:
                problems.append(error)
        self._report(problems, len(found))
        known = {source.key for source in found}
        apart = self._held_out_keys(known)
        self.validation = sorted((i for i, s in enumerate(self.sources) if s.key in apart), key=lambda i: blake3(self.sources[i].key.encode()).digest())
        self.training = [i for i, s in enumerate(self.sources) if config.split == "all" or s.key not in apart]
        if not self.training:
            raise MgzooError(f"no clip is left to train on of {len(found)} found", remedy="check data.config.path and held_out", origin=str(self.root))
        sizes = config.sizes()
        groups = [self.training] if config.mix else [[i for i in self.training if self.cuts[i].size == size] for size in sizes]
        self.groups = [group for group in groups if group]
        self.group_of = {i: g for g, group in enumerate(self.groups) for i in group}
        self.position = {"samples": 0, "size": 1}
        self._digests: dict[int, str] = {}
        self._sound: dict[int, bool] = {}
        self._kept: dict[str, Tensor] = {}
        self._room = config.keep_mb * 1_000_000
        self._order = lru_cache(maxsize=8)(self._shuffled)

    def __len__(self) -> int:
        """Clips that are trained on."""
        return len(self.training)

    def held_out(self) -> list[Clip]:
        """The clips of the held-out lists, in an order that is fixed and mixed: the first n are a fair sample."""
        return [self._clip(i, epoch=0) for i in self.validation if self._usable(i) == i]

    def batches(self, size: int) -> Iterator[list[Clip]]:
        """Endless micro-batches of `size` clips from where the stream stands, never mixing sizes unless `mix` says so."""
        assert size > 0
        start = self.position["samples"] // size
        for number, batch in enumerate(self._sequence(size, start), start):
            if (number - start) % self.world == self.rank:
                clips = [self._clip(self._usable(i), epoch) for i, epoch in batch]
                self.position = {"samples": (number - self.rank + self.world) * size, "size": size}
                yield clips

    def state_dict(self) -> dict:
        """epoch: times all clips have been seen. position: micro-batches that all ranks together have taken. size: of those."""
        samples, size = self.position["samples"], self.position["size"]
        return {"epoch": samples // len(self.training), "position": samples // size, "size": size}

    def load_state_dict(self, state: dict) -> None:
        """Stand where `state` was taken; with another batch size, at the nearest micro-batch that repeats rather than skips."""
        self.position = {"samples": state["position"] * state["size"], "size": state["size"]}

    # order

    def _shuffled(self, epoch: int) -> list[int]:
        """All trained clips in the order of one epoch."""
        if not self.config.shuffle:
            return self.training
        seed = int.from_bytes(blake3(f"clips {self.seed} {epoch}".encode()).digest(length=7), "little")
        return [self.training[p] for p in torch.randperm(len(self.training), generator=torch.Generator().manual_seed(seed)).tolist()]

    def _sequence(self, size: int, start: int) -> Iterator[list[tuple[int, int]]]:
        """Micro-batches from number `start` on, as (clip, epoch) pairs.

        Each group is a stream of its own, its epochs end to end; a micro-batch comes when its group's stream has filled it. How many
        came before an epoch is thus known without walking there.
        """

        lengths = [len(group) for group in self.groups]

        def before(epoch: int) -> int:
            return sum(epoch * n // size for n in lengths)

        epoch = bisect.bisect_right(range((start + 1) * size + 1), start, key=before) - 1
        waiting: list[list[tuple[int, int]]] = [self._tail(g, epoch, epoch * n % size) for g, n in enumerate(lengths)]
        number = before(epoch)
        while True:
            for i in self._order(epoch):
                queue = waiting[self.group_of[i]]
                queue.append((i, epoch))
                if len(queue) == size:
                    if number >= start:
                        yield list(queue)
                    number += 1
                    queue.clear()
            epoch += 1

    def _tail(self, group: int, epoch: int, count: int) -> list[tuple[int, int]]:
        """The last `count` entries of a group's stream before `epoch`."""
        tail: list[tuple[int, int]] = []
        while len(tail) < count:
            epoch -= 1
            tail = [(i, epoch) for i in self._order(epoch) if self.group_of[i] == group] + tail
        return tail[len(tail) - count :]

    # clips

    def _clip(self, index: int, epoch: int) -> Clip:
        source, cut = self.sources[index], self.cuts[index]
        indices = cut.indices
        if cut.drift:
            drawn = blake3(f"frame {self.seed} {epoch} {source.key}".encode()).digest(length=8)
            indices = (int.from_bytes(drawn, "little") % source.facts["frames"],)
        _, height, width = cut.size
        if index not in self._digests:
            self._digests[index] = blake3(source.bytes()).hexdigest()
        digest = blake3(json.dumps([CUT, self._digests[index], indices, height, width, round(cut.fps, 6)]).encode()).hexdigest()
        return Clip(
            key=source.key, digest=digest, caption=source.caption, frames=len(indices), height=height, width=width, fps=cut.fps,
            load=partial(self._load, index, indices, digest), extra=source.extra,
        )  # fmt: skip

    def _load(self, index: int, indices: tuple[int, ...], digest: str) -> Tensor:
        if digest in self._kept:
            return self._kept[digest]
        source, (_, height, width) = self.sources[index], self.cuts[index].size
        found = media.read_bytes(source.bytes(), source.name, sorted(set(indices)), cover=(height, width))
        video = media.fit(found.video, height, width)
        if self._room >= video.numel():
            self._room -= video.numel()
            self._kept[digest] = video
        return video

    def _usable(self, index: int) -> int:
        """The clip itself, or with `on_error: skip` the next one of its group that decodes, so that every rank finds the same."""
        if self.config.on_error == "raise":
            return index
        group = self.groups[self.group_of[index]] if index in self.group_of else self.validation
        start = group.index(index)
        for candidate in group[start:] + group[:start]:
            if candidate not in self._sound:
                self._sound[candidate] = self._decodes(candidate)
            if self._sound[candidate]:
                return candidate
        raise MgzooError("none of these clips can be decoded", remedy="check the files", origin=str(self.root))

    def _decodes(self, index: int) -> bool:
        try:
            media.read_bytes(self.sources[index].bytes(), self.sources[index].name, range(self.sources[index].facts["frames"]))
        except MgzooError as error:
            log.warning("left out: %s", error)
            return False
        return True

    # what is wrong

    def _report(self, problems: list[MgzooError], found: int) -> None:
        if not problems:
            return
        if self.config.on_error == "raise":
            if len(problems) == 1:
                raise problems[0]
            shown = "\n".join(str(problem) for problem in problems[:10])
            more = f"\nand {len(problems) - 10} more" if len(problems) > 10 else ""
            raise MgzooError(f"{len(problems)} clips cannot be used:\n{shown}{more}", remedy="mend them, or set data.config.on_error: skip", origin=str(self.root))
        for problem in problems[:10]:
            log.warning("left out: %s", problem)
        log.warning("%s: %d clips left out, %d used", self.root, len(problems), len(self.sources))

    def _held_out_keys(self, known: set[str]) -> set[str]:
        keys: set[str] = set()
        folder = self.root if self.root.is_dir() else self.root.parent
        for name in self.config.held_out:
            file = folder / name if (folder / name).is_file() else locate(name, "held_out")
            listed = [line.split("\t")[0].strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")]
            if strange := [key for key in listed if key not in known]:
                raise MgzooError(f"{len(strange)} held-out keys are no clip of this data, the first is {strange[0]}", remedy="mend the list, or drop it from data.config.held_out", origin=str(file))
            keys.update(listed)
        return keys
