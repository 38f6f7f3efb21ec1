"""`personalize.pairs.v1`: captioned clips, each with a picture of its subject, as a resumable stream.

A clip's reference is a frame of the clip itself (paired) or, for a share of them, another picture of the same subject (cross-paired): a
model that has only ever seen paired ones learns to paste. Which it is depends on the seed, the epoch and the key alone, like the order
(`mgzoo.data.sampler`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from blake3 import blake3
from torch import Tensor

from mgzoo import data, media
from mgzoo.data.sampler import EpochOrder, Stream, derived_seed
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo_personalize.configs import PairsConfig
from mgzoo_personalize.foreground import crop_subject, foreground

ORIGIN = "personalize.pairs.v1"
JITTERS = 64  # ways to zoom, move and mirror a reference
log = logging.getLogger("mgzoo")
MADE = "pairs 2"  # part of every digest; raise it when the same bytes and config come out as other pixels


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A picture of a clip's subject. digest: hex, of exactly what `load` returns: uint8 (crop, crop, 3), the subject on white.
    cross: whether it is another picture than the clip."""

    digest: str
    load: Any
    cross: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Row(data.Sample):
    """One clip. stills: names of other pictures of its subject, ``style/key``. who: the subject in words. facts: frames, height, width, fps."""

    stills: tuple[str, ...]
    who: str
    facts: dict[str, Any]


class Pairs(Stream):
    """A stream of clips with references in ``extra["reference"]``, `mgzoo.parts.Data`."""

    def __init__(self, config: PairsConfig, seed: int = 0, rank: int = 0, world: int = 1):
        super().__init__(rank, world)
        self.config, self.seed = config, seed
        self.root = data.find_data(config.path, beside=__file__, origin=ORIGIN)
        self._inspections = data.Inspections(self.root)
        self.stills: dict[str, bytes] = {}
        self.rows = self._rows(self._listed())
        # A list may name more than this data holds, since it is that of the base model too.
        keys = [row.key for row in self.rows]
        apart = data.held_out_keys(config.held_out, self.root, keys, strict=False, beside=__file__, origin=ORIGIN)
        self.training, self.validation = data.split_keys(keys, apart, config.split)
        if not self.training:
            raise MgzooError(f"no training clips left of {len(self.rows)} found", remedy="check data.config.path, references and held_out", origin=str(self.root))
        # A held-out subject is held out in every picture of it.
        self.barred = frozenset() if config.split == "all" else self._barred()
        self._order = EpochOrder(self.training, (lambda epoch: self._seed("order", epoch)) if config.shuffle else None)
        self._decoded = data.DecodedCache(None)
        self._digests: dict[str, str] = {}
        self._good: dict[int, bool] = {}
        self._looked = False
        self._bad_stills: frozenset[str] = frozenset()

    def __len__(self) -> int:
        """Clips that are trained on."""
        return len(self.training)

    def epoch_length(self) -> int:
        """The same."""
        return len(self.training)

    def held_out(self) -> list[Clip]:
        """The held-out clips in a fixed, mixed order; their references are cross-paired where there is another picture."""
        return [self._clip(i, 0, held=True) for i in self.validation if self._usable(i, self.validation) == i]

    def micro_batches(self, size: int, start: int) -> Iterator[list[tuple[int, int]]]:
        """(clip, epoch) pairs."""
        return self._order.micro_batches(size, start)

    def clips(self, drawn: list[tuple[int, int]]) -> list[Clip]:
        """Those clips, or what takes the place of bad ones."""
        return [self._clip(self._usable(i, self.training), epoch) for i, epoch in drawn]

    def counts(self) -> dict[str, int]:
        """skipped: clips left out so far, with `on_error: skip`."""
        return {"skipped": self.left_out + sum(not good for good in self._good.values())}

    def begin(self) -> None:
        """Decode every clip once, and remember what was found: a bad one is told before the first step, not in the seventh."""
        if self._looked:
            return
        self._looked = True
        found = data.look_at(self._inspections, "pictures", self.rows, self._look)
        bad = {i: error for i, facts in found.items() if (error := self._fault(i, facts)) is not None}
        data.raise_or_tell(list(bad.values()), self.config.on_error, self.root, used=len(self.rows) - len(bad))
        self._good.update((i, i not in bad) for i in found)
        self._look_at_stills()

    def _look_at_stills(self) -> None:
        """Decode every still that a clip names: a clip goes on without a bad one, with `on_error: skip`."""
        bad: dict[str, MgzooError] = {}
        for name in sorted({still for row in self.rows for still in row.stills}):
            try:
                data.probed(self.stills[name], name, decode=True)
            except MgzooError as error:
                bad[name] = error
        data.raise_or_tell(list(bad.values()), self.config.on_error, self.root, used=len(self.stills) - len(bad), noun="still")
        self._bad_stills = frozenset(bad)

    def _look(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        return data.decode_whole(row.bytes(), row.name, row.facts)

    def _fault(self, index: int, facts: dict[str, Any] | MgzooError) -> MgzooError | None:
        """What is wrong with a clip of which this was found."""
        if isinstance(facts, MgzooError):
            return facts
        wrong = data.disagreement(self.rows[index].facts, facts)
        return MgzooError(f"its sidecar declares {wrong}", remedy="correct the sidecar, or remove these fields", origin=self.rows[index].name) if wrong else None

    def _usable(self, index: int, group: list[int]) -> int:
        """The clip itself, or with `on_error: skip` the next one that decodes, so that every rank finds the same."""
        return index if self.config.on_error == "raise" else data.stand_in(index, group, self._is_good, self.root)

    def _is_good(self, index: int) -> bool:
        if index not in self._good:
            try:
                fault = self._fault(index, self._inspections.ask("pictures", self.rows[index], partial(self._look, index)))
            except MgzooError as error:
                fault = error
            if fault is not None:
                log.warning("skipped: %s", fault)
            self._good[index] = fault is None
        return self._good[index]

    def _seed(self, *what) -> int:
        return derived_seed(f"pairs {self.seed} {what}")

    def _draw(self, *what) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed(*what))

    def _digest(self, row: Row) -> str:
        """Of the clip's bytes."""
        if row.key not in self._digests:
            self._digests[row.key] = blake3(row.bytes()).hexdigest()
        return self._digests[row.key]

    # clips

    def _clip(self, index: int, epoch: int, held: bool = False) -> Clip:
        row, config = self.rows[index], self.config
        digest = blake3(json.dumps([MADE, self._digest(row), config.frames, config.height, config.width]).encode()).hexdigest()
        return Clip(
            key=row.key, digest=digest, caption=row.caption, frames=config.frames, height=config.height, width=config.width, fps=row.facts["fps"],
            load=partial(self._video, index), extra={**row.fields, **row.facts, "who": row.who, "reference": self._reference(index, epoch, held)},
        )  # fmt: skip

    def _reference(self, index: int, epoch: int, held: bool) -> Reference:
        row = self.rows[index]
        draw = self._draw("reference", 0 if held else epoch, row.key)
        stills = [name for name in row.stills if name not in self._bad_stills and (held or name.partition("/")[2] not in self.barred)]
        cross = bool(stills) and (held or torch.rand((), generator=draw).item() < self.config.cross)
        if cross:
            name = stills[int(torch.randint(len(stills), (), generator=draw))]
            digest, load = blake3(self.stills[name]).hexdigest(), partial(self._still, name)
        else:
            moment = int(torch.randint(self.config.moments, (), generator=draw))
            digest, load = f"{self._digest(row)} {moment} of {self.config.moments}", partial(self._frame, index, moment)
        if self.config.jitter and not held:
            way = int(torch.randint(JITTERS, (), generator=draw))
            digest, load = f"{digest} {self.config.jitter} {way}", partial(self._jittered, load, way)
        return Reference(digest=blake3(f"{MADE} {digest} {self.config.crop}".encode()).hexdigest(), load=load, cross=cross)

    def _video(self, index: int) -> Tensor:
        """uint8 (frames, Y, X, 3), the clip's first frames."""
        if self.config.frames == 1:  # clips are seen again as latents from the cache, pictures as pictures
            return self._decoded.get_or_compute((index, "video"), partial(self._first_frames, index))
        return self._first_frames(index)

    def _first_frames(self, index: int) -> Tensor:
        found = media.read_bytes(self.rows[index].bytes(), self.rows[index].name, range(self.config.frames), cover=(self.config.height, self.config.width))
        return media.fit(found.video, self.config.height, self.config.width)

    def _frame(self, index: int, moment: int) -> Tensor:
        return self._decoded.get_or_compute((index, moment), partial(self._cut_frame, index, moment))

    def _cut_frame(self, index: int, moment: int) -> Tensor:
        row = self.rows[index]
        at = min((2 * moment + 1) * row.facts["frames"] // (2 * self.config.moments), row.facts["frames"] - 1)
        picture = media.read_bytes(row.bytes(), row.name, [at]).video[0]
        subject = foreground(picture)
        return crop_subject(picture, subject, self.config.crop) if subject else media.fit(picture[None], self.config.crop, self.config.crop)[0]

    def _still(self, name: str) -> Tensor:
        def read() -> Tensor:
            picture = media.read_bytes(self.stills[name], name).video[:1]  # what is clear is white
            return media.fit(picture, self.config.crop, self.config.crop)[0]

        return self._decoded.get_or_compute(name, read)

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
        made = "a folder with references.jsonl and the stills it names; see docs/personalize.md"
        folder = data.find_data(self.config.references, option="references", what="folder of references", wanted=made, beside=__file__, origin=ORIGIN)
        table, listed = folder / "references.jsonl", {}
        if not table.is_file():
            raise MgzooError("references.jsonl is missing", remedy="create it; see docs/personalize.md, data of your own", origin=str(folder))
        for number, row in data.read_jsonl(table, ("key", "caption"), '{"key": …, "caption": …, "references": […]}, see docs/personalize.md'):
            if not isinstance(row.get("references"), list):
                raise MgzooError("this line has no list of references", remedy="see docs/personalize.md", origin=f"{table}:{number}")
            listed[row["key"]] = {"caption": row["caption"], "who": str(row.get("who") or ""), "references": [str(name) for name in row["references"]]}
        for shard in sorted(folder.glob("[!.]*.tar")):
            self.stills.update({f"{shard.stem}/{entry.stem}": content for entry, content in data.read_members(shard) if entry.suffix == ".png"})
        if lacking := sorted({name for row in listed.values() for name in row["references"]} - self.stills.keys()):
            raise MgzooError(f"{len(lacking)} listed stills are missing, the first {lacking[0]}", remedy="create the folder again", origin=str(table))
        return listed

    def _rows(self, listed: dict[str, dict] | None) -> list[Row]:
        found = data.scan_data(self.root, data.VIDEO, captioned=listed is None, held_out=self.config.held_out)
        found.left_out.tell(self.root)
        rows, problems = [], list(found.problems)
        for sample in sorted(found.samples, key=lambda sample: sample.key):
            if listed is not None and sample.key not in listed:
                continue  # shows no one subject
            told = listed[sample.key] if listed is not None else {"caption": sample.caption, "who": "", "references": []}
            try:
                facts = data.claimed_facts(sample) or self._inspections.ask("facts", sample, partial(data.probed, sample.bytes(), sample.name))
            except MgzooError as error:
                problems.append(error)
                continue
            fields = {name: getattr(sample, name) for name in data.Sample.__dataclass_fields__} | {"caption": told["caption"]}
            rows.append(Row(**fields, stills=tuple(told["references"]), who=told["who"], facts=facts))
        self._inspections.save()
        short = [row for row in rows if row.facts["frames"] < self.config.frames]
        if short and self.config.on_error == "raise":
            raise MgzooError(f"{len(short)} clips have fewer than {self.config.frames} frames, the first {short[0].key} with {short[0].facts['frames']}",
                             remedy="lower data.config.frames, or skip them (on_error: skip)", origin=str(self.root))  # fmt: skip
        problems += [MgzooError(f"it has {row.facts['frames']} frames, needed: {self.config.frames}", origin=row.name) for row in short]
        rows = [row for row in rows if row.facts["frames"] >= self.config.frames]
        data.raise_or_tell(problems, self.config.on_error, self.root, used=len(rows))
        self.left_out = len(problems)
        if not rows:
            raise MgzooError("no clips of a subject found", remedy="set data.config.path to captioned clips, or to the clips of references.jsonl", origin=str(self.root))
        return rows

    def _barred(self) -> frozenset[str]:
        """All keys of the held-out lists, those of no clip here among them: a still of theirs is held out, too."""
        named = {still.partition("/")[2] for row in self.rows for still in row.stills} | {row.key for row in self.rows}
        return frozenset(data.held_out_keys(self.config.held_out, self.root, named, strict=False, beside=__file__, origin=ORIGIN))
