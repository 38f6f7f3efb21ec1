"""Counters of data and model during a run, e.g. skipped samples and truncated captions: in the log and in a final line.

A data part counts where it has a method ``counts() -> dict[str, int]``, as `Model.counts`: whole numbers since it was made, that never fall.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mgzoo.train.distributed import reduce_counts


def collect_counts(loop) -> dict[str, int]:
    """``part.what`` -> number, of these processes and this stage, without what is nothing. Every rank calls this.

    Ranks look at the same data, so the largest of their numbers counts; their models read samples of their own: the sum.
    """
    data = reduce_counts(loop.rank_info, {f"data.{key}": number for key, number in _of(loop.data).items()}, max)
    return {key: number for key, number in (data | reduce_counts(loop.rank_info, _of(loop.model), sum)).items() if number}


def _of(counter: Any) -> dict[str, int]:
    counts = getattr(counter, "counts", None)
    return {key: int(number) for key, number in counts().items()} if callable(counts) else {}


def format_counts(counts: Mapping[str, int]) -> str:
    """The counts in a line."""
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())
