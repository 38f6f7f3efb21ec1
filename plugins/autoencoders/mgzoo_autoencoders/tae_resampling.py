"""Temporal and spatial down- and upsampling (Movie Gen, section 3.1.1), with optional shortcuts that have no parameters.

Shape letters: B batch, C channels, T H W time/height/width of the tensor at hand, N = B*T frames, P = H*W positions of a frame.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo_autoencoders.configs import TaeConfig
from mgzoo_autoencoders.tae_convolutions import FrameStream, Stride, convolution
from mgzoo_autoencoders.tae_layers import tee


class Downsample(nn.Module):
    """Strided convolution; with ``shortcut`` also a parameter-free path beside it, as in the deep compression autoencoder (Chen
    et al. 2024): blocks of positions are folded into channels as far as these suffice; the other axes are averaged."""

    def __init__(self, c_in: int, c_out: int, stride: Stride, config: TaeConfig):
        super().__init__()
        self.c_out, self.stride, self.shortcut = c_out, stride, config.shortcut
        self.conv = convolution(c_in, c_out, config, stride=stride)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        h = self.conv(x_BTHWC)
        return h + self._shortcut(x_BTHWC) if self.shortcut else h

    def _shortcut(self, x: Tensor) -> Tensor:
        (time, space), (t, height, width) = self.stride, shortcut_shape(x.shape[-1], self.c_out, self.stride)
        if t < time:
            if x.shape[1] % 2:
                x = torch.cat([x, x[:, -1:]], dim=1)
            x = (x[:, ::2] + x[:, 1::2]) / 2
        if width < space:
            x = (x[:, :, :, ::2] + x[:, :, :, 1::2]) / 2
        if height < space:
            x = (x[:, :, ::2] + x[:, :, 1::2]) / 2
        return to_channels_shortcut(to_channels(x, t, height, width), self.c_out)


class Upsample(nn.Module):
    """Nearest x2 and convolution, in space, then in time; with ``shortcut`` also a parameter-free path beside it, the mirror of
    `Downsample`'s: channels are unfolded into positions as far as they suffice; the other axes are repeated."""

    def __init__(self, c_in: int, c_out: int, stride: Stride, config: TaeConfig):
        super().__init__()
        self.c_out, self.stride, self.shortcut = c_out, stride, config.shortcut
        self.conv = convolution(c_in, c_out, config, up=stride)

    def forward(self, x_BTHWC: Tensor, frames: int) -> Tensor:
        """frames: number of upsampled frames to keep."""
        h = self.conv(x_BTHWC, frames)
        return h + self._shortcut(x_BTHWC)[:, :frames] if self.shortcut else h

    def stream(self, frames: FrameStream) -> FrameStream:
        """`forward`, frame by frame."""
        if not self.shortcut:
            yield from self.conv.stream(frames)
            return
        frames, inputs = tee(frames)
        shortcuts = (y for _ in itertools.count() for y in self._shortcut(inputs.popleft()).split(1, dim=1))
        for h in self.conv.stream(frames):
            yield h.add_(next(shortcuts))

    def _shortcut(self, x: Tensor) -> Tensor:
        (time, space), (t, height, width) = self.stride, shortcut_shape(self.c_out, x.shape[-1], self.stride)
        x = from_channels(to_channels_shortcut(x, self.c_out * t * height * width), t, height, width)
        if height < space or width < space:
            x_NCHW, scale = x.flatten(0, 1).movedim(-1, 1), (space // height, space // width)
            x = F.interpolate(x_NCHW, scale_factor=scale, mode="nearest").movedim(1, -1).unflatten(0, x.shape[:2])
        return x if t == time else torch.stack([x, x], dim=2).flatten(1, 2)


def shortcut_shape(channels: int, more: int, stride: Stride) -> tuple[int, int, int]:
    """(time, height, width) of the blocks that a shortcut folds when ``channels`` become ``more``.

    Rows are folded first, then columns, then frames, because a small block varies least over time (our choice)."""
    free, kept = max(more // channels, 1), []
    for size in (stride[1], stride[1], stride[0]):
        kept.append(size if free >= size else 1)
        free //= kept[-1]
    return kept[2], kept[0], kept[1]


def to_channels_shortcut(x: Tensor, channels: int) -> Tensor:
    """Change the number of channels (last axis) without parameters: mean of neighbouring channels, or all channels repeated."""
    C = x.shape[-1]
    if C > channels:
        return x.unflatten(-1, (channels, C // channels)).mean(-1)
    return x.repeat(1, 1, 1, 1, channels // C) if C < channels else x


def to_channels(x_BTHWC: Tensor, time: int, height: int, width: int) -> Tensor:
    """Fold blocks of time x height x width positions into channels, in this order, the old channels fastest. Frames that the last
    block lacks are copies of the last one."""
    if missing := -x_BTHWC.shape[1] % time:
        x_BTHWC = torch.cat([x_BTHWC, x_BTHWC[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1)
    B, T, H, W, C = x_BTHWC.shape
    x = x_BTHWC.reshape(B, T // time, time, H // height, height, W // width, width, C)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)


def from_channels(x_BTHWC: Tensor, time: int, height: int, width: int) -> Tensor:
    """The inverse of `to_channels`."""
    x = x_BTHWC.unflatten(-1, (time, height, width, -1))
    B, T, H, W, _, _, _, C = x.shape
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(B, T * time, H * height, W * width, C)
