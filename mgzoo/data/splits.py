"""Held-out lists: samples for validation, excluded from training. Standard library and blake3."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from blake3 import blake3

from mgzoo.data.captions import normal_name, read_text, split_lines
from mgzoo.data.paths import find_data
from mgzoo.spec import MgzooError

log = logging.getLogger("mgzoo")


def held_out_keys(
    names: Sequence[str], root: Path, known: Collection[str], *, strict: bool = True, noun: str = "clip", beside: str | Path = __file__, origin: str = ""
) -> list[str]:
    """The keys that these lists hold, in their order and each once: one a line, what follows a tab is a remark, lines that begin with # are passed over
    unless that is how a key of the data begins.

    names: files in the data's folder, or as `find_data` finds them. known: keys of the data; a line may name one in another composition of
    its letters, with ``./`` before it or with its suffix. strict: raise MgzooError for a key that is not known; otherwise it is dropped.
    """
    found: dict[str, None] = {}
    spelled = {normal_name(key): key for key in known} if names else {}
    for name in names:
        file = held_out_file(name, root, beside=beside, origin=origin)
        strange = []
        for line in split_lines(read_text(file)):
            if not (key := line.split("\t")[0].strip()):
                continue
            plain = normal_name(key)
            hit = key if key in known else spelled.get(plain) or spelled.get(plain.rpartition(".")[0])
            if hit is None and line.startswith("#"):
                continue
            if hit is None:
                strange.append(key)
            else:
                found[hit] = None
        if strange and strict:
            raise MgzooError(f"{len(strange)} held-out keys match no {noun} of this data, the first is {strange[0]}",
                             remedy="correct the list, or remove it from data.config.held_out", origin=str(file))  # fmt: skip
        if strange:
            log.info("%s: %d held-out keys match no %s of this data, the first is %s", file, len(strange), noun, strange[0])
    return list(found)


def held_out_file(name: str, root: Path, *, beside: str | Path = __file__, origin: str = "") -> Path:
    """A held-out list: in the data's folder, or as `find_data` finds it."""
    folder = root if root.is_dir() else root.parent
    if (folder / name).is_file():
        return folder / name
    return find_data(name, option="held_out", what="held-out list", wanted="files that list held-out keys", beside=beside, origin=origin)


def split_keys(keys: Sequence[str], held_out: Collection[str], split: str) -> tuple[list[int], list[int]]:
    """(training indices, validation indices). split: ``train`` excludes the held-out samples from training, ``all`` does not.

    Validation samples are ordered by the digests of their keys: fixed and mixed, so that the first n are a fair sample.
    """
    held_out = set(held_out)
    validation = sorted((i for i, key in enumerate(keys) if key in held_out), key=lambda i: blake3(keys[i].encode()).digest())
    return [i for i, key in enumerate(keys) if split == "all" or key not in held_out], validation
