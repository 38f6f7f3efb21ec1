"""A media file that carries its own digest, so that a changed byte is found. Never imports torch.

The digest is blake3 of the whole file with the digest's 64 characters replaced by those of `placeholder`. It says that a file is as
it was written, not who wrote it: whoever changes the file on purpose can seal it again.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3
from PIL import Image

KEY = "blake3"
"""The key under which the JSON in a file holds the digest."""
TITLE = 0x010E  # the Exif tag ImageDescription, where WebP keeps our JSON


def placeholder(meta: Mapping[str, Any]) -> str:
    """What stands in the digest's place while it is taken: 64 characters that no other part of the file repeats."""
    return blake3(json.dumps({key: value for key, value in meta.items() if key != KEY}).encode()).hexdigest()


def embedded(thing) -> dict[str, Any]:
    """The JSON object in an open file, a Pillow image or a PyAV container; empty where there is none."""
    if isinstance(thing, Image.Image):
        text = thing.info.get("mgzoo") or thing.info.get("comment") or thing.getexif().get(TITLE) or ""
    else:
        text = thing.metadata.get("comment", "")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # a comment that somebody else wrote
        return {}
    return found if isinstance(found, dict) else {}


def write_digest(path: Path, meta: Mapping[str, Any]) -> None:
    """Put the digest into a file that was written with `placeholder` in its place."""
    data, place = path.read_bytes(), placeholder(meta).encode()
    assert data.count(place) == 1, f"a file of {path.suffix} must hold its metadata as plain text, once"
    path.write_bytes(_with(data, place, blake3(_with(data, place, place)).hexdigest().encode()))


def is_intact(path: Path, meta: Mapping[str, Any]) -> bool | None:
    """Whether the file, which holds ``meta``, is byte for byte as it was written; None where it carries no digest."""
    digest = meta.get(KEY)
    if not isinstance(digest, str):
        return None
    data, said = path.read_bytes(), digest.encode()
    if len(said) != 64 or data.count(said) != 1:
        return False
    return blake3(_with(data, said, placeholder(meta).encode())).hexdigest() == digest


def _with(data: bytes, old: bytes, new: bytes) -> bytes:
    """The file with the one occurrence of ``old`` replaced, and in a PNG the checksum of the chunk around it made right."""
    at = data.index(old)
    data = data[:at] + new + data[at + len(new) :]
    start = 8
    while data.startswith(b"\x89PNG") and start + 8 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if start < at < end:
            return data[:end] + struct.pack(">I", zlib.crc32(data[start + 4 : end])) + data[end + 4 :]
        start = end + 4
    return data
