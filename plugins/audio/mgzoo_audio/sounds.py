"""`audio.sounds.v1`: captioned sounds from a folder, with or without pictures, as a resumable stream.

The stream is one endless sequence of micro-batches that depends on the seed and the batch size alone; rank r of W takes the
micro-batches m with m % W == r. Where a stream stands is therefore one number, good for any number of ranks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from blake3 import blake3
from torch import Tensor

from mgzoo import media, sound
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo_audio.sound_configs import SoundsConfig

MEDIA = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", *media.VIDEO)
CUT = "sounds 1"  # part of every digest; raise it when the same bytes and config come out as other samples
log = logging.getLogger("mgzoo")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file. samples: its length at the config's rate. frames, fps: of its picture, 0 without one. extra: the sidecar but the caption."""

    key: str
    file: Path
    caption: str
    samples: int
    frames: int
    fps: float
    extra: Mapping[str, Any]


def locate(path: str, option: str = "path") -> Path:
    """The file or folder of this name: absolute, in the working directory, or in the repository that this package was installed from."""
    tried = [Path(path).expanduser()]
    if not tried[0].is_absolute():
        tried += [parent / path for parent in Path(__file__).resolve().parents]
    for candidate in tried:
        if candidate.exists():
            return candidate
    remedy = "make it with scripts/prepare_sounds.py, or set data.config.path to a folder of sounds" if option == "path" else f"mend data.config.{option}"
    raise MgzooError(f"there is no {option} {path}", remedy=f"{remedy}; looked in {Path.cwd()} and beside mgzoo_audio", origin="audio.sounds.v1")


def sidecars(root: Path) -> dict[str, dict]:
    """The lines of captions.jsonl by file name."""
    found = {}
    if (table := root / "captions.jsonl").is_file():
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            try:
                fields = json.loads(line)
                found[fields.pop("file")] = fields
            except (ValueError, KeyError, TypeError, AttributeError):
                raise MgzooError("this line is not a JSON object with `file` and a caption", remedy='write {"file": "bell.flac", "caption": "…"}',
                                 origin=f"{table}:{number}") from None
    return found


def beside(file: Path, caption_key: str) -> dict | None:
    """What the .json or .txt of the same name says."""
    for suffix in ("json", "txt"):
        if (path := file.with_suffix(f".{suffix}")).is_file():
            try:
                text = path.read_text(encoding="utf-8")
                fields = json.loads(text) if suffix == "json" else {caption_key: text}
                return dict(fields)
            except (ValueError, TypeError):
                raise MgzooError(f"its .{suffix} cannot be read", remedy="write UTF-8 text, or a JSON object with the caption", origin=str(file)) from None
    return None


def described(file: Path, key: str, fields: dict | None, config: SoundsConfig) -> Source:
    """What is known of a file from its sidecar and its header. Raises MgzooError where it has no caption or no sound track."""
    if fields is None:
        raise MgzooError("there is no caption", remedy="put a .txt or .json of the same name beside it, or a line into captions.jsonl", origin=str(file))
    caption = fields.get(config.caption_key)
    if not isinstance(caption, str) or not caption.strip():
        raise MgzooError("the caption is empty", remedy=f"write one as {config.caption_key!r}", origin=str(file))
    seconds, frames, fps = fields.get("seconds"), fields.get("frames") or 0, fields.get("fps") or 0.0
    if not isinstance(seconds, (int, float)) or seconds <= 0:
        found = media.probe(file)
        if not found["rate"]:
            raise MgzooError("there is no sound track in it", remedy="leave it out, or give it one", origin=str(file))
        seconds, frames, fps = found["seconds"] or 0, found["frames"] or 0, found["fps"] or 0.0
    extra = {name: value for name, value in fields.items() if name != config.caption_key}
    return Source(key=key, file=file, caption=caption.strip(), samples=max(1, round(seconds * config.rate)), frames=int(frames), fps=float(fps), extra=extra)


class Sounds:
    """A stream of captioned sounds, `mgzoo.parts.Data`. seed: of order and crops. rank, world: this process and how many there are."""

    def __init__(self, config: SoundsConfig, seed: int = 0, rank: int = 0, world: int = 1):
        self.config, self.seed, self.rank, self.world = config, seed, rank, world
        self.root = locate(config.path)
        if not self.root.is_dir():
            raise MgzooError("this is no folder", remedy="set data.config.path to one", origin=str(self.root))
        self.sources = self._scan()
        known, apart = {source.key for source in self.sources}, self._held_out_keys()
        if strange := sorted(apart - known) if not (config.kinds or self._left_out) else ():
            raise MgzooError(f"{len(strange)} held-out keys are no sound of this data, the first is {strange[0]}", remedy="mend the list", origin=str(self.root))
        self.validation = sorted((i for i, s in enumerate(self.sources) if s.key in apart), key=lambda i: blake3(self.sources[i].key.encode()).digest())
        self.training = [i for i, s in enumerate(self.sources) if config.split == "all" or s.key not in apart]
        if not self.training:
            raise MgzooError(f"no sound is left to train on of {len(self.sources)} found", remedy="check data.config.path, kinds and held_out", origin=str(self.root))
        self.position = {"samples": 0, "size": 1}
        self._digests: dict[int, str] = {}
        self._good: dict[int, bool] = {}
        self._kept: dict[int, Tensor] = {}
        self._room = config.keep_mb * 1_000_000
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def __len__(self) -> int:
        """Sounds that are trained on."""
        return len(self.training)

    def held_out(self) -> list[Clip]:
        """The sounds of the held-out lists, in an order that is fixed and mixed: the first n are a fair sample."""
        return [self._clip(i, None) for i in self.validation if self._usable(i, self.validation) == i]

    def batches(self, size: int) -> Iterator[list[Clip]]:
        """Endless micro-batches of `size` sounds from where the stream stands."""
        assert size > 0
        number, count = self.position["samples"] // size + self.rank, len(self.training)
        while True:
            places = [divmod(p, count) for p in range(number * size, (number + 1) * size)]
            clips = [self._clip(self._usable(self._order(epoch)[i], self.training), epoch) for epoch, i in places]
            number += self.world
            self.position = {"samples": (number - self.rank) * size, "size": size}
            yield clips

    def state_dict(self) -> dict:
        """epoch: times all sounds have been heard. position: micro-batches that all ranks together have taken. size: of those."""
        samples, size = self.position["samples"], self.position["size"]
        return {"epoch": samples // len(self.training), "position": samples // size, "size": size}

    def load_state_dict(self, state: dict) -> None:
        """Stand where `state` was taken; with another batch size, at the nearest micro-batch that repeats rather than skips."""
        self.position = {"samples": state["position"] * state["size"], "size": state["size"]}

    def _shuffled(self, epoch: int) -> list[int]:
        if not self.config.shuffle:
            return self.training
        seed = int.from_bytes(blake3(f"sounds {self.seed} {epoch}".encode()).digest(length=7), "little")
        return [self.training[p] for p in torch.randperm(len(self.training), generator=torch.Generator().manual_seed(seed)).tolist()]

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
            self._digests[index] = blake3(source.file.read_bytes()).hexdigest()
        cut = [CUT, self._digests[index], start, c.samples, c.rate, c.channels, pictures, *((c.height, c.width) if pictures else ()), *([late] if late else ())]
        seen = {"frames": len(pictures), "height": c.height, "width": c.width, "fps": len(pictures) * c.rate / c.samples, "load": partial(self._frames, index, pictures)}
        return Clip(
            key=source.key, digest=blake3(json.dumps(cut).encode()).hexdigest(), caption=source.caption, extra=source.extra,
            sound=partial(self._sound, index, start, late), samples=c.samples, rate=c.rate, **(seen if pictures else {}),
        )  # fmt: skip

    def _pictures(self, source: Source, start: int) -> list[int]:
        """The frames on screen at equal steps of the sound that is taken; none where there is no moving picture."""
        if not self.config.frames or source.frames < 2 or not source.fps:
            return []
        step = self.config.samples / self.config.frames
        return [min(source.frames - 1, int((start + i * step) / self.config.rate * source.fps + 1e-6)) for i in range(self.config.frames)]

    def _sound(self, index: int, start: int, late: int = 0) -> Tensor:
        whole = self._kept.get(index)
        if whole is None:
            whole = self._whole(index)
            if self._room >= 4 * whole.numel():
                self._room -= 4 * whole.numel()
                self._kept[index] = whole
        return F.pad(sound.cut(whole, start, self.config.samples - late), (late, 0)).clone()

    def _whole(self, index: int) -> Tensor:
        """All of a file's sound at the config's rate and channels."""
        file = self.sources[index].file
        heard, rate = sound.read(file)
        heard = sound.checked(heard, rate, origin=str(file))
        heard = sound.mono(heard) if self.config.channels == 1 or len(heard) > 2 else heard
        heard = sound.resample(heard, rate, self.config.rate).clamp(-1, 1)
        return heard.expand(self.config.channels, -1).contiguous() if len(heard) < self.config.channels else heard

    def _frames(self, index: int, pictures: list[int]) -> Tensor:
        wanted = sorted(set(pictures))
        found = media.read(self.sources[index].file, wanted, cover=(self.config.height, self.config.width))
        video = media.fit(found.video, self.config.height, self.config.width)
        return video[[wanted.index(i) for i in pictures]]

    def _usable(self, index: int, group: list[int]) -> int:
        """The sound itself, or with `on_error: skip` the next one that decodes, so that every rank finds the same."""
        if self.config.on_error == "raise":
            return index
        start = group.index(index)
        for candidate in group[start:] + group[:start]:
            if candidate not in self._good:
                self._good[candidate] = self._decodes(candidate)
            if self._good[candidate]:
                return candidate
        raise MgzooError("none of these sounds can be decoded", remedy="check the files", origin=str(self.root))

    def _decodes(self, index: int) -> bool:
        try:
            self._whole(index)
            if self.config.frames and self.sources[index].frames > 1:
                media.read(self.sources[index].file, range(self.sources[index].frames))
        except MgzooError as error:
            log.warning("left out: %s", error)
            return False
        return True

    # what is there

    def _scan(self) -> list[Source]:
        c, lines, sources, problems = self.config, sidecars(self.root), [], []
        files = [file for file in sorted(self.root.rglob("*")) if file.suffix.lower() in MEDIA and file.is_file()]
        for file in files:
            name = file.relative_to(self.root).as_posix()
            try:
                fields = beside(file, c.caption_key) or lines.get(name)
                if c.kinds and (fields or {}).get("kind") not in c.kinds:
                    continue
                sources.append(described(file, name.removesuffix(file.suffix), fields, c))
            except MgzooError as error:
                problems.append(error)
        if missing := sorted(lines.keys() - {file.relative_to(self.root).as_posix() for file in files}):
            problems.append(MgzooError(f"captions.jsonl names {len(missing)} files that are not there, the first is {missing[0]}", remedy="make the data anew", origin=str(self.root)))
        keys = [source.key for source in sources]
        if twice := sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else ():
            raise MgzooError(f"two sounds are called {twice[0]}", remedy="rename one of them", origin=str(self.root))
        self._left_out = len(problems)
        if problems and c.on_error == "raise":
            shown = "\n".join(str(problem) for problem in problems[:10])
            if len(problems) == 1:
                raise problems[0]
            raise MgzooError(f"{len(problems)} sounds cannot be used:\n{shown}", remedy="mend them, or set data.config.on_error: skip", origin=str(self.root))
        for problem in problems[:10]:
            log.warning("left out: %s", problem)
        return sources

    def _held_out_keys(self) -> set[str]:
        keys: set[str] = set()
        for name in self.config.held_out:
            file = self.root / name if (self.root / name).is_file() else locate(name, "held_out")
            keys.update(line.split("\t")[0].strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#"))
        return keys
