"""The material of the pairs: animated emoji from tar shards and stills of several vendors, decoded when they are needed.

Shape letters: F frames, Y X pixel height and width.
"""

from __future__ import annotations

import json
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from mgzoo import media
from mgzoo.spec import MgzooError
from mgzoo_edit.composites import cut_out

ORIGIN = "edit.pairs.v1"


def locate(path: str) -> Path | None:
    """The file or folder of this name: absolute, in the working directory, or in the repository this package was installed from; None
    where there is none."""
    tried = [Path(path).expanduser()]
    if not tried[0].is_absolute():
        tried += [parent / path for parent in Path(__file__).resolve().parents]
    return next((candidate for candidate in tried if candidate.exists()), None)


def located(path: str, option: str, what: str) -> Path:
    """The same; raises MgzooError where there is none. option: of `PairsConfig`, that asks for it."""
    found = locate(path)
    if found is None:
        raise MgzooError(f"there is no {what} {path}", remedy=f"set data.config.{option}; looked in {Path.cwd()} and beside mgzoo_edit", origin=ORIGIN)
    return found


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Where one medium lies (its bytes in a file), and what is known of it."""

    file: Path
    offset: int
    size: int
    facts: dict[str, Any]

    def bytes(self) -> bytes:
        with open(self.file, "rb") as opened:
            opened.seek(self.offset)
            return opened.read(self.size)


def in_shards(folder: Path) -> dict[str, Piece]:
    """Key -> medium of every clip in a folder's ``*.tar`` with a JSON sidecar, as scripts/prepare_emoji.py writes them."""
    found, sidecars = {}, {}
    for shard in sorted(folder.glob("*.tar")):
        try:
            with tarfile.open(shard) as tar:
                for member in tar:
                    key, _, suffix = member.name.rpartition(".")
                    if suffix == "json":
                        sidecars[key] = json.loads(tar.extractfile(member).read())
                    elif suffix == "mp4":
                        found[key] = (shard, member.offset_data, member.size)
        except (tarfile.TarError, ValueError) as error:
            raise MgzooError(f"the shard cannot be read ({error})", remedy="copy it again", origin=str(shard)) from None
    needed = ("caption", "concept", "skintone", "person", "fps", "frames")
    if broken := [key for key in found if not all(name in sidecars.get(key, {}) for name in needed)] or ([] if found else [str(folder)]):
        raise MgzooError(f"{broken[0]} holds no emoji with {', '.join(needed)}", remedy="make the data with scripts/prepare_emoji.py", origin=str(folder))
    return {key: Piece(file=file, offset=offset, size=size, facts=sidecars[key]) for key, (file, offset, size) in sorted(found.items())}


def in_table(folder: Path, needed: Sequence[str]) -> list[tuple[dict, Path]]:
    """(fields, file) of every line of a folder's captions.jsonl. Raises MgzooError for a line that lacks one of `needed`, or its file."""
    table = folder / "captions.jsonl"
    if not table.is_file():
        raise MgzooError("there is no captions.jsonl", remedy=f'write lines {{{", ".join(f"{name!r}: …" for name in needed)}}}', origin=str(folder))
    found = []
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        try:
            fields = json.loads(line)
            missing = [name for name in needed if not isinstance(fields[name], str)]
        except (ValueError, KeyError, TypeError):
            missing = list(needed)
        if missing or not (folder / fields["file"]).is_file():
            raise MgzooError("this line is no JSON object with " + ", ".join(needed) if missing else f"there is no file {fields['file']}",
                             remedy="write it again", origin=f"{table}:{number}")
        found.append((fields, folder / fields["file"]))
    return found


def stills_in(folder: Path) -> dict[str, Piece]:
    """``VENDOR/CODE`` -> still, as scripts/prepare_edits.py writes them."""
    found = {}
    for fields, file in in_table(folder, ("file", "caption", "concept")):
        found[fields["file"].rpartition(".")[0]] = Piece(file=file, offset=0, size=file.stat().st_size, facts={**fields, "fps": 5.29, "frames": 1})
    return dict(sorted(found.items()))


class Material:
    """Clips by key, decoded and cut out once, the least recently used leaving first. room: bytes held in memory."""

    def __init__(self, pieces: dict[str, Piece], room: int):
        self.pieces, self.room, self.used = pieces, room, 0
        self._held: OrderedDict[tuple, Any] = OrderedDict()
        self._digests: dict[str, str] = {}

    def digest(self, key: str) -> str:
        """Of the file's bytes."""
        if key not in self._digests:
            self._digests[key] = blake3(self.pieces[key].bytes()).hexdigest()
        return self._digests[key]

    def video(self, key: str) -> Tensor:
        """uint8 (F, Y, X, 3), all frames."""
        return self._kept(("video", key), lambda: media.read_bytes(self.pieces[key].bytes(), key).video)

    def cut(self, key: str, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`cut_out` of these frames; of a still, as often as they are asked for."""
        wanted = tuple(i % self.pieces[key].facts["frames"] for i in indices)
        return self._kept(("cut", key, wanted), lambda: cut_out(self.video(key)[list(wanted)]))

    def _kept(self, name: tuple, make: Callable[[], Any]):
        if name in self._held:
            self._held.move_to_end(name)
            return self._held[name]
        made = make()
        size = sum(x.nbytes for x in (made if isinstance(made, tuple) else (made,)))
        if size <= self.room:
            self._held[name], self.used = made, self.used + size
            while self.used > self.room:
                _, gone = self._held.popitem(last=False)
                self.used -= sum(x.nbytes for x in (gone if isinstance(gone, tuple) else (gone,)))
        return made


def fitted(video: Tensor, height: int, width: int) -> Tensor:
    """uint8 (F, Y, X, 3) in another size; the same bits where it is the same."""
    return video if tuple(video.shape[1:3]) == (height, width) else media.fit(video, height, width).to(torch.uint8)
