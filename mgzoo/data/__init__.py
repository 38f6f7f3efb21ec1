"""Data sets -> samples, and shared functions of data parts. Only `mgzoo.data.sampler` imports torch.

    find_data     the folder or file of a data config
    scan_data     its samples with their captions: media with sidecars, tables, lists or tar shards; skipped files are logged
    held_out_keys, split_keys   samples for validation, excluded from training
    Inspections, look_at        actual contents of media files, decoded once and cached
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
"""Module -> its names here; imported at first use."""
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
