"""`personalize.pairs.v1`: captioned clips, each with a picture of its subject, as a resumable stream.

A clip's reference is a frame of the clip itself (paired) or, for a share of them, another picture of the same subject (cross-paired): a
model that has only ever seen paired ones learns to paste. Which it is depends on the seed, the epoch and the key alone. Like the order: the
stream is one endless sequence of micro-batches, rank r of W takes those with m % W == r, and where it stands is one number.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from blake3 import blake3
from PIL import Image
from torch import Tensor

from mgzoo import media
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo_personalize.configs import PairsConfig
from mgzoo_personalize.crop import cut_out, whole

ORIGIN = "personalize.pairs.v1"
JITTERS = 64  # ways to zoom, move and mirror a reference
MADE = "pairs 1"  # part of every digest; raise it when the same bytes and config come out as other pixels


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A picture of a clip's subject. digest: hex, of exactly what `load` returns: uint8 (crop, crop, 3), the subject on white.
    cross: whether it is another picture than the clip."""

    digest: str
    load: Any
    cross: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One clip. stills: names of other pictures of its subject, ``style/key``. facts: what its sidecar says, and in ``who`` its subject in words."""

    key: str
    data: bytes
    caption: str
    stills: tuple[str, ...]
    facts: dict[str, Any]


def locate(path: str, option: str) -> Path:
    """The file or folder of this name: absolute, in the working directory, or in the repository that this package was installed from."""
    tried = [Path(path).expanduser()]
    if not tried[0].is_absolute():
        tried += [parent / path for parent in Path(__file__).resolve().parents]
    for candidate in tried:
        if candidate.exists():
            return candidate
    made = "; python scripts/prepare_persons.py FOLDER makes data/persons64" if option == "references" else ""
    raise MgzooError(f"there is no {path}", remedy=f"set data.config.{option} to what is there; looked in {Path.cwd()} and beside mgzoo_personalize{made}", origin=ORIGIN)


def members(shard: Path) -> Iterator[tuple[str, str, bytes]]:
    """(key, suffix, bytes) of every file of a tar."""
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.isfile():
                    key, _, suffix = member.name.rpartition(".")
                    yield key, suffix.lower(), tar.extractfile(member).read()
    except tarfile.TarError as error:
        raise MgzooError(f"the shard is damaged: {error}", remedy="make it again", origin=str(shard)) from None


class Pairs:
    """A stream of clips with references in ``extra["reference"]``, `mgzoo.parts.Data`."""

    def __init__(self, config: PairsConfig, seed: int = 0, rank: int = 0, world: int = 1):
        self.config, self.seed, self.rank, self.world = config, seed, rank, world
        self.root = locate(config.path, "path")
        self.stills: dict[str, bytes] = {}
        self.rows = self._rows(self._listed())
        self.position = {"samples": 0, "size": 1}
        apart = self._held_out()
        self.validation = sorted((i for i, row in enumerate(self.rows) if row.key in apart), key=lambda i: blake3(self.rows[i].key.encode()).digest())
        self.training = [i for i, row in enumerate(self.rows) if config.split == "all" or row.key not in apart]
        if not self.training:
            raise MgzooError(f"no clip is left to train on of {len(self.rows)} found", remedy="check data.config.path, references and held_out", origin=str(self.root))
        # A held-out subject is held out in every picture of it.
        self.barred = frozenset() if config.split == "all" else frozenset(apart)
        self._order = lru_cache(maxsize=4)(self._shuffled)
        self._kept: dict[Any, Tensor] = {}

    def __len__(self) -> int:
        """Clips that are trained on."""
        return len(self.training)

    def held_out(self) -> list[Clip]:
        """The held-out clips in a fixed, mixed order; their references are cross-paired where there is another picture."""
        return [self._clip(i, 0, held=True) for i in self.validation]

    def batches(self, size: int) -> Iterator[list[Clip]]:
        """Endless micro-batches of `size` clips from where the stream stands."""
        assert size > 0
        count, number = len(self.training), self.position["samples"] // size
        while True:
            if number % self.world == self.rank:
                places = [divmod(number * size + i, count) for i in range(size)]
                clips = [self._clip(self._order(epoch)[place], epoch) for epoch, place in places]
                self.position = {"samples": (number - self.rank + self.world) * size, "size": size}
                yield clips
            number += 1

    def state_dict(self) -> dict:
        """epoch: times all clips have been seen. position: micro-batches that all ranks together have taken. size: of those."""
        samples, size = self.position["samples"], self.position["size"]
        return {"epoch": samples // len(self.training), "position": samples // size, "size": size}

    def load_state_dict(self, state: dict) -> None:
        """Stand where `state` was taken; with another batch size, at the nearest micro-batch that repeats rather than skips."""
        self.position = {"samples": state["position"] * state["size"], "size": state["size"]}

    def _shuffled(self, epoch: int) -> list[int]:
        if not self.config.shuffle:
            return self.training
        return [self.training[i] for i in torch.randperm(len(self.training), generator=self._draw("order", epoch)).tolist()]

    def _draw(self, *what) -> torch.Generator:
        seed = blake3(f"pairs {self.seed} {what}".encode()).digest(length=7)
        return torch.Generator().manual_seed(int.from_bytes(seed, "little"))

    # clips

    def _clip(self, index: int, epoch: int, held: bool = False) -> Clip:
        row, config = self.rows[index], self.config
        digest = blake3(json.dumps([MADE, blake3(row.data).hexdigest(), config.frames, config.height, config.width]).encode()).hexdigest()
        return Clip(
            key=row.key, digest=digest, caption=row.caption, frames=config.frames, height=config.height, width=config.width, fps=row.facts["fps"],
            load=partial(self._video, index), extra={**row.facts, "reference": self._reference(index, epoch, held)},
        )  # fmt: skip

    def _reference(self, index: int, epoch: int, held: bool) -> Reference:
        row = self.rows[index]
        draw = self._draw("reference", 0 if held else epoch, row.key)
        stills = [name for name in row.stills if held or name.partition("/")[2] not in self.barred]
        cross = bool(stills) and (held or torch.rand((), generator=draw).item() < self.config.cross)
        if cross:
            name = stills[int(torch.randint(len(stills), (), generator=draw))]
            digest, load = blake3(self.stills[name]).hexdigest(), partial(self._still, name)
        else:
            moment = int(torch.randint(self.config.moments, (), generator=draw))
            digest, load = f"{blake3(row.data).hexdigest()} {moment} of {self.config.moments}", partial(self._frame, index, moment)
        if self.config.jitter and not held:
            way = int(torch.randint(JITTERS, (), generator=draw))
            digest, load = f"{digest} {self.config.jitter} {way}", partial(self._jittered, load, way)
        return Reference(digest=blake3(f"{MADE} {digest} {self.config.crop}".encode()).hexdigest(), load=load, cross=cross)

    def _video(self, index: int) -> Tensor:
        """uint8 (frames, Y, X, 3), the clip's first frames."""
        if (index, "video") in self._kept:
            return self._kept[index, "video"]
        found = media.read_bytes(self.rows[index].data, self.rows[index].key, range(self.config.frames), cover=(self.config.height, self.config.width))
        video = media.fit(found.video, self.config.height, self.config.width)
        if self.config.frames == 1:  # clips are seen again as latents from the cache, pictures as pictures
            self._kept[index, "video"] = video
        return video

    def _frame(self, index: int, moment: int) -> Tensor:
        row = self.rows[index]
        if (index, moment) not in self._kept:
            at = min((2 * moment + 1) * row.facts["frames"] // (2 * self.config.moments), row.facts["frames"] - 1)
            picture = media.read_bytes(row.data, row.key, [at]).video[0]
            subject = whole(picture)
            self._kept[index, moment] = cut_out(picture, subject, self.config.crop) if subject else media.fit(picture[None], self.config.crop, self.config.crop)[0]
        return self._kept[index, moment]

    def _still(self, name: str) -> Tensor:
        if name not in self._kept:
            picture = torch.from_numpy(numpy.asarray(Image.open(io.BytesIO(self.stills[name])).convert("RGB")).copy())
            self._kept[name] = media.fit(picture[None], self.config.crop, self.config.crop)[0]
        return self._kept[name]

    def _jittered(self, load, way: int) -> Tensor:
        """A reference zoomed, moved and perhaps mirrored, on white; one of `JITTERS` ways."""
        picture, most = load().permute(2, 0, 1)[None].float(), self.config.jitter
        zoom, down, right = (most * (2 * torch.rand(3, generator=self._draw("jitter", way)) - 1)).tolist()
        place = torch.tensor([[[(-1 if way % 2 else 1) * (1 + zoom), 0, 2 * right], [0, 1 + zoom, 2 * down]]])
        grid = F.affine_grid(place, list(picture.shape), align_corners=False)
        moved = F.grid_sample(picture - 255, grid, align_corners=False) + 255  # what comes in is white
        return moved[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)

    # files

    def _listed(self) -> dict[str, dict] | None:
        """What references.jsonl says, by the clip's key, with the stills read; None without references."""
        if not self.config.references:
            return None
        folder = locate(self.config.references, "references")
        table, listed = folder / "references.jsonl", {}
        if not table.is_file():
            raise MgzooError("there is no references.jsonl in it", remedy="python scripts/prepare_persons.py FOLDER makes one", origin=str(folder))
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                listed[row["key"]] = {"caption": str(row["caption"]), "who": str(row.get("who") or ""), "references": [str(name) for name in row["references"]]}
            except (ValueError, KeyError, TypeError):
                raise MgzooError("this line is not an object with key, caption and references", remedy="see data/persons_demo/README.md", origin=f"{table}:{number}") from None
        for shard in sorted(folder.glob("*.tar")):
            self.stills.update({f"{shard.stem}/{key}": data for key, suffix, data in members(shard) if suffix == "png"})
        if lacking := sorted({name for row in listed.values() for name in row["references"]} - self.stills.keys()):
            raise MgzooError(f"{len(lacking)} stills are named and not there, the first {lacking[0]}", remedy="make the folder again", origin=str(table))
        return listed

    def _rows(self, listed: dict[str, dict] | None) -> list[Row]:
        shards = [self.root] if self.root.suffix == ".tar" else sorted(self.root.glob("*.tar"))
        sidecars, videos = {}, {}
        for shard in shards:
            for key, suffix, data in members(shard):
                if suffix == "json":
                    sidecars[key] = json.loads(data)
                elif f".{suffix}" in media.VIDEO:
                    videos[key] = data
        rows, short = [], []
        for key in sorted(videos.keys() & sidecars.keys()):
            if listed is not None and key not in listed:
                continue  # shows no one subject
            facts = sidecars[key]
            if not all(isinstance(facts.get(name), (int, float)) for name in ("frames", "fps")):
                facts = {**facts, **{name: value for name, value in media.probe(videos[key], key).items() if name in ("frames", "fps")}}
            told = listed[key] if listed is not None else {"caption": facts.get("caption", ""), "references": []}
            facts = {**facts, "who": told.get("who", "")}
            rows.append(Row(key=key, data=videos[key], caption=told["caption"], stills=tuple(told["references"]), facts=facts))
            if facts["frames"] < self.config.frames:
                short.append(rows[-1])
        if short:
            raise MgzooError(f"{len(short)} clips have fewer than {self.config.frames} frames, the first {short[0].key} with {short[0].facts['frames']}",
                             remedy="lower data.config.frames, or leave them out", origin=str(self.root))  # fmt: skip
        if not rows:
            raise MgzooError("there is no clip with a sidecar in it", remedy="set data.config.path to shards of KEY.mp4 and KEY.json", origin=str(self.root))
        return rows

    def _held_out(self) -> set[str]:
        """Keys of the held-out lists; a list may name more than this data holds, since it is that of the base model too."""
        keys: set[str] = set()
        folder = self.root if self.root.is_dir() else self.root.parent
        for name in self.config.held_out:
            file = folder / name if (folder / name).is_file() else locate(name, "held_out")
            keys |= {line.split("\t")[0].strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")}
        return keys
