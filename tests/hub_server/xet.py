"""The content-addressed storage behind Xet: xorbs of compressed chunks, and shards that say which chunks make a file.

Formats: https://huggingface.co/docs/xet (xorb and shard formats, CAS API), as hf_xet 1.x writes them.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from .store import Refused, Store

RECORD = 48
LAST = b"\xff" * 32
VERIFICATION, METADATA = 1 << 31, 1 << 30
FOOTER = b"XETBLOB"
PLAIN, LZ4, GROUPED_LZ4 = 0, 1, 2


class Cas:
    """Xorbs on disk; files: Xet hash -> terms (xorb, first chunk, one past the last, bytes); hashes: SHA-256 -> Xet hash."""

    def __init__(self, root: Path):
        self.root, self.files, self.hashes, self.lock = root, {}, {}, threading.RLock()
        self.chunks: dict[str, list[tuple[int, int]]] = {}
        root.mkdir(parents=True, exist_ok=True)

    def xorb_path(self, name: str) -> Path:
        """Where a xorb lies."""
        return self.root / name

    def put_xorb(self, name: str, data: bytes) -> bool:
        """Keep a xorb; whether it is new."""
        with self.lock:
            new = name not in self.chunks
            self.xorb_path(name).write_bytes(data)
            self.chunks[name] = _chunks(data)
            return new

    def put_shard(self, data: bytes, store: Store) -> None:
        """Keep the files that a shard describes, and put them together for clients that do not speak Xet."""
        with self.lock:
            for name, sha256, terms in _files(data):
                missing = [xorb for xorb, *_ in terms if xorb not in self.chunks]
                if missing:
                    raise Refused(400, f"the xorb {missing[0]} was never uploaded")
                self.files[name] = terms
                if sha256 is not None:
                    self.hashes[sha256] = name
                    if not store.has(sha256):
                        self._assemble(terms, store, sha256)

    def _assemble(self, terms, store: Store, sha256: str) -> None:
        part = store.part(sha256, "xet")
        with open(part, "wb") as file:
            for xorb, first, last, _ in terms:
                data = self.xorb_path(xorb).read_bytes()
                for start, end in self.chunks[xorb][first:last]:
                    file.write(_unpacked(data[start:end]))
        store.finish(sha256, [part])

    def reconstruction(self, name: str, url: str, wanted: str | None, sign: Callable[[str], str]) -> dict:
        """Which parts of which xorbs make a file, or the bytes of it that ``wanted`` (a Range header) asks for."""
        if name not in self.files:
            raise Refused(404, "no such file")
        terms = self.files[name]
        size = sum(length for *_, length in terms)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
        start, end = (int(asked[1]), min(int(asked[2] or size), size - 1)) if asked else (0, size - 1)
        if start >= size:
            raise Refused(416, "Range not satisfiable")
        kept, offset, position = [], 0, 0
        for term in terms:
            if position + term[3] > start and position <= end:
                offset = start - position if not kept else offset
                kept.append(term)
            position += term[3]
        places: dict[str, list[dict]] = {}
        for xorb, first, last, _ in kept:
            chunks = self.chunks[xorb]
            # One past the last chunk's byte, less one: both ends of a byte range belong to it.
            span = {"start": chunks[first][0], "end": chunks[last - 1][1] - 1}
            place = {"range": {"start": first, "end": last}, "url": f"{url}{xorb}?sig={sign(xorb)}", "url_range": span}
            if place not in places.setdefault(xorb, []):
                places[xorb].append(place)
        said = [{"hash": xorb, "unpacked_length": length, "range": {"start": a, "end": b}} for xorb, a, b, length in kept]
        return {"offset_into_first_range": offset, "terms": said, "fetch_info": places}


def _name(raw: bytes) -> str:
    """A hash as text: four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def _chunks(data: bytes) -> list[tuple[int, int]]:
    """Where each chunk, its header of 8 bytes included, begins and ends in a xorb."""
    found, position = [], 0
    while position < len(data) and data[position : position + 7] != FOOTER:
        end = position + 8 + int.from_bytes(data[position + 1 : position + 4], "little")
        found.append((position, end))
        position = end
    return found


def _unpacked(chunk: bytes) -> bytes:
    scheme, body = chunk[4], chunk[8:]
    if scheme == PLAIN:
        return body
    data = _lz4(body)
    if scheme == GROUPED_LZ4:
        whole, position = bytearray(len(data)), 0
        for i in range(4):
            count = (len(data) - i + 3) // 4
            whole[i::4] = data[position : position + count]
            position += count
        return bytes(whole)
    return data


def _lz4(data: bytes) -> bytes:
    """Decode an LZ4 frame: blocks of literals and of matches with what was written before."""
    flags, out = data[4], bytearray()
    position = 7 + 8 * bool(flags & 8) + 4 * bool(flags & 1)
    while size := int.from_bytes(data[position : position + 4], "little"):
        position += 4
        length = size & 0x7FFFFFFF
        block = data[position : position + length]
        position += length + 4 * bool(flags & 16)
        if size >> 31:
            out += block
        else:
            _lz4_block(block, out)
    return bytes(out)


def _lz4_block(block: bytes, out: bytearray) -> None:
    i = 0

    def length(start: int) -> int:
        nonlocal i
        if start == 15:
            while True:
                i += 1
                start += block[i - 1]
                if block[i - 1] != 255:
                    break
        return start

    while i < len(block):
        token = block[i]
        i += 1
        literals = length(token >> 4)
        out += block[i : i + literals]
        i += literals
        if i >= len(block):
            break
        distance = int.from_bytes(block[i : i + 2], "little")
        i += 2
        count, begin = length(token & 15) + 4, len(out) - distance
        piece = bytes(out[begin : begin + count])
        out += (piece * (count // len(piece) + 1))[:count]


def _files(shard: bytes):
    """(Xet hash, SHA-256 or None, terms) of every file that a shard describes."""
    position = RECORD
    while shard[position : position + 32] != LAST:
        raw, (flags, count) = shard[position : position + 32], struct.unpack_from("<2I", shard, position + 32)
        position += RECORD
        terms = []
        for i in range(count):
            at = position + i * RECORD
            _, length, first, last = struct.unpack_from("<4I", shard, at + 32)
            terms.append((_name(shard[at : at + 32]), first, last, length))
        position += count * RECORD * (2 if flags & VERIFICATION else 1)
        sha256 = None
        if flags & METADATA:
            sha256 = _name(shard[position : position + 32])
            position += RECORD
        yield _name(raw), sha256, terms
