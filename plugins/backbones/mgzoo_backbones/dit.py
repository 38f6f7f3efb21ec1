"""The DiT counterpart of the LLaMa3-style backbone (the architecture ablation of Movie Gen): what it has of its own.

It differs in exactly three things: LayerNorm (without weight and bias, as DiT has it), a plain SiLU MLP, and linear
biases. The forward is `transformer.Transformer`'s.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo_backbones.transformer import Transformer


class LayerNorm(nn.Module):
    """``(x - mean) / sqrt(var + eps)``, then ``* scale + shift``; no parameters."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.width, self.eps = width, eps

    def forward(self, x_BSD: Tensor, shift_B1D: Tensor, scale_B1D: Tensor) -> Tensor:
        return torch.addcmul(shift_B1D, F.layer_norm(x_BSD, (self.width,), eps=self.eps), scale_B1D)


class MLP(nn.Module):
    """``w2(silu(w1 x))``."""

    def __init__(self, width: int, hidden: int, bias: bool):
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=bias)
        self.w2 = nn.Linear(hidden, width, bias=bias)

    def forward(self, x_BSD: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x_BSD)))


class DiT(Transformer):
    """``backbones.dit.v1``."""

    Norm = LayerNorm
    FeedForward = MLP
