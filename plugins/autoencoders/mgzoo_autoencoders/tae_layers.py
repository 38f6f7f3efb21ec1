"""Layers of the temporal autoencoder (Movie Gen, section 3.1.1): normalisation, residual block, attention in space and in time.

Shape letters: B batch, C channels, T H W time/height/width of the tensor at hand, N = B*T frames, P = H*W positions of a frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo_autoencoders.configs import TaeConfig
from mgzoo_autoencoders.tae_convolutions import FrameStream, convolution


class Norm(nn.Module):
    """Normalisation of every frame on its own (our choice): ``group``, GroupNorm with eps 1e-6 over the frame, or ``rms``, root
    mean square over the channels of each position.

    Statistics over time would make a frame depend on which frames share its tile, and would set images apart from videos.
    On a CPU, torch's GroupNorm is the faster one where a group has 16 channels or more (ten times slower backward below).
    """

    def __init__(self, channels: int, config: TaeConfig):
        super().__init__()
        self.groups = config.groups if config.norm == "group" else None
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if self.groups else None

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        if self.groups is None:
            return F.rms_norm(x_BTHWC, self.weight.shape, self.weight, 1e-6)
        x_NCHW = F.group_norm(x_BTHWC.flatten(0, 1).movedim(-1, 1), self.groups, self.weight, self.bias, 1e-6)
        return x_NCHW.movedim(1, -1).unflatten(0, x_BTHWC.shape[:2])

    def activate(self, x_BTHWC: Tensor) -> Tensor:
        """SiLU of the normalised activations, in place: for inference."""
        return F.silu(self(x_BTHWC), inplace=True)


class ResidualBlock(nn.Module):
    """Norm, SiLU and convolution, twice, added to the input; a 1x1 projection of the input where the width changes."""

    def __init__(self, c_in: int, c_out: int, config: TaeConfig):
        super().__init__()
        self.norm1 = Norm(c_in, config)
        self.conv1 = convolution(c_in, c_out, config)
        self.norm2 = Norm(c_out, config)
        self.conv2 = convolution(c_out, c_out, config)
        self.project = nn.Linear(c_in, c_out) if c_in != c_out else None

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x_BTHWC)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x_BTHWC if self.project is None else self.project(x_BTHWC))

    def stream(self, frames: FrameStream) -> FrameStream:
        """`forward`, frame by frame."""
        frames, residuals = tee(frames, self.project)
        frames = self.conv1.stream(map(self.norm1.activate, frames))
        for h in self.conv2.stream(map(self.norm2.activate, frames)):
            yield h.add_(residuals.popleft())


def tee(frames: FrameStream, path: Callable[[Tensor], Tensor] | None = None) -> tuple[FrameStream, deque[Tensor]]:
    """The same stream, and a queue that collects ``path`` (default identity) of each frame that has passed through it."""
    passed: deque[Tensor] = deque()

    def passing() -> FrameStream:
        for x in frames:
            passed.append(x if path is None else path(x))
            yield x

    return passing(), passed


class Attention(nn.Module):
    """Single-head self-attention with a residual: over the H*W positions of a frame, or over the T frames of a position.

    Over time it starts with a zero output, so that a new video model computes what the image model does.
    """

    def __init__(self, channels: int, config: TaeConfig, *, over_time: bool):
        super().__init__()
        self.over_time = over_time
        self.norm = Norm(channels, config)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        if over_time:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        B, T, H, W, C = x_BTHWC.shape
        h = self.norm(x_BTHWC).view(B, T, H * W, C)
        if self.over_time:
            h = h.transpose(1, 2)
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        h = self.out(F.scaled_dot_product_attention(q, k, v))
        if self.over_time:
            h = h.transpose(1, 2)
        return x_BTHWC + h.reshape(x_BTHWC.shape)


def middle(width: int, config: TaeConfig) -> list[nn.Module]:
    """The coarsest level: residual block, spatial attention, temporal attention (identity in an image model), residual block."""
    attention = []
    if config.attention:
        temporal = Attention(width, config, over_time=True) if config.temporal != "2d" else nn.Identity()
        attention = [Attention(width, config, over_time=False), temporal]
    return [ResidualBlock(width, width, config), *attention, ResidualBlock(width, width, config)]
