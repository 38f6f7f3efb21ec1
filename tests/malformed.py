"""A corpus of safetensors files that are not what they seem, by name: `FILES[name]` is the file's bytes.

A good file is 8 bytes (the header's length, little-endian), the header (JSON), and the tensors without gaps.
"""

from __future__ import annotations

import json
import struct


def file(header, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of this header (text, or what JSON makes of it), these tensors, and this length or the right one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int = 0, end: int = 8, **changed) -> dict:
    """Two float32 values."""
    return {"dtype": "F32", "shape": [2], "data_offsets": [start, end], **changed}


def numbers(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


GOOD = file({"a": entry()}, numbers(1, 2))
FILES = {
    "empty file": b"",
    "cut in the length": b"\x08\x00",
    "header longer than the file": file(b"{}", length=1_000),
    "header of 2^63 bytes": file(b"{}", length=2**63),
    "header of no bytes": file(b""),
    "header not Unicode": file(b'{"\xff\xfe": 1}'),
    "header not an object": file([entry()]),
    "header nested without end": file(b'{"a":' + b"[" * 100_000),
    "a key given twice": file(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', numbers(1, 2)),
    "metadata that is no text": file({"__metadata__": {"format": 1}, "a": entry()}, numbers(1, 2)),
    "unknown key of an entry": file({"a": entry(code="import os")}, numbers(1, 2)),
    "unknown dtype": file({"a": entry(dtype="PICKLE")}, numbers(1, 2)),
    "negative offsets": file({"a": entry(-8, 0)}, numbers(1, 2)),
    "offsets the wrong way round": file({"a": entry(8, 0)}, numbers(1, 2)),
    "offsets beyond the data": file({"a": entry(0, 64, shape=[16])}, numbers(1, 2)),
    "overlapping tensors": file({"a": entry(0, 8), "b": entry(4, 12)}, numbers(1, 2, 3)),
    "a hole between tensors": file({"a": entry(0, 8), "b": entry(12, 20)}, numbers(1, 2, 3, 4, 5)),
    "trailing bytes": GOOD + b"#!/bin/sh",
    "a shape that overflows": file({"a": entry(shape=[2**40, 2**40])}, numbers(1, 2)),
    "a shape that is not the size": file({"a": entry(shape=[3])}, numbers(1, 2)),
    "a negative shape": file({"a": entry(shape=[-2])}, numbers(1, 2)),
    "a tensor named like a path": file({"../../home/user/.bashrc": entry()}, numbers(1, 2)),
    "a tensor named with a NUL": file({"a\0b": entry()}, numbers(1, 2)),
    "NaN": file({"a": entry()}, numbers(float("nan"), 2)),
    "infinity": file({"a": entry()}, numbers(1, float("-inf"))),
}
