"""What the autoencoder may be told; no torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mgzoo.spec import LatentSpec, option


@dataclass(frozen=True, kw_only=True)
class PatchesConfig:
    """A linear codec of blocks of pixels, fitted to the data, and a small network that repairs what it gives back."""

    channels: int = option(16, "latent channels C; at most the numbers in a block")
    stride: tuple[int, int, int] = option((4, 8, 8), "size of a block: (frames, pixels, pixels)")
    width: int = option(64, "channels of the repairing network")
    space: str = option("frozen.patches", "identity of the latent space: change it when you train another codec")

    def __post_init__(self):
        if len(self.stride) != 3 or min(self.stride) < 1 or self.width < 1:
            raise ValueError(f"stride has three sizes and width is one, each at least 1, not {self.stride} and {self.width}")
        if not 1 <= self.channels <= self.block():
            raise ValueError(f"channels must be from 1 to the {self.block()} numbers of a block of {self.stride} pixels, not {self.channels}")

    @classmethod
    def tiny(cls):
        """Blocks of 2x4x4 in 16 channels."""
        return cls(stride=(2, 4, 4), width=16)

    def block(self) -> int:
        """Numbers in a block."""
        return 3 * math.prod(self.stride)

    def latent(self) -> LatentSpec:
        """The latent space; its name is what a backbone's weights are held against."""
        return LatentSpec(space=self.space, channels=self.channels, stride=self.stride)

    def parameters(self) -> int:
        """Two linear maps and two convolutions (the latent statistics are buffers)."""
        return 2 * self.channels * self.block() + (27 * self.width + self.width) + (27 * self.width + 3)

    def flops(self, frames: int, height: int, width: int) -> int:
        """FLOPs (two per multiply-add) of encoding one video of this size."""
        return 2 * self.channels * self.block() * math.prod(self.latent().axes(frames, height, width))
