"""Encoder of the temporal autoencoder (Movie Gen, section 3.1.1; levels and blocks as in the latent diffusion autoencoder).

Shape letters: B batch, T H W axes of the input, t h w axes of the latents, C latent channels, p patch.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo_autoencoders.configs import TaeConfig
from mgzoo_autoencoders.tae_convolutions import convolution
from mgzoo_autoencoders.tae_layers import Norm, ResidualBlock, middle
from mgzoo_autoencoders.tae_resampling import Downsample


class Encoder(nn.Module):
    """Pixels folded by the patch p (B, T, H, W, 3 p p) -> mean and log-variance of the posterior (B, t, h, w, 2 C)."""

    def __init__(self, config: TaeConfig):
        super().__init__()
        widths = config.widths
        self.stem = convolution(config.in_channels * config.patch**2, widths[0], config)
        self.stages = nn.ModuleList()
        width = widths[0]
        for level, c in enumerate(widths):
            for _ in range(config.encoder_blocks[level]):
                self.stages.append(ResidualBlock(width, c, config))
                width = c
            if level + 1 < len(widths):
                c_out = widths[level + 1] if config.changes_width(config.encoder_blocks, level + 1) else c
                self.stages.append(Downsample(width, c_out, (config.time_strides[level], config.space_strides[level]), config))
                width = c_out
        self.stages.extend(middle(widths[-1], config))
        self.norm = Norm(widths[-1], config)
        self.head = convolution(widths[-1], 2 * config.channels, config)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        x = self.stem(x_BTHWC)
        for stage in self.stages:
            x = stage(x)
        return self.head(F.silu(self.norm(x)))
