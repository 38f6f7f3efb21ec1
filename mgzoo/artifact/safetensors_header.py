"""Strict reader for safetensors headers, without torch: stricter than the library of the format.

A file is 8 bytes (little-endian length of the header), the header (JSON: name -> dtype, shape, data_offsets, and text under
``__metadata__``) and the tensors, one after the other without gaps. Of two equal names the library takes the last, and any text is
a name to it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgzoo.artifact.strict_json import parse_strict_json, shorten
from mgzoo.spec import MgzooError

MAX_HEADER_BYTES = 50_000_000
"""Longest header that is read: about 400,000 tensors."""
DTYPE_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4,
         "U64": 8, "I64": 8, "F64": 8, "C64": 8}  # fmt: skip
"""dtype -> bytes of one value."""
SCALE_SUFFIX = ":scale"
"""Ends the name of the scales of a tensor that is stored in eight bits (`mgzoo.artifact.quantization.quantize_rows`)."""
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,499}")
_ENTRY = {"dtype", "shape", "data_offsets"}
_METADATA = "__metadata__"


def read_header(path: str | Path) -> dict[str, dict]:
    """Tensor name -> its dtype, shape and offsets. Raises `MgzooError` that names the file and what is wrong with it."""
    return _entries(path)[1]


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text that stands beside the tensors of a file. Raises as `read` does."""
    return _entries(path)[0]


def _entries(path: str | Path) -> tuple[dict[str, str], dict[str, dict]]:
    with file_errors(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = _length(file.read(8), size)
        return _checked(file.read(length), size - 8 - length)


def parse_header(data: memoryview, path: str | Path) -> tuple[int, dict[str, dict]]:
    """The same of a file's bytes, ``data``, of which ``path`` is the name: where the tensors begin, and the entries of `read`."""
    with file_errors(path):
        start = 8 + _length(bytes(data[:8]), len(data))
        return start, _checked(bytes(data[8:start]), len(data) - start)[1]


@contextmanager
def file_errors(path: str | Path) -> Iterator[None]:
    """Turn what is wrong with the file ``path`` into an error that names it."""
    try:
        yield
    except FileNotFoundError:
        raise MgzooError(f"{path} is missing", remedy="pull or save the artifact again") from None
    except (ValueError, RecursionError) as error:
        raise MgzooError(f"{path} is damaged: {error}", remedy="pull or save the artifact again") from None


def _length(start: bytes, size: int) -> int:
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise ValueError("the file ends within its header")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
    return length


def _checked(text: bytes, size: int) -> tuple[dict[str, str], dict[str, dict]]:
    """Metadata and entries of a header in front of ``size`` bytes of tensors."""
    header = parse_strict_json(text)
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    said = header.pop(_METADATA, {})
    if not isinstance(said, dict) or not all(isinstance(one, str) for one in said.values()):
        raise ValueError("its metadata are not text")
    end = 0
    for name, entry in sorted(((name, _entry(name, entry)) for name, entry in header.items()), key=lambda one: one[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end:
            raise ValueError(f"{name} begins at {start:,}, but the previous tensor ends at {end:,}")
        end = stop
    if end != size:
        raise ValueError(f"the tensors have {end:,} bytes, but {size:,} follow the header")
    return said, header


def _entry(name: str, entry) -> dict:
    if not _TENSOR_NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{json.dumps(name)[:80]} is not a tensor name")
    if not isinstance(entry, dict) or set(entry) != _ENTRY:
        raise ValueError(f"the entry of {name} does not have dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or not (_is_sizes(shape) and _is_sizes(offsets)) or len(offsets) != 2:
        raise ValueError(f"the entry of {name} must hold a dtype and non-negative integers")
    if entry["dtype"] not in DTYPE_BYTES:
        raise ValueError(f"{name} has the unknown dtype {shorten(entry['dtype'])!r}")
    if math.prod(shape) * DTYPE_BYTES[entry["dtype"]] != offsets[1] - offsets[0]:
        raise ValueError(f"the shape of {name} does not match its {offsets[1] - offsets[0]:,} bytes")
    return entry


def _is_sizes(value) -> bool:
    return isinstance(value, list) and len(value) <= 64 and all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**63 for one in value)
