"""The exponential moving average (EMA) of the weights, kept while training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgzoo.recipe.schema import Ema


class EMA:
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
