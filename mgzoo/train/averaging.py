"""Averages of weights: the exponential moving average kept while training, and the plain mean of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mgzoo.schema import Ema
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
    def update(self, masters: Sequence[Tensor], step: int) -> None:
        """Take in the weights after optimiser step `step` (1-based); steps that `every` leaves out are ignored."""
        if step % self.config.every:
            return
        n = self.updates
        decay = min(self.config.decay**self.config.every, (1 + n) / (10 + n))
        torch._foreach_lerp_(self.shards, [tensor.detach() for tensor in masters], 1 - decay)
        self.updates += 1


def average(folders: Sequence[str | Path]) -> dict[str, Tensor]:
    """Mean in float32 of several models' weights (Movie Gen, section 3.4: the average of fine-tuned models).

    folders: artifact folders of the same parts. Returns ``<part>/<file>`` -> tensors flattened as ``<part>/<name>``.
    Raises MgzooError where names or shapes differ.
    """
    total: dict[str, Tensor] = {}
    for folder in map(Path, folders):
        state = {f"{file.parent.relative_to(folder)}/{key}": value for file in sorted(folder.glob("*/*.safetensors")) for key, value in load_file(file).items()}
        state = {key: value for key, value in state.items() if not key.startswith("probe/")}
        if not state:
            raise MgzooError("no weights to average", remedy="name artifact folders", origin=str(folder))
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        if total and shapes != {key: tuple(value.shape) for key, value in total.items()}:
            odd = sorted(set(shapes.items()) ^ {(key, tuple(value.shape)) for key, value in total.items()})[0][0]
            raise MgzooError(f"{odd} is not the same tensor in every model", remedy="average models of one recipe", origin=str(folder))
        for key, value in state.items():
            total[key] = total[key] + value.float() if key in total else value.float()
    return {key: value / len(folders) for key, value in total.items()}


def blended(weights: Mapping[str, Tensor], averaged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` with the averaged ones in the place of those that have one."""
    return {name: averaged.get(name, value) for name, value in weights.items()}
