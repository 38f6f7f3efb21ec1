"""The material of the pairs: animated emoji from tar shards and stills of several vendors, decoded when they are needed.

Shape letters: F frames, Y X pixel height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from torch import Tensor

from mgzoo import data, media
from mgzoo.spec import MgzooError
from mgzoo_emoji.composites import extract_matte

ORIGIN = "edit.pairs.v1"
STILL_FPS = 5.29


def find_material(path: str, option: str, what: str) -> Path:
    """The file or folder of this name, as `mgzoo.data.find_data` finds it. option: of `PairsConfig`, that asks for it."""
    return data.find_data(path, option=option, what=what, wanted="what is there", beside=__file__, origin=ORIGIN)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmojiSample(data.Sample):
    """A medium, and what is known of it, its caption among that."""

    facts: dict[str, Any]

    @classmethod
    def of(cls, sample: data.Sample, **facts: Any) -> EmojiSample:
        """A sample and its facts."""
        fields = {name: getattr(sample, name) for name in data.Sample.__dataclass_fields__}
        return cls(**fields, facts={"caption": sample.caption, **sample.fields, **facts})


def read_shards(folder: Path) -> dict[str, EmojiSample]:
    """Key -> medium of every clip of a data set with a JSON sidecar, as scripts/prepare_emoji.py writes them."""
    found = data.scan_data(folder, (".mp4",))
    data.raise_or_tell(found.problems, "raise", folder, can_skip=False)
    pieces = {sample.key: EmojiSample.of(sample) for sample in sorted(found.samples, key=lambda sample: sample.key)}
    needed = ("caption", "concept", "skintone", "person", "fps", "frames")
    if broken := [key for key, piece in pieces.items() if not all(name in piece.facts for name in needed)] or ([] if pieces else [str(folder)]):
        raise MgzooError(f"{broken[0]} has no emoji with {', '.join(needed)}", remedy="make the data with scripts/prepare_emoji.py", origin=str(folder))
    return pieces


def read_table(folder: Path, needed: Sequence[str]) -> list[tuple[dict, Path]]:
    """(fields, file) of every line of a folder's captions.jsonl. Raises MgzooError for a line that lacks one of `needed`, or its file."""
    table = folder / "captions.jsonl"
    example = f'{{{", ".join(f"{name!r}: …" for name in needed)}}}'
    if not table.is_file():
        raise MgzooError("captions.jsonl is missing", remedy=f"write lines {example}", origin=str(folder))
    found = []
    for number, fields in data.read_jsonl(table, needed, example):
        if not (folder / fields["file"]).is_file():
            raise MgzooError(f"missing file {fields['file']}", remedy="create it again", origin=f"{table}:{number}")
        found.append((fields, folder / fields["file"]))
    return found


def read_stills(folder: Path) -> dict[str, EmojiSample]:
    """``VENDOR/CODE`` -> still, as scripts/prepare_edits.py writes them."""
    found = {}
    for fields, file in read_table(folder, ("file", "caption", "concept")):
        sample = data.Sample(key=fields["file"].rpartition(".")[0], name=str(file), file=file, offset=0, size=file.stat().st_size, caption=fields["caption"], fields=fields)
        found[sample.key] = EmojiSample.of(sample, fps=STILL_FPS, frames=1)
    return dict(sorted(found.items()))


class Material:
    """Clips by key, decoded and cut out once, the least recently used leaving first. room: bytes held in memory."""

    def __init__(self, pieces: dict[str, EmojiSample], room: int):
        self.pieces = pieces
        self._decoded = data.DecodedCache(room, evict=True)
        self._digests: dict[str, str] = {}

    def digest(self, key: str) -> str:
        """Of the file's bytes."""
        if key not in self._digests:
            self._digests[key] = blake3(self.pieces[key].bytes()).hexdigest()
        return self._digests[key]

    def video(self, key: str) -> Tensor:
        """uint8 (F, Y, X, 3), all frames."""
        return self._decoded.get_or_compute(("video", key), lambda: media.read_bytes(self.pieces[key].bytes(), self.pieces[key].name).video)

    def matte(self, key: str, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`extract_matte` of these frames; of a still, as often as they are asked for."""
        wanted = tuple(i % self.pieces[key].facts["frames"] for i in indices)
        return self._decoded.get_or_compute(("cut", key, wanted), lambda: extract_matte(self.video(key)[list(wanted)]))

    def look(self, inspections: data.Inspections, root: Path) -> None:
        """Decode every clip once, and remember it. Raises MgzooError that names those that are damaged, or not what was said of them."""
        pieces = list(self.pieces.values())

        def check(index: int) -> dict[str, Any]:
            return data.decode_whole(pieces[index].bytes(), pieces[index].name, data.claimed_facts(pieces[index]))

        found, bad = data.look_at(inspections, "pictures", pieces, check), []
        for index, facts in found.items():
            if isinstance(facts, MgzooError):
                bad.append(facts)
            elif facts["frames"] != (frames := pieces[index].facts["frames"]):
                bad.append(MgzooError(f"its sidecar declares {frames} frames, but it has {facts['frames']}", remedy="make the data again", origin=pieces[index].name))
        data.raise_or_tell(bad, "raise", root, can_skip=False)
