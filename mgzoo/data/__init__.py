"""Data sets as people have them -> samples, and what every data part needs around them. Nothing here imports torch but `mgzoo.data.sampler`.

    find_data     the folder or file that a config names
    scan_data     its samples with their captions: media with sidecars, tables, lists or tar shards; what is left out is told
    held_out_keys, split_keys   which samples validate and are never trained on
    Inspections, look_at        what media really hold, decoded once and remembered
    DecodedCache                decoded media in memory
    mgzoo.data.sampler          `Stream` and `EpochOrder`: a resumable order for any number of ranks
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "captions": ("read_jsonl", "read_list", "read_text", "split_lines"),
    "decoded_cache": ("DecodedCache",),
    "files": ("IMAGES", "SOUND", "VIDEO"),
    "inspection": ("Inspections", "claimed_facts", "decode_whole", "disagreement", "look_at", "probed", "raise_or_tell", "same_rate", "stand_in"),
    "paths": ("find_data",),
    "scan": ("Sample", "Scan", "scan_data"),
    "shards": ("read_members",),
    "splits": ("held_out_keys", "split_keys"),
}
"""Module -> its names here. Each is imported when it is first used: the reader of a lock needs no decoder."""
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
