"""What the backbone may be told, and what it costs in closed form; no torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mgzoo.spec import ConditionSpec, LatentSpec, option


@dataclass(frozen=True, kw_only=True)
class MixerConfig:
    """A convolutional mixer: tokens are mixed by depthwise convolutions, channels by a feed-forward."""

    depth: int = option(8, "blocks")
    width: int = option(256, "channels of a token; even")
    kernel: int = option(3, "tokens along each axis that a block mixes; odd")
    patch: tuple[int, ...] = option((1, 2, 2), "latents per token along each axis: (t, h, w) for video, (t,) for sound")

    def __post_init__(self):
        for name in ("depth", "width", "kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.kernel % 2 == 0 or self.width % 2:
            raise ValueError(f"kernel must be odd and width even, not {self.kernel} and {self.width}")
        if len(self.patch) not in (1, 2, 3) or min(self.patch) < 1:
            raise ValueError(f"patch names one to three axes, each at least 1, not {self.patch}")

    @classmethod
    def tiny(cls):
        """Under 0.2 M parameters."""
        return cls(depth=3, width=64)

    def num_tokens(self, axes: Sequence[int]) -> int:
        """Tokens of one latent of these sizes."""
        return math.prod(size // patch for size, patch in zip(axes, self.patch, strict=True))

    def validate_shapes(self, latent: LatentSpec, conditions: Sequence[ConditionSpec], axes: Sequence[int] | None = None) -> list[str]:
        """What does not fit, one sentence each: the latent's rank, and sizes (in latents) that do not divide by the patch."""
        if len(latent.stride) != len(self.patch):
            return [f"patch {self.patch} has {len(self.patch)} axes, but latents of {latent.space} have {len(latent.stride)}"]
        if axes is None:
            return []
        if len(axes) != len(self.patch):
            return [f"latent sizes {tuple(axes)} have {len(axes)} axes, but patch {self.patch} has {len(self.patch)}"]
        return [f"latent size {n} is not a multiple of the patch {p}" for n, p in zip(axes, self.patch) if n < 1 or n % p]

    def num_parameters(self, latent: LatentSpec, conditions: Sequence[ConditionSpec], concat_channels: int = 0) -> int:
        """Parameters of the built backbone, exactly."""
        d, cells = self.width, math.prod(self.patch)
        ends = (latent.channels + concat_channels) * cells * d + d + d + d * latent.channels * cells + latent.channels
        time = 2 * (d * d + d)
        block = self.kernel ** len(self.patch) * d + d + d + (2 * d * d + 2 * d) + (2 * d * d + d) + (2 * d * d + 2 * d)
        return ends + time + self.depth * block + sum(c.dim * d + d for c in conditions)

    def flops(self, latent: LatentSpec, axes: Sequence[int], condition_tokens: int, concat_channels: int = 0) -> int:
        """FLOPs of one sample's forward pass: two per multiply-add of convolutions and products on the latent tokens."""
        n, d, cells = self.num_tokens(axes), self.width, math.prod(self.patch)
        ends = d * (2 * latent.channels + concat_channels) * cells
        return 2 * n * (ends + self.depth * (self.kernel ** len(self.patch) * d + 4 * d * d))
