"""The plain mean of several models' weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mgzoo.model.part_weights import load_all_weights
from mgzoo.spec import MgzooError


def average_checkpoints(refs: Sequence[str | Path]) -> dict[str, dict[str, Tensor]]:
    """Mean in float32 of several models' weights (as Movie Gen averages its fine-tuned models, section 3.4).

    refs: artifacts of one recipe: folders, or references to a hub. They are read as loading reads them: digests compared, eight-bit rows
    widened, parts kept elsewhere followed to their base, an adapter merged into its base (so the mean is of whole weights: save it in a model
    without the adapter). Returns part name -> state, as ``mgzoo.model.save(state=)`` takes it.
    Raises MgzooError where names or shapes differ, where there are no weights, or for a damaged artifact.
    """
    total: dict[str, dict[str, Tensor]] = {}
    for ref in refs:
        here = load_all_weights(ref)
        if not here:
            raise MgzooError("no weights to average", remedy="give artifacts with weights", origin=str(ref))
        if total and _shapes(here) != _shapes(total):
            name = sorted(_shapes(here) ^ _shapes(total))[0][0]
            raise MgzooError(f"{name} differs in shape or is missing in some models", remedy="average models of the same recipe", origin=str(ref))
        for part, state in here.items():
            sums = total.setdefault(part, {})
            for key, value in state.items():
                sums[key] = sums[key] + value.float() if key in sums else value.float()
    return {part: {key: value / len(refs) for key, value in state.items()} for part, state in total.items()}


def _shapes(parts: Mapping[str, Mapping[str, Tensor]]) -> set[tuple[str, tuple[int, ...]]]:
    return {(f"{part}/{key}", tuple(value.shape)) for part, state in parts.items() for key, value in state.items()}
