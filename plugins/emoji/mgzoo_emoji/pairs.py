"""`edit.pairs.v1`: editing pairs and captioned clips, mixed by ratio, as a resumable stream (Movie Gen Edit, section 5, on emoji).

Sample n of the stream depends on the seed and n alone, and micro-batch m holds the samples from m x size on (`mgzoo.data.sampler`). Pairs come from a fixed pool (its size is
`PairsConfig.scenes`), so that frozen parts' outputs are found again; the wording is drawn anew each time.

Shape letters: F frames, Y X pixel height and width.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import count

import torch
from blake3 import blake3
from torch import Tensor

from mgzoo import data, media
from mgzoo.data.sampler import Stream
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo_emoji import motion
from mgzoo_emoji.composites import RENDER_VERSION, changed_region, render_scene, to_uint8
from mgzoo_emoji.configs import EDITS, PairsConfig
from mgzoo_emoji.instruction_templates import TEMPLATES, write_instruction
from mgzoo_emoji.material import ORIGIN, Material, find_material, read_shards, read_stills, read_table
from mgzoo_emoji.scenes import Edit, EditPool, Scene, stable_number

GOLDEN_RATIO = 0.6180339887498949
FRAMES_SEEN = 3  # different stills that one emoji gives, so that source and target of different pairs find each other again
SPLITS = ("pairs", "wordings", "both")
"""What is new in a held-out sample: the pair, the wording, or both."""
log = logging.getLogger("mgzoo")


class Pairs(Stream):
    """A stream of editing pairs and captioned clips, `mgzoo.parts.Data`. seed: of the order. rank, world: this process and how many there are.

    A sample's ``load()`` is the target and ``digest`` names exactly that; ``caption`` is the instruction, or what the clip shows. ``extra``:
    ``task`` (``text_to_video``, or of `mgzoo_emoji.configs.EDITS`), ``source`` (a function giving uint8 (F, Y, X, 3), None for text to video) and ``source_digest``,
    ``output_caption`` and ``input_caption``, ``region`` (a function giving bool (F, Y, X): what should change, or None), ``edit`` (the text of
    a `mgzoo_emoji.scenes.Edit`, or empty), ``kind`` (of `mgzoo_emoji.instruction_templates.TEMPLATES`), and for held-out samples ``split`` (of `SPLITS`).
    """

    def __init__(self, config: PairsConfig, seed: int = 0, rank: int = 0, world: int = 1):
        super().__init__(rank, world)
        self.config, self.seed = config, seed
        self.root = find_material(config.path, "path", "data at")
        emoji = read_shards(self.root)
        apart = data.held_out_keys(config.held_out, self.root, emoji, beside=__file__, origin=ORIGIN)
        stills = self._stills()
        self.material = Material({**emoji, **stills}, config.keep_mb * 1_000_000)
        self.list = self._held_out_list()
        self.pool = EditPool(
            facts={key: piece.facts for key, piece in emoji.items()}, apart=apart, stills={key: piece.facts for key, piece in stills.items()},
            held_out=[edit for split, edit, _ in self.list if split != "wordings"],
        )  # fmt: skip
        self.shares = config.shares()
        self._looked = False

    # the stream

    def micro_batches(self, size: int, start: int) -> Iterator[tuple[int, int]]:
        """(number of the micro-batch, its size)."""
        return ((number, size) for number in count(start))

    def clips(self, drawn: tuple[int, int]) -> list[Clip]:
        """The samples of a micro-batch."""
        number, size = drawn
        return [self.sample(number * size + i, number if self.config.text_frames else None) for i in range(size)]

    def begin(self) -> None:
        """Decode the material once, and remember it: what is damaged is told before the first step, not in the seventh."""
        if not self._looked:
            self._looked = True
            self.material.look(data.Inspections(self.root), self.root)
            if self.shares.get("back_translated"):
                self._inspect_back_translated()

    def _inspect_back_translated(self) -> None:
        """Decode every back-translated clip once. Raises MgzooError that names those that cannot be used."""
        names = sorted({name for fields, _, _ in self.back_translated_rows for name in (fields["file"], fields["source"])})
        samples = [data.Sample(key=name, name=str(file), file=file, offset=0, size=file.stat().st_size, caption="") for name in names for file in [self._back_translated_root / name]]
        found = data.look_at(data.Inspections(self._back_translated_root), "pictures", samples, lambda index: data.decode_whole(samples[index].bytes(), samples[index].name))
        bad = [facts for facts in found.values() if isinstance(facts, MgzooError)]
        bad += [self._too_short(samples[i].name, facts["frames"]) for i, facts in found.items() if isinstance(facts, dict) and facts["frames"] < self.config.frames]
        data.raise_or_tell(bad, "raise", self._back_translated_root, can_skip=False)

    def _too_short(self, name: str, frames: int) -> MgzooError:
        return MgzooError(f"{name} has {frames} frames, needed: {self.config.frames}", remedy="lower data.config.frames", origin=ORIGIN)

    def sample(self, number: int, batch: int | None = None) -> Clip:
        """Sample `number` of the stream. Kinds follow the golden ratio's sequence, so that any stretch of the stream keeps the mix.

        batch: number of its micro-batch where text to video takes whole ones, in the same sequence.
        """
        u, kind, shares = (0.5 + number * GOLDEN_RATIO) % 1, "", self.shares
        if batch is not None and (apart := shares.get("text_to_video")):
            texts = (0.5 + batch * GOLDEN_RATIO) % 1 < apart
            shares = {"text_to_video": 1.0} if texts else {name: share / (1 - apart) for name, share in shares.items() if name != "text_to_video"}
        for kind, share in shares.items():
            u -= share
            if u < 0:
                break
        dice = random.Random(stable_number("sample", self.seed, number))
        if kind == "text_to_video":
            return self._text_to_video(dice)
        if kind == "back_translated":
            return self._back_translated(dice.choice(self.back_translated_rows))
        task, animated = kind.removeprefix("animated."), kind.startswith("animated.")
        item = dice.randrange(self.config.scenes * (2 if task == "local" else 1))
        edit = self.pool.draw_edit(task, item, turn=dice.randrange(2))
        return self.pair(edit, write_instruction(template_kind(edit), self.pool.slots(edit), dice.randrange(2**16)), item=item, animated=animated)

    def held_out(self) -> list[Clip]:
        """Every edit of the held-out list, in its order, which is mixed. Those of vendors' stills only where the stills are."""
        made = []
        for split, text, instruction in self.list:
            edit = Edit.parse(text)
            if edit.source.clips() | edit.target.clips() <= set(self.material.pieces):
                made.append(self.pair(edit, instruction, split=split))
        return made

    # samples

    def pair(self, edit: Edit, instruction: str, *, item: int = 0, animated: bool = False, split: str = "") -> Clip:
        """One sample of an edit. item: chooses the frame of a still and, animated, its motion."""
        first = self.material.pieces[edit.source.subject].facts
        frames, moves = self.config.frames, None
        if frames == 1 or animated or edit.kind == "vendor":
            still = stable_number("frame", first["concept"], item % FRAMES_SEEN) % first["frames"]
            indices = (still,)
            if frames > 1:
                moves = stable_number("motion", item)
        else:
            indices = self._spread(first["frames"])
        source, target = (partial(self._render, scene, indices, moves) for scene in (edit.source, edit.target))
        digests = [self._digest(scene, indices, moves) for scene in (edit.source, edit.target)]
        extra = {
            "task": edit.task, "source": source, "source_digest": digests[0], "region": partial(_region, source, target, edit.task == "style"),
            "output_caption": self.pool.caption(edit.target), "input_caption": self.pool.caption(edit.source), "edit": edit.text(), "kind": template_kind(edit),
            "split": split,
        }  # fmt: skip
        return self._clip(f"{edit.text()} {indices[0]} {moves}: {instruction}", digests[1], instruction, first["fps"], target, extra)

    def _text_to_video(self, dice: random.Random) -> Clip:
        key = dice.choice(self._texts)
        facts = self.material.pieces[key].facts
        item, frames = dice.randrange(FRAMES_SEEN), self.config.text_frames or self.config.frames
        indices = (stable_number("frame", facts["concept"], item) % facts["frames"],) if frames == 1 else self._spread(facts["frames"], frames)
        scene = Scene(subject=key)
        extra = {
            "task": "text_to_video", "source": None, "source_digest": "", "region": None, "output_caption": facts["caption"], "input_caption": "",
            "edit": "", "kind": "", "split": "",
        }  # fmt: skip
        return self._clip(f"{key} {indices[0]}", self._digest(scene, indices, None), facts["caption"], facts["fps"], partial(self._render, scene, indices, None), extra, frames)

    def _back_translated(self, row: tuple[dict, str, str]) -> Clip:
        """A back-translated pair: (fields of its line, digests of its target and source)."""
        fields, target, source = row
        load, before = partial(self._read, fields["file"]), partial(self._read, fields["source"])
        extra = {
            "task": fields["task"], "source": before, "source_digest": self._file_digest(source), "region": partial(_region, before, load, fields["task"] == "style"),
            "output_caption": fields.get("output_caption", ""), "input_caption": fields.get("input_caption", ""), "edit": "", "kind": "", "split": "",
        }  # fmt: skip
        return self._clip(f"{fields['file']} from {fields['source']}", self._file_digest(target), fields["caption"], float(fields["fps"]), load, extra)

    def _clip(self, key: str, digest: str, caption: str, fps: float, load, extra: dict, frames: int = 0) -> Clip:
        c = self.config
        return Clip(key=key, digest=digest, caption=caption, frames=frames or c.frames, height=c.height, width=c.width, fps=fps, load=load, extra=extra)

    def _spread(self, frames: int, wanted: int = 0) -> tuple[int, ...]:
        wanted = wanted or self.config.frames
        return tuple(i * frames // wanted for i in range(wanted))

    @cached_property
    def _texts(self) -> list[str]:
        known = sorted(self.pool.known, key=lambda key: stable_number("text", key))
        return known[: self.config.texts] if self.config.texts else known

    # pixels

    def _render(self, scene: Scene, indices: tuple[int, ...], moves: int | None) -> Tensor:
        """A scene at these frames of its subject, uint8 (F, Y, X, 3); with `moves`, its one frame along that motion."""
        frames = self.material.pieces[scene.subject].facts["frames"]
        if scene == Scene(subject=scene.subject):  # as it is: nothing is cut out and laid back
            video = self.material.video(scene.subject)[[i % frames for i in indices]]
        else:
            video = to_uint8(render_scene(scene, {key: self.material.matte(key, indices if key == scene.subject else (0,) * len(indices)) for key in scene.clips()})[0])
        if moves is not None:
            video = motion.apply_motion(video[0], motion.affine_sequence(moves, self.config.frames))
        return media.fit(video, self.config.height, self.config.width)

    def _digest(self, scene: Scene, indices: tuple[int, ...], moves: int | None) -> str:
        shown = [self.material.digest(key) for key in sorted(scene.clips())]
        c = self.config
        return blake3(json.dumps([RENDER_VERSION, scene.text(), shown, indices, moves and [moves, c.frames], c.height, c.width]).encode()).hexdigest()

    def _file_digest(self, digest: str) -> str:
        return blake3(json.dumps([RENDER_VERSION, digest, self.config.frames, self.config.height, self.config.width]).encode()).hexdigest()

    def _read(self, name: str) -> Tensor:
        video = media.read(self._back_translated_root / name).video
        if len(video) < self.config.frames:
            raise self._too_short(name, len(video))
        return media.fit(video[list(self._spread(len(video)))], self.config.height, self.config.width)

    # what lies on disk

    def _stills(self) -> dict:
        if not self.config.stills:
            log.info("no stills: styles are those of the package, without vendor styles (scripts/prepare_edits.py creates them)")
            return {}
        return read_stills(find_material(self.config.stills, "stills", "folder of stills"))

    @cached_property
    def _back_translated_root(self):
        return find_material(self.config.back_translated, "back_translated", "folder of back-translated pairs")

    @cached_property
    def back_translated_rows(self) -> list[tuple[dict, str, str]]:
        """The back-translated pairs, with the digests of their files."""
        rows = []
        for fields, file in read_table(self._back_translated_root, ("file", "source", "task", "caption")):
            if fields["task"] not in EDITS:
                raise MgzooError(f"{fields['file']} is of the task {fields['task']!r}", remedy=f"name one of {', '.join(EDITS)}", origin=str(self._back_translated_root))
            source = self._back_translated_root / fields["source"]
            if not source.is_file():
                raise MgzooError(f"missing file {fields['source']}", remedy="make the pairs again", origin=str(self._back_translated_root))
            fields.setdefault("fps", media.probe(file)["fps"])
            rows.append((fields, blake3(file.read_bytes()).hexdigest(), blake3(source.read_bytes()).hexdigest()))
        if not rows:
            raise MgzooError("no back-translated pairs", remedy="create some, or remove back_translated from mix", origin=str(self._back_translated_root))
        return rows

    def _held_out_list(self) -> list[tuple[str, str, str]]:
        if not self.config.held_out_pairs:
            return []
        file = find_material(self.config.held_out_pairs, "held_out_pairs", "held-out list")
        rows = [tuple(line.split("\t")) for line in data.read_list(file)]
        for row in rows:
            if len(row) != 3 or row[0] not in SPLITS:
                raise MgzooError(f"invalid line in the held-out list (SPLIT, EDIT, INSTRUCTION): {' '.join(row)}",
                                 remedy="create the list again with scripts/prepare_edits.py --lists", origin=str(file))
        return rows


def template_kind(edit: Edit) -> str:
    """The kind of `TEMPLATES` that says an edit."""
    return edit.kind if edit.kind in TEMPLATES else "look"


def _region(source, target, whole: bool) -> Tensor:
    """bool (F, Y, X): everything for a change of style, otherwise where the two differ."""
    before, after = source(), target()
    return torch.ones(after.shape[:3], dtype=torch.bool) if whole else changed_region(before, after)
