"""adaLN: modulation of every layer by the timestep, as in DiT (Peebles and Xie 2023) with one projection for all layers.

The timestep's features (`sinusoid`) and the vector conditions give six vectors per sample, shared by all layers; each layer adds its own
table to them (`modulate`). A norm then scales and shifts its output, and a branch is multiplied by its gate (`per_sample`). Movie Gen
(section 3.1) names adaLN, not its form: this one, with 6 D^2 parameters in all and not per layer, is our choice.

Shape letters: B samples, S tokens of one sample, N tokens of a packed batch, D model width, K vectors of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mgzoo_backbones.attention import Segments


def sinusoid(t_B: Tensor, channels: int, longest: float = 10_000.0) -> Tensor:
    """Sinusoidal features (B, channels) of t, float32: cosines, then sines, of periods from 2 pi to ``longest`` * 2 pi."""
    half = channels // 2
    frequencies = torch.exp(-math.log(longest) * torch.arange(half, device=t_B.device) / half)
    angles = t_B[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def modulate(table_KD: Tensor, values_BKD: Tensor, scales: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
    """A layer's own table (K, D) + the timestep's vectors (B, K, D) -> K vectors (B, D) that shift, scale or gate its tokens.

    scales: indices of the scales, to which one is added. Summed in float32, because 1 + a small scale loses the scale in bfloat16.
    """
    vectors = (table_KD.float() + values_BKD.float()).unbind(1)
    return [(v_BD + 1 if i in scales else v_BD).to(dtype) for i, v_BD in enumerate(vectors)]


def per_sample(queries: Segments, f: Callable[..., Tensor], tokens: Sequence[Tensor], vectors: Sequence[Tensor]) -> Tensor:
    """``f(*tokens, *vectors)`` where every sample has its own vectors (B, D): tokens (B, S, D), or (1, N, D) of a packed batch.

    Samples of a packed batch are computed one by one. Expanding the vectors to the tokens instead would keep several copies as
    large as the tokens for the backward pass, and sum their gradients in the tokens' dtype.
    """
    if queries.uniform:
        return f(*tokens, *(v_BD[:, None] for v_BD in vectors))
    split = zip(*(x_1ND.split(queries.lengths, dim=1) for x_1ND in tokens), *vectors)
    return torch.cat([f(*sample) for sample in split], dim=1)
