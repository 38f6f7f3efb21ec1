"""Files that end before their own container says they do. Readers give what is left of them without a word. Never imports torch.

Looked at are the sizes that a container writes of itself: of RIFF (WAV, AVI) and AIFF, of ISO base media (mp4, mov: ISO/IEC 14496-12, 4.2), of
Matroska's segment (RFC 9559, 5; RFC 8794, 4 has the numbers) and of an MP3 with a Xing or Info header. Others (MPEG streams, FLV, Ogg, ADTS) do not know
their length, nor do recordings that were written as they came.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

SLACK = 16
"""Bytes by which writers get their own sizes wrong (padding, a header counted in or not)."""
UNKNOWN = 0x7FFF0000
"""RIFF sizes from here on are written by programs that did not know them."""
PADDING = (b"free", b"skip", b"wide")
SEGMENT, EBML = b"\x18\x53\x80\x67", b"\x1a\x45\xdf\xa3"


def missing(source: str | Path | bytes) -> tuple[int, int]:
    """(bytes that are missing at the end of a file, bytes that it should have); (0, its size) where it is whole or does not say."""
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(16)
        if head[:4] == b"RIFF":
            whole = _riff(int.from_bytes(head[4:8], "little"))
        elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            whole = _riff(int.from_bytes(head[4:8], "big"))
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot"):
            whole = _boxes(file, size)
        elif head[:4] == EBML:
            whole = _matroska(file)
        elif head[:3] == b"ID3" or head[:1] == b"\xff":
            whole = _xing(file)
        else:
            whole = 0
    return (whole - size, whole) if whole > size + SLACK else (0, size)


def told(source: str | Path | bytes) -> str:
    """What is missing of a file, in words; empty where nothing is."""
    lost, whole = missing(source)
    return f"it ends early: {lost:,} of its {whole:,} bytes ({min(99, max(1, round(100 * lost / whole)))} %) are missing" if lost else ""


def _riff(told: int) -> int:
    return told + 8 if 0 < told < UNKNOWN else 0


def _boxes(file: BinaryIO, size: int) -> int:
    """Where the last of the outermost boxes ends; 0 where one has no size of its own."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: to the end of the file
            return 0
        if not all(32 <= byte < 127 or byte == 0xA9 for byte in head[4:8]):  # what follows the last box is none of them
            return place
        if place + length > size and head[4:8] in PADDING:
            return place
        place += length
    return place


def _number(file: BinaryIO, keep_mark: bool) -> tuple[int, int]:
    """(a variable-length number of EBML, its bits of data); with its length marker for an id."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, 0
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    return (value if keep_mark else value & ((1 << 7 * length) - 1)), 7 * length


def _matroska(file: BinaryIO) -> int:
    """Where the segment ends; 0 where its size is unknown, as in a live recording."""
    file.seek(4)
    length, _ = _number(file, False)
    file.seek(length, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return 0
    length, bits = _number(file, False)
    return 0 if not bits or length == (1 << bits) - 1 else file.tell() + length


def _xing(file: BinaryIO) -> int:
    """Where an MP3 ends by the bytes that its Xing or Info header counts, from that frame on; 0 without one."""
    file.seek(0)
    head = file.read(10)
    start = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0))) if head[:3] == b"ID3" else 0
    file.seek(start)
    frame = file.read(64)
    if frame[:1] != b"\xff" or len(frame) < 64 or frame[1] & 0xE6 != 0xE2:  # MPEG audio, layer III
        return 0
    mono, first = frame[3] >> 6 == 3, frame[1] & 0x18 == 0x18
    at = 4 + ((17 if mono else 32) if first else (9 if mono else 17))
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    if frame[at : at + 4] not in (b"Xing", b"Info") or not flags & 2:
        return 0
    at += 12 if flags & 1 else 8
    return start + int.from_bytes(frame[at : at + 4], "big")
