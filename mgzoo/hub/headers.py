"""The header of a safetensors file, read strictly and without torch: what the format's own library lets pass is refused here.

A file is 8 bytes (little-endian length of the header), the header (JSON: name -> dtype, shape, data_offsets) and the tensors.
The library checks offsets, sizes and dtypes; it takes the last of two equal names, and any text as a name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from mgzoo.hub import manifest as manifests
from mgzoo.spec import MgzooError

MAX_BYTES = 50_000_000
"""Longest header that is read: about 400,000 tensors."""
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,499}")
_ENTRY = {"dtype", "shape", "data_offsets"}


def read(path: str | Path) -> dict[str, dict]:
    """Tensor name -> its dtype, shape and offsets. Raises `MgzooError` that names the file and what is wrong with it."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size, start = path.stat().st_size, file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > size - 8:
                raise ValueError("it ends inside its header")
            if length > MAX_BYTES:
                raise ValueError(f"its header has {length:,} bytes, more than {MAX_BYTES:,}")
            header = manifests.strict_json(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is not an object")
        return {name: _entry(name, entry) for name, entry in header.items() if name != "__metadata__"}
    except FileNotFoundError:
        raise MgzooError(f"{path} is missing", remedy="pull or save the artifact again") from None
    except (ValueError, RecursionError) as error:
        raise MgzooError(f"{path} is damaged: {error}", remedy="pull or save the artifact again") from None


def _entry(name: str, entry) -> dict:
    if not _TENSOR_NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{json.dumps(name)[:80]} is no name of a tensor")
    if not isinstance(entry, dict) or set(entry) != _ENTRY:
        raise ValueError(f"the entry of {name} is not dtype, shape and data_offsets")
    if not isinstance(entry["dtype"], str) or not (_is_sizes(entry["shape"]) and _is_sizes(entry["data_offsets"])):
        raise ValueError(f"the entry of {name} holds other things than a dtype and whole numbers of at least 0")
    return entry


def _is_sizes(value) -> bool:
    return isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in value)
