"""`video.clips.v1`: captioned clips from a folder or from tar shards, as a resumable stream (`mgzoo.data.sampler`)."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from blake3 import blake3
from torch import Tensor

from mgzoo import data, media
from mgzoo.data.sampler import EpochOrder, Stream, derived_seed
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo_video.configs import ClipsConfig

ORIGIN = "video.clips.v1"
MEDIA = (*data.VIDEO, *data.IMAGES)
CUT = "clips 3"  # part of every digest; raise it when the same bytes and config come out as other pixels
log = logging.getLogger("mgzoo")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source(data.Sample):
    """A sample, and what is known of it. facts: frames, height, width and fps of the medium. claimed: they are its sidecar's and were not looked at."""

    facts: Mapping[str, Any]
    claimed: bool


def described(sample: data.Sample, inspections: data.Inspections) -> Source:
    """A sample with its facts: its sidecar's where that says them all, else what the medium says, which is remembered. Raises MgzooError."""
    facts = data.claimed_facts(sample)
    claimed = facts is not None
    if not claimed:
        whole = sample.size == sample.file.stat().st_size
        facts = inspections.ask("facts", sample, lambda: data.probed(sample.file if whole else sample.bytes(), sample.name))
    fields = {name: getattr(sample, name) for name in data.Sample.__dataclass_fields__}
    return Source(**fields, facts=facts, claimed=claimed)


@dataclass(frozen=True, kw_only=True)
class FrameSelection:
    """What is taken of a clip: a size (frames, height, width), the indices of the frames and their rate.

    random_frame: a single frame drawn anew each epoch, in place of `indices`.
    """

    size: tuple[int, int, int]
    indices: tuple[int, ...]
    fps: float
    random_frame: bool = False


def select_frames(config: ClipsConfig, source: Source) -> FrameSelection:
    """The nearest of the config's sizes: the most frames the clip can fill, then the shape closest to its own, then the largest.

    Raises MgzooError for a clip with too few frames for every size.
    """
    facts, wanted = source.facts, config.sizes()
    native = facts["fps"] or config.fps or 1.0  # a picture has no rate
    step = 1.0 if config.fps is None else native / config.fps
    if data.same_rate(native, config.fps):
        step = 1.0
    if step < 1:
        raise MgzooError(
            f"it has {native:g} frames per second, needed: {config.fps:g}",
            remedy="lower data.config.fps, or skip the clip (on_error: skip)",
            origin=source.name,
        )
    have = int((facts["frames"] - 1) / step + 1e-6) + 1
    fitting = [size for size in wanted if size[0] <= have]
    if not fitting:
        least = min(size[0] for size in wanted)
        raise MgzooError(
            f"it has {have} frame{'s' if have > 1 else ''}" + (f" at {config.fps:g} frames per second" if config.fps else "") + f", needed: {least}",
            remedy="lower data.config.frames, add a bucket with fewer frames, or skip the clip (on_error: skip)",
            origin=source.name,
        )
    shape = facts["width"] / facts["height"]
    frames, height, width = min(fitting, key=lambda s: (-s[0], round(abs(math.log(s[2] / s[1] / shape)), 6), -s[1] * s[2]))
    size = (frames, height, width)
    if frames == 1:
        first = config.image_frame == "first"
        return FrameSelection(
            size=size, indices=(0 if first else facts["frames"] // 2,), fps=native, random_frame=config.image_frame == "random" and facts["frames"] > 1
        )
    if config.sampling == "uniform":
        return FrameSelection(size=size, indices=tuple(i * facts["frames"] // frames for i in range(frames)), fps=native * frames / facts["frames"])
    start = (facts["frames"] - 1 - (frames - 1) * step) / 2
    return FrameSelection(size=size, indices=tuple(int(start + i * step + 1e-6) for i in range(frames)), fps=native / step)


class Clips(Stream):
    """A stream of captioned clips, `mgzoo.parts.Data`. seed: of the order. rank, world: this process and how many there are."""

    def __init__(self, config: ClipsConfig, seed: int = 0, rank: int = 0, world: int = 1):
        super().__init__(rank, world)
        self.config, self.seed = config, seed
        self.root = data.find_data(config.path, beside=__file__, origin=ORIGIN)
        self._inspections = data.Inspections(self.root)
        found = data.scan_data(self.root, MEDIA, caption_key=config.caption_key, held_out=config.held_out)
        found.left_out.tell(self.root)
        self._digests: dict[str, str] = {}
        self._good: dict[str, bool] = {}
        self._decoded = data.DecodedCache(config.keep_mb * 1_000_000)
        self._looked = False
        problems, sources = list(found.problems), []
        for sample in found.samples:
            try:
                sources.append(described(sample, self._inspections))
            except MgzooError as error:
                problems.append(error)
        self._inspections.save()
        self._arrange(sources, problems)

    def _arrange(self, sources: Sequence[Source], problems: Sequence[MgzooError]) -> None:
        """Select the frames of every clip, part what is held out, and set up the order. Raises MgzooError for problems, or with `on_error: skip` tells them."""
        config, problems = self.config, list(problems)
        self.sources, self.selections = [], []
        for source in sources:
            try:
                self.selections.append(select_frames(config, source))
                self.sources.append(source)
            except MgzooError as error:
                problems.append(error)
        data.raise_or_tell(problems, config.on_error, self.root, used=len(self.sources))
        self.left_out = len(problems)
        apart = data.held_out_keys(config.held_out, self.root, {source.key for source in sources}, strict=not problems, beside=__file__, origin=ORIGIN)
        self.training, self.validation = data.split_keys([source.key for source in self.sources], apart, config.split)
        if not self.training:
            raise MgzooError(f"no training clips left of {len(sources)} found", remedy="check data.config.path and held_out", origin=str(self.root))
        groups = [] if config.mix else [[i for i in self.training if self.selections[i].size == size] for size in config.sizes()]
        seed = (lambda epoch: derived_seed(f"clips {self.seed} {epoch}")) if config.shuffle else None
        self._order = EpochOrder(self.training, seed, groups)

    def __len__(self) -> int:
        """Clips that are trained on."""
        return len(self.training)

    def epoch_length(self) -> int:
        """The same."""
        return len(self.training)

    def counts(self) -> dict[str, int]:
        """skipped: clips left out so far, with `on_error: skip`."""
        return {"skipped": self.left_out + sum(not good for good in self._good.values())}

    def held_out(self) -> list[Clip]:
        """The clips of the held-out lists, in an order that is fixed and mixed: the first n are a fair sample."""
        return [self._clip(i, epoch=0) for i in self.validation if self._usable(i) == i]

    def micro_batches(self, size: int, start: int) -> Iterator[list[tuple[int, int]]]:
        """(clip, epoch) pairs, never mixing sizes unless `mix` says so."""
        return self._order.micro_batches(size, start)

    def clips(self, drawn: list[tuple[int, int]]) -> list[Clip]:
        """Those clips, or what takes the place of bad ones."""
        return [self._clip(self._usable(i), epoch) for i, epoch in drawn]

    # clips

    def _clip(self, index: int, epoch: int) -> Clip:
        source, selection = self.sources[index], self.selections[index]
        indices = selection.indices
        if selection.random_frame:
            drawn = blake3(f"frame {self.seed} {epoch} {source.key}".encode()).digest(length=8)
            indices = (int.from_bytes(drawn, "little") % source.facts["frames"],)
        _, height, width = selection.size
        if source.key not in self._digests:
            self._digests[source.key] = blake3(source.bytes()).hexdigest()
        digest = blake3(json.dumps([CUT, self._digests[source.key], indices, height, width, round(selection.fps, 6)]).encode()).hexdigest()
        return Clip(
            key=source.key, digest=digest, caption=source.caption, frames=len(indices), height=height, width=width, fps=selection.fps,
            load=partial(self._load, index, indices, digest), extra=source.fields,
        )  # fmt: skip

    def _load(self, index: int, indices: tuple[int, ...], digest: str) -> Tensor:
        return self._decoded.get_or_compute(digest, partial(self._read, self.sources[index], indices, self.selections[index].size))

    def _read(self, source: Source, indices: tuple[int, ...], size: tuple[int, int, int]) -> Tensor:
        _, height, width = size
        found = media.read_bytes(source.bytes(), source.name, sorted(set(indices)), cover=(height, width))
        return media.fit(found.video, height, width)

    # what is wrong

    def begin(self) -> None:
        """Decode every clip once, and remember what was found: a bad one is told before the first step, not in the seventh."""
        if self._looked:
            return
        self._looked = True
        found = data.look_at(self._inspections, "pictures", self.sources, self._look)
        bad = {self.sources[i].key: error for i, error in found.items() if isinstance(error, MgzooError)}
        data.raise_or_tell(list(bad.values()), self.config.on_error, self.root, used=len(self.sources) - len(bad))
        self._good.update((source.key, source.key not in bad) for i, source in enumerate(self.sources) if i in found)
        wrong = [
            (s, replace(s, facts=found[i], claimed=False))
            for i, s in enumerate(self.sources)
            if isinstance(found.get(i), dict) and data.disagreement(s.facts, found[i])
        ]
        if wrong:
            said, true = wrong[0]
            log.warning("%s: %d clips differ from their sidecars, used as they are: %s declares %s%s", self.root, len(wrong), said.name,
                        data.disagreement(said.facts, true.facts), " …" if len(wrong) > 1 else "")  # fmt: skip
            before, true_of = self.left_out, {true.key: true for _, true in wrong}
            self._arrange([true_of.get(source.key, source) for source in self.sources], ())
            self.left_out += before

    def _look(self, index: int) -> dict[str, Any]:
        source = self.sources[index]
        return data.decode_whole(source.bytes(), source.name, source.facts)

    def _usable(self, index: int) -> int:
        """The clip itself, or with `on_error: skip` the next one of its group that decodes, so that every rank finds the same."""
        if self.config.on_error == "raise":
            return index
        group = self._order.groups[self._order.group_of[index]] if index in self._order.group_of else self.validation
        return data.stand_in(index, group, self._is_good, self.root)

    def _is_good(self, index: int) -> bool:
        key = self.sources[index].key
        if key not in self._good:
            self._good[key] = self._decodes(index)
        return self._good[key]

    def _decodes(self, index: int) -> bool:
        source = self.sources[index]
        try:
            found = self._inspections.ask("pictures", source, partial(self._look, index))
            if told := data.disagreement(source.facts, found):
                raise MgzooError(f"its sidecar declares {told}", remedy="correct the sidecar, or remove these fields", origin=source.name)
        except MgzooError as error:
            log.warning("skipped: %s", error)
            return False
        return True
