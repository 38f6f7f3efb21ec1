"""Decoder of the temporal autoencoder (Movie Gen, section 3.1.1; levels and blocks as in the latent diffusion autoencoder).

Large videos are decoded frame by frame (`stream`). Only the layers of the middle see further in time than one frame, so the result is
that of `forward` to rounding, while memory does not grow with the number of frames and a frame stays in the cache.

Shape letters: B batch, T H W axes of the output, t h w axes of the latents, C latent channels, p patch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo_autoencoders.configs import TaeConfig
from mgzoo_autoencoders.tae_convolutions import FrameStream, convolution
from mgzoo_autoencoders.tae_layers import Norm, ResidualBlock, middle
from mgzoo_autoencoders.tae_resampling import Upsample

STREAM_ABOVE = {"cpu": 2**20, "cuda": 2**27}  # activations of a layer above which a video is decoded frame by frame


class Decoder(nn.Module):
    """Raw latents (B, t, h, w, C) -> pixels folded by the patch p (B, T, H, W, 3 p p)."""

    def __init__(self, config: TaeConfig):
        super().__init__()
        widths = config.widths
        self.stem = convolution(config.channels, widths[-1], config)
        self.stages = nn.ModuleList(middle(widths[-1], config))
        self.middle = len(self.stages)
        width = widths[-1]
        for level in reversed(range(len(widths))):
            c = widths[level]
            for _ in range(config.decoder_blocks[level]):
                self.stages.append(ResidualBlock(width, c, config))
                width = c
            if level:
                c_out = widths[level - 1] if config.changes_width(config.decoder_blocks, level - 1) else c
                self.stages.append(Upsample(width, c_out, (config.time_strides[level - 1], config.space_strides[level - 1]), config))
                width = c_out
        self.time_stride = math.prod(config.time_strides)
        self.norm = Norm(widths[0], config)
        self.head = convolution(widths[0], config.in_channels * config.patch**2, config)

    def forward(self, z_BTHWC: Tensor, frames: int) -> Tensor:
        """frames: of the result. Spurious frames are dropped at every level, the mirror of the encoder's ceil(T / 2), so that a
        single image costs what it costs the image autoencoder."""
        x = self.stem(z_BTHWC)
        for stage, kept in self._stages(z_BTHWC.shape[1], frames):
            x = stage(x) if kept is None else stage(x, kept)
        return self.head(F.silu(self.norm(x)))

    def stream(self, z_BTHWC: Tensor, frames: int) -> FrameStream:
        """The frames of `forward`, for inference: the middle and all small stages at once, the others frame by frame."""
        x, stages = self.stem(z_BTHWC), list(self._stages(z_BTHWC.shape[1], frames))
        limit = STREAM_ABOVE["cuda" if x.is_cuda else "cpu"]
        for done, (stage, kept) in enumerate(stages):
            growth = math.prod((stage.stride[0], stage.stride[1] ** 2, stage.c_out)) / x.shape[-1] if isinstance(stage, Upsample) else 1
            if done >= self.middle and x.numel() * growth > limit:
                break
            x = stage(x) if kept is None else stage(x, kept)
        else:
            return iter(self.head(self.norm.activate(x)).split(1, dim=1))
        stream = iter(x.split(1, dim=1))
        for stage, kept in stages[done:]:
            stream = itertools.islice(stage.stream(stream), kept)
        return self.head.stream(map(self.norm.activate, stream))

    def _stages(self, T: int, frames: int) -> Iterator[tuple[nn.Module, int | None]]:
        """Each stage, with the number of frames to keep where it upsamples (else None). T: frames of the latents."""
        stride = self.time_stride
        for stage in self.stages:
            if isinstance(stage, Upsample):
                stride //= stage.stride[0]
                T = min(math.ceil(frames / stride), T * stage.stride[0])
                yield stage, T
            else:
                yield stage, None
