"""`audio.sounds.v1`: captioned sounds from a folder, with or without pictures, as a resumable stream (`mgzoo.data.sampler`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from blake3 import blake3
from torch import Tensor

from mgzoo import data, media
from mgzoo.data.sampler import EpochOrder, Stream, derived_seed
from mgzoo.media.audio import mono, resample, slice_padded, validate_audio
from mgzoo.media.decode import read_audio
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo_audio.sound_configs import SoundsConfig

ORIGIN = "audio.sounds.v1"
MEDIA = (*data.SOUND, *data.VIDEO)
CUT = "sounds 2"  # part of every digest; raise it when the same bytes and config come out as other samples
SAME_LENGTH = 0.1  # seconds by which a sidecar may be wrong about a sound: less than a reader takes for damage
log = logging.getLogger("mgzoo")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source(data.Sample):
    """A sample, and what is known of it. samples: its length at the config's rate. frames, fps: of its picture, 0 without one."""

    samples: int
    frames: int
    fps: float


def described(sample: data.Sample, config: SoundsConfig, inspections: data.Inspections) -> Source:
    """A sample with its length: its sidecar's, else the sound's own, which is remembered. Raises MgzooError where it has no sound track."""
    facts = {"seconds": sample.fields.get("seconds"), "frames": sample.fields.get("frames") or 0, "fps": sample.fields.get("fps") or 0.0}
    if not all(isinstance(value, (int, float)) and 0 <= value < 1e9 for value in facts.values()) or facts["seconds"] <= 0:
        facts = inspections.ask("sound", sample, partial(heard, sample))
    fields = {name: getattr(sample, name) for name in data.Sample.__dataclass_fields__}
    return Source(**fields, samples=max(1, round(facts["seconds"] * config.rate)), frames=int(facts["frames"]), fps=float(facts["fps"]))


def heard(sample: data.Sample) -> dict[str, Any]:
    """seconds of a file's sound track, frames and fps of its picture (0 without one). Raises MgzooError where there is no sound track."""
    found = media.probe(sample.file, sample.name)
    if not found["rate"]:
        raise MgzooError("the file has no sound track", remedy="remove it, or add a sound track", origin=sample.name)
    seconds = found["samples"] / found["rate"] if found.get("samples") else found["seconds"] or 0.0
    return {"seconds": seconds, "frames": found["frames"] or 0, "fps": found["fps"] or 0.0}


class Sounds(Stream):
    """A stream of captioned sounds, `mgzoo.parts.Data`. seed: of order and crops. rank, world: this process and how many there are."""

    def __init__(self, config: SoundsConfig, seed: int = 0, rank: int = 0, world: int = 1):
        super().__init__(rank, world)
        self.config, self.seed = config, seed
        self.root = data.find_data(config.path, wanted="a folder of sounds; scripts/prepare_sounds.py makes data/sounds48", beside=__file__, origin=ORIGIN)
        if not self.root.is_dir():
            raise MgzooError("not a folder", remedy="set data.config.path to one", origin=str(self.root))
        self._inspections = data.Inspections(self.root)
        self.sources = self._scan()
        known = {source.key for source in self.sources}
        strict = not (config.kinds or self.left_out)
        apart = data.held_out_keys(config.held_out, self.root, known, strict=strict, noun="sound", beside=__file__, origin=ORIGIN)
        self.training, self.validation = data.split_keys([source.key for source in self.sources], apart, config.split)
        if not self.training:
            raise MgzooError(f"no training sounds left of {len(self.sources)} found", remedy="check data.config.path, kinds and held_out", origin=str(self.root))
        self._digests: dict[int, str] = {}
        self._good: dict[int, bool] = {}
        self._decoded = data.DecodedCache(config.keep_mb * 1_000_000)
        self._looked = False
        self._order = EpochOrder(self.training, (lambda epoch: derived_seed(f"sounds {self.seed} {epoch}")) if config.shuffle else None)

    def _scan(self) -> list[Source]:
        config, sources = self.config, []
        keep = (lambda fields: fields.get("kind") in config.kinds) if config.kinds else None
        found = data.scan_data(self.root, MEDIA, caption_key=config.caption_key, held_out=config.held_out, keep=keep)
        found.left_out.tell(self.root)
        if packed := [sample for sample in found.samples if sample.file.suffix.lower() == ".tar"]:
            raise MgzooError(f"sounds in shards are not supported: {packed[0].key}", remedy="unpack the shards (tar -xf)", origin=str(packed[0].file))
        for sample in found.samples:
            try:
                sources.append(described(sample, config, self._inspections))
            except MgzooError as error:
                found.problems.append(error)
        self._inspections.save()
        data.raise_or_tell(found.problems, config.on_error, self.root, noun="sound", used=len(sources))
        self.left_out = len(found.problems)
        return sources

    def __len__(self) -> int:
        """Sounds that are trained on."""
        return len(self.training)

    def epoch_length(self) -> int:
        """The same."""
        return len(self.training)

    def counts(self) -> dict[str, int]:
        """skipped: sounds left out so far, with `on_error: skip`."""
        return {"skipped": self.left_out + sum(not good for good in self._good.values())}

    def held_out(self) -> list[Clip]:
        """The sounds of the held-out lists, in an order that is fixed and mixed: the first n are a fair sample."""
        return [self._clip(i, None) for i in self.validation if self._usable(i, self.validation) == i]

    def micro_batches(self, size: int, start: int) -> Iterator[list[tuple[int, int]]]:
        """(sound, epoch) pairs."""
        return self._order.micro_batches(size, start)

    def clips(self, drawn: list[tuple[int, int]]) -> list[Clip]:
        """Those sounds, or what takes the place of bad ones."""
        return [self._clip(self._usable(i, self.training), epoch) for i, epoch in drawn]

    # sounds

    def _clip(self, index: int, epoch: int | None) -> Clip:
        c, source, start = self.config, self.sources[index], 0
        spare = source.samples - c.samples
        if c.crop == "random" and epoch is not None and spare > 0:
            drawn = blake3(f"crop {self.seed} {epoch} {source.key}".encode()).digest(length=8)
            start = int.from_bytes(drawn, "little") % (spare + 1)
        pictures, late = self._pictures(source, start), 0
        if c.delay and epoch is not None and not pictures:
            drawn = blake3(f"delay {self.seed} {epoch} {source.key}".encode()).digest(length=8)
            late = int.from_bytes(drawn, "little") % c.delays * round(c.delay * c.rate) // c.delays
        if index not in self._digests:
            self._digests[index] = blake3(source.bytes()).hexdigest()
        cut = [CUT, self._digests[index], start, c.samples, c.rate, c.channels, pictures, *((c.height, c.width) if pictures else ()), *([late] if late else ())]
        seen = {"frames": len(pictures), "height": c.height, "width": c.width, "fps": len(pictures) * c.rate / c.samples, "load": partial(self._frames, index, pictures)}
        return Clip(
            key=source.key, digest=blake3(json.dumps(cut).encode()).hexdigest(), caption=source.caption, extra=source.fields,
            sound=partial(self._sound, index, start, late), samples=c.samples, rate=c.rate, **(seen if pictures else {}),
        )  # fmt: skip

    def _pictures(self, source: Source, start: int) -> list[int]:
        """The frames on screen at equal steps of the sound that is taken; none where there is no moving picture."""
        if not self.config.frames or source.frames < 2 or not source.fps:
            return []
        step = self.config.samples / self.config.frames
        return [min(source.frames - 1, int((start + i * step) / self.config.rate * source.fps + 1e-6)) for i in range(self.config.frames)]

    def _sound(self, index: int, start: int, late: int = 0) -> Tensor:
        whole = self._decoded.get_or_compute(index, partial(self._whole, index))
        return F.pad(slice_padded(whole, start, self.config.samples - late), (late, 0)).clone()

    def _whole(self, index: int) -> Tensor:
        """All of a file's sound at the config's rate and channels."""
        audio, rate = self._read(index)
        audio = mono(audio) if self.config.channels == 1 or len(audio) > 2 else audio
        audio = resample(audio, rate, self.config.rate).clamp(-1, 1)
        return audio.expand(self.config.channels, -1).contiguous() if len(audio) < self.config.channels else audio

    def _read(self, index: int) -> tuple[Tensor, int]:
        source = self.sources[index]
        audio, rate = read_audio(source.file)
        return validate_audio(audio, rate, origin=source.name), rate

    def _frames(self, index: int, pictures: list[int]) -> Tensor:
        wanted = sorted(set(pictures))
        found = media.read(self.sources[index].file, wanted, cover=(self.config.height, self.config.width))
        video = media.fit(found.video, self.config.height, self.config.width)
        return video[[wanted.index(i) for i in pictures]]

    # what is wrong

    def begin(self) -> None:
        """Decode every sound once, and remember what was found: a bad one is told before the first step, not in the seventh."""
        if self._looked:
            return
        self._looked = True
        found = data.look_at(self._inspections, self._question, self.sources, self._look)
        bad = {i: error for i, error in found.items() if isinstance(error, MgzooError)}
        data.raise_or_tell(list(bad.values()), self.config.on_error, self.root, noun="sound", used=len(self.sources) - len(bad))
        self._good.update((i, i not in bad) for i in found)
        wrong = []
        for i, facts in found.items():
            if i not in bad and (true := self._true(i, facts)) != self.sources[i]:
                wrong.append((self.sources[i], true))
                self.sources[i] = true
        if wrong:
            said, true = wrong[0]
            log.warning("%s: %d sounds with another length than declared, used as they are: %s declares %.2f s and has %.2f s%s", self.root, len(wrong),
                        said.name, said.samples / self.config.rate, true.samples / self.config.rate, " …" if len(wrong) > 1 else "")  # fmt: skip

    @property
    def _question(self) -> str:
        return "sound and pictures" if self.config.frames else "sound alone"

    def _look(self, index: int) -> dict[str, Any]:
        """Decode a sound, and its pictures where they are asked for -> seconds; frames and fps of the pictures, 0 where there are none."""
        source, pictures = self.sources[index], {"frames": 0, "fps": 0.0}
        audio, rate = self._read(index)
        if self.config.frames and source.file.suffix.lower() in data.VIDEO and media.probe(source.file, source.name)["frames"]:
            pictures = data.decode_whole(source.bytes(), source.name)
        return {"seconds": audio.shape[1] / rate, "frames": pictures["frames"], "fps": pictures["fps"] or 0.0}

    def _true(self, index: int, facts: dict[str, Any]) -> Source:
        """A source as it was found: a length that is all but right stays, and so do random crops."""
        source, config = self.sources[index], self.config
        if abs(source.samples / config.rate - facts["seconds"]) > SAME_LENGTH:
            source = replace(source, samples=max(1, round(facts["seconds"] * config.rate)))
        if config.frames and (source.frames != facts["frames"] or not data.same_rate(source.fps, facts["fps"])):
            source = replace(source, frames=facts["frames"], fps=facts["fps"])
        return source

    def _usable(self, index: int, group: list[int]) -> int:
        """The sound itself, or with `on_error: skip` the next one that decodes, so that every rank finds the same."""
        if self.config.on_error == "raise":
            return index
        return data.stand_in(index, group, self._is_good, self.root)

    def _is_good(self, index: int) -> bool:
        if index not in self._good:
            self._good[index] = self._decodes(index)
        return self._good[index]

    def _decodes(self, index: int) -> bool:
        try:
            facts = self._inspections.ask(self._question, self.sources[index], partial(self._look, index))
            if self._true(index, facts) != self.sources[index]:
                raise MgzooError(f"its length is {facts['seconds']:.2f} s, unlike in its sidecar", remedy="correct the sidecar", origin=self.sources[index].name)
        except MgzooError as error:
            log.warning("skipped: %s", error)
            return False
        return True
