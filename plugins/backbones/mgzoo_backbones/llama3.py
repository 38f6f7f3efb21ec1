"""The LLaMa3-style backbone of Movie Gen (section 3.1 of the paper): what it has of its own.

Against LLaMa3: cross-attention in every block, adaLN modulation by the timestep, bidirectional attention. The forward is
`transformer.Transformer`'s.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mgzoo_backbones.transformer import Transformer


class Normalise(torch.autograd.Function):
    """``x / sqrt(mean(x^2) + eps)`` over the last axis; the root in float32 at least.

    F.rms_norm has no fast CPU kernel in bfloat16 (10 times slower). Autograd of the plain formula passes over the tokens in float32
    several times (3 times slower) and saves its input besides its output.
    """

    @staticmethod
    def forward(ctx, x_BSD: Tensor, eps: float) -> Tensor:
        precise = torch.promote_types(x_BSD.dtype, torch.float32)
        norm_BS1 = torch.linalg.vector_norm(x_BSD, dim=-1, keepdim=True, dtype=precise)
        inverse_BS1 = torch.rsqrt(norm_BS1.square() / x_BSD.shape[-1] + eps).to(x_BSD.dtype)
        y_BSD = x_BSD * inverse_BS1
        ctx.save_for_backward(y_BSD, inverse_BS1)
        return y_BSD

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_BSD: Tensor):
        y_BSD, inverse_BS1 = ctx.saved_tensors
        along_BS1 = (grad_BSD * y_BSD).sum(-1, keepdim=True) / -y_BSD.shape[-1]
        return torch.addcmul(grad_BSD, y_BSD, along_BS1).mul_(inverse_BS1), None


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x^2) + eps) * weight``, then ``* scale + shift``."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BSD: Tensor, shift_B1D: Tensor, scale_B1D: Tensor) -> Tensor:
        return torch.addcmul(shift_B1D, Normalise.apply(x_BSD, self.eps), self.weight * scale_B1D)


class SwiGLU(nn.Module):
    """``w2(silu(w1 x) * w3 x)``, with w1 and w3 in one product."""

    def __init__(self, width: int, hidden: int, bias: bool):
        super().__init__()
        self.w13 = nn.Linear(width, 2 * hidden, bias=bias)
        self.w2 = nn.Linear(hidden, width, bias=bias)

    def forward(self, x_BSD: Tensor) -> Tensor:
        gate, value = self.w13(x_BSD).chunk(2, dim=-1)
        return self.w2(F.silu(gate) * value)


class Llama3(Transformer):
    """``backbones.llama3.v1``."""

    Norm = RMSNorm
    FeedForward = SwiGLU
