"""Averages of weights: the exponential moving average kept while training, and the plain mean of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mgzoo.recipe.schema import Ema
from mgzoo.spec import MgzooError


class Average:
    """Exponential moving average in float32 of this rank's shards of the master weights.

    Each rank averages only the shard that its optimiser owns, so it costs one pass over that shard and no communication.
    After n updates the decay is ``min(decay ** every, (1 + n) / (10 + n))``: the first updates follow the weights closely.
    """

    def __init__(self, config: Ema, masters: Sequence[Tensor]):
        self.config, self.updates = config, 0
        self.shards = [tensor.detach().clone() for tensor in masters]

    @torch.no_grad()
    def update(self, masters: Sequence[Tensor], step: int) -> bool:
        """Take in the weights after optimiser step `step` (1-based); False where `every` leaves that step out."""
        if step % self.config.every:
            return False
        n = self.updates
        decay = min(self.config.decay**self.config.every, (1 + n) / (10 + n))
        torch._foreach_lerp_(self.shards, [tensor.detach() for tensor in masters], 1 - decay)
        self.updates += 1
        return True


def average(folders: Sequence[str | Path]) -> dict[str, dict[str, Tensor]]:
    """Mean in float32 of several models' weights (as Movie Gen averages its fine-tuned models).

    folders: artifacts of one recipe, with their weights in ``<part>/*.safetensors``. Returns part name -> state, as
    ``mgzoo.model.save.save(state=)`` takes it. Raises MgzooError where names or shapes differ, or where there are no weights.
    """
    total: dict[str, dict[str, Tensor]] = {}
    for folder in map(Path, folders):
        here: dict[str, dict[str, Tensor]] = {}
        for file in sorted(folder.glob("*/*.safetensors")):
            if file.parent.name != "probe":
                here.setdefault(file.parent.name, {}).update(load_file(file))
        if not here:
            raise MgzooError("no weights to average", remedy="name artifact folders", origin=str(folder))
        if total and shapes(here) != shapes(total):
            name = sorted(shapes(here) ^ shapes(total))[0][0]
            raise MgzooError(f"{name} is not the same tensor in every model", remedy="average models of one recipe", origin=str(folder))
        for part, state in here.items():
            sums = total.setdefault(part, {})
            for key, value in state.items():
                sums[key] = sums[key] + value.float() if key in sums else value.float()
    return {part: {key: value / len(folders) for key, value in state.items()} for part, state in total.items()}


def shapes(parts: Mapping[str, Mapping[str, Tensor]]) -> set[tuple[str, tuple[int, ...]]]:
    """Every tensor's name and shape."""
    return {(f"{part}/{key}", tuple(value.shape)) for part, state in parts.items() for key, value in state.items()}
