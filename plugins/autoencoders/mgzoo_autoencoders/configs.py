"""Configs of the autoencoders plugin. No torch here.

Closed forms walk the same levels as `tae_encoder.Encoder` and `tae_decoder.Decoder`: (parameters, multiply-add FLOPs) of each layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Optional

from mgzoo.spec import LatentSpec, TaskConfig, option

Cost = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class TaeConfig:
    """Movie Gen's temporal autoencoder (section 3.1.1); widths and blocks as in the latent diffusion autoencoder it inflates."""

    in_channels: int = option(3, "media channels")
    channels: int = option(16, "latent channels C")
    widths: tuple[int, ...] = option((128, 256, 512, 512), "activation channels per level, fine to coarse")
    time_strides: tuple[int, ...] = option((2, 2, 2), "temporal stride between neighbouring levels, 1 or 2 each")
    space_strides: tuple[int, ...] = option((2, 2, 2), "spatial stride between neighbouring levels, 1 or 2 each")
    patch: int = option(1, "side of the pixel blocks folded into channels before the first convolution; 1: none, as in the paper")
    encoder_blocks: tuple[int, ...] = option((2, 2, 2, 2), "residual blocks per level of the encoder, fine to coarse")
    decoder_blocks: tuple[int, ...] = option((3, 3, 3, 3), "residual blocks per level of the decoder, fine to coarse")
    groups: int = option(32, "groups of GroupNorm; divides every width; 16 or more channels a group are fastest")
    norm: Literal["group", "rms"] = option("group", "GroupNorm over each frame, or RMS norm over the channels of each position")
    attention: bool = option(True, "attention in the middle: spatial, then temporal")
    temporal: Literal["2.5d", "3d", "2d"] = option(
        "2.5d", "2.5d: a temporal convolution after every spatial one; 3d: full 3x3x3 convolutions; 2d: no temporal layers, an image autoencoder"
    )
    shortcut: bool = option(False, "parameter-free shortcuts around every down- and upsampling; the resampling layers then also change the width")
    linear: bool = option(False, "a linear block transform (initialised as the DCT) in parallel to the network: training starts from a codec")
    space: str = option("autoencoders.tae16", "identity of the latent space")
    tile_frames: int = option(32, "frames per tile; longer videos are tiled")
    tile_overlap: int = option(16, "overlap of the decoder's tiles, in frames")
    tile_height: int = option(0, "pixels per tile; higher frames are encoded and decoded in tiles; 0 never tiles")
    tile_width: int = option(0, "pixels per tile; wider frames are encoded and decoded in tiles; 0 never tiles")
    tile_space_overlap: int = option(64, "minimum overlap of tiles in height and width, in pixels")

    def __post_init__(self):
        levels = len(self.widths)
        if not levels:
            raise ValueError("widths is empty: give one width per level")
        wanted = {"time_strides": levels - 1, "space_strides": levels - 1, "encoder_blocks": levels, "decoder_blocks": levels}
        for name, want in wanted.items():
            if len(getattr(self, name)) != want:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, but {levels} widths need {want}")
        if any(s not in (1, 2) for s in (*self.time_strides, *self.space_strides)):
            raise ValueError("time_strides and space_strides hold 1 or 2 for each step between levels")
        if self.norm == "group" and any(w % self.groups for w in self.widths):
            raise ValueError(f"groups={self.groups} does not divide every width in {self.widths}")
        if self.temporal == "2d" and any(s != 1 for s in self.time_strides):
            raise ValueError("temporal='2d' has no temporal strides: set every time_strides to 1")
        if self.shortcut and any(max(a, b) % min(a, b) for a, b in zip(self.widths, self.widths[1:])):
            raise ValueError(f"shortcut=True needs every width to divide its neighbour's, not {self.widths}")
        if min(self.patch, self.channels, self.in_channels) < 1:
            raise ValueError("patch, channels and in_channels are at least 1")
        if self.linear and self.channels > self.in_channels * math.prod(self.stride):
            raise ValueError(f"linear=True: channels={self.channels} exceeds the size of a block of {self.stride} pixels")
        stride, space = self.stride[:2]
        for name in ("tile_height", "tile_width"):
            tile = getattr(self, name)
            if tile and (tile % space or self.tile_space_overlap % space or not 0 <= 2 * self.tile_space_overlap <= tile):
                raise ValueError(
                    f"{name}={tile} and tile_space_overlap={self.tile_space_overlap} are multiples of the spatial stride {space}, "
                    "the overlap at most half a tile"
                )
        if self.tile_frames % stride or self.tile_overlap % stride or not 0 <= 2 * self.tile_overlap <= self.tile_frames:
            raise ValueError(
                f"tile_frames={self.tile_frames} and tile_overlap={self.tile_overlap} are multiples of the temporal stride "
                f"{stride}, the overlap at most half a tile"
            )

    @property
    def stride(self) -> tuple[int, int, int]:
        """Media samples per latent along (T, H, W)."""
        s = self.patch * math.prod(self.space_strides)
        return (math.prod(self.time_strides), s, s)

    def changes_width(self, blocks: tuple[int, ...], level: int) -> bool:
        """Whether the resampling before ``level`` changes the width, and not the level's first block."""
        return self.shortcut or not blocks[level]

    @classmethod
    def tiny(cls) -> TaeConfig:
        """8x8x8, 16 channels, 4 M parameters: 16 frames of 64x64 train in minutes on a CPU (our choice)."""
        return cls(
            widths=(32, 64, 128, 128), space_strides=(1, 2, 2), patch=2, groups=2,
            encoder_blocks=(0, 1, 1, 0), decoder_blocks=(0, 1, 2, 0), shortcut=True, linear=True,
        )

    def latent_spec(self) -> LatentSpec:
        return LatentSpec(space=self.space, channels=self.channels, stride=self.stride)

    def num_parameters(self) -> int:
        """Trainable parameters (the two normalisation vectors of C are buffers)."""
        blocks = 2 * self.channels * self.in_channels * math.prod(self.stride) if self.linear else 0
        return blocks + sum(p for p, _ in self._encoder(1, 1, 1)) + sum(p for p, _ in self._decoder())

    def flops(self, frames: int, height: int, width: int) -> int:
        """FLOPs (two per multiply-add) of encoding one video of this size untiled: convolutions, projections, attention."""
        _, s, _ = self.stride
        H, W = (math.ceil(x / s) * (s // self.patch) for x in (height, width))
        blocks = 0
        if self.linear:
            values = math.prod(self.stride) * math.prod(self.latent_spec().axes(frames, height, width))
            blocks = 2 * self.channels * self.in_channels * values
        return blocks + sum(f for _, f in self._encoder(frames, H, W))

    def _encoder(self, T: int, H: int, W: int) -> Iterator[Cost]:
        width = self.widths[0]
        yield self._conv(self.in_channels * self.patch**2, width, T, H, W)
        for level, c in enumerate(self.widths):
            for _ in range(self.encoder_blocks[level]):
                yield from self._block(width, c, T, H, W)
                width = c
            if level + 1 < len(self.widths):
                t, s = self.time_strides[level], self.space_strides[level]
                c_out = self.widths[level + 1] if self.changes_width(self.encoder_blocks, level + 1) else c
                yield self._conv(width, c_out, T, math.ceil(H / s), math.ceil(W / s), t)
                width, T, H, W = c_out, math.ceil(T / t), math.ceil(H / s), math.ceil(W / s)
        yield from self._middle(self.widths[-1], width, T, H, W)
        yield self._norm(self.widths[-1])
        yield self._conv(self.widths[-1], 2 * self.channels, T, H, W)

    def _decoder(self) -> Iterator[Cost]:
        width = self.widths[-1]
        yield self._conv(self.channels, width)
        yield from self._middle(width, width)
        for level in reversed(range(len(self.widths))):
            c = self.widths[level]
            for _ in range(self.decoder_blocks[level]):
                yield from self._block(width, c)
                width = c
            if level:
                c_out = self.widths[level - 1] if self.changes_width(self.decoder_blocks, level - 1) else c
                yield self._conv(width, c_out)
                width = c_out
        yield self._norm(self.widths[0])
        yield self._conv(self.widths[0], self.in_channels * self.patch**2)

    def _middle(self, c: int, c_in: int, T: int = 1, H: int = 1, W: int = 1) -> Iterator[Cost]:
        yield from self._block(c_in, c, T, H, W)
        if self.attention:
            projections = (4 * c * c + 4 * c, 8 * c * c * T * H * W)
            yield self._norm(c)
            yield projections
            yield 0, 4 * c * T * (H * W) ** 2
            if self.temporal != "2d":
                yield self._norm(c)
                yield projections
                yield 0, 4 * c * H * W * T**2
        yield from self._block(c, c, T, H, W)

    def _block(self, c_in: int, c_out: int, T: int = 1, H: int = 1, W: int = 1) -> Iterator[Cost]:
        yield self._norm(c_in)
        yield self._conv(c_in, c_out, T, H, W)
        yield self._norm(c_out)
        yield self._conv(c_out, c_out, T, H, W)
        if c_in != c_out:
            yield c_in * c_out + c_out, 2 * c_in * c_out * T * H * W

    def _conv(self, c_in: int, c_out: int, T: int = 1, H: int = 1, W: int = 1, time_stride: int = 1) -> Cost:
        if self.temporal == "3d":
            taps = 27 * c_in * c_out
            return taps + c_out, 2 * H * W * math.ceil(T / time_stride) * (taps // 3 if T == 1 else taps)
        spatial, temporal = 9 * c_in * c_out, 3 * c_out * c_out if self.temporal == "2.5d" else 0
        biases = c_out * (2 if temporal else 1)
        taken = temporal // 3 if T == 1 else temporal  # on one frame the three taps are one
        return spatial + temporal + biases, 2 * H * W * (T * spatial + math.ceil(T / time_stride) * taken)

    def _norm(self, c: int) -> Cost:
        return (2 * c if self.norm == "group" else c), 0


@dataclass(frozen=True, kw_only=True)
class FramewiseConfig(TaeConfig):
    """The image autoencoder that Movie Gen starts from, applied to every frame on its own: stride (1, 8, 8)."""

    time_strides: tuple[int, ...] = option((1, 1, 1), "1 for each step between levels: no temporal compression")
    temporal: Literal["2d"] = option("2d", "2d: no temporal layers")
    space: str = option("autoencoders.framewise16", "identity of the latent space")

    @classmethod
    def tiny(cls) -> FramewiseConfig:
        """The tiny TAE without time: 1x8x8, 16 channels."""
        return cls(
            widths=(32, 64, 128, 128), space_strides=(1, 2, 2), patch=2, groups=2,
            encoder_blocks=(0, 1, 1, 0), decoder_blocks=(0, 1, 2, 0), shortcut=True, linear=True,
        )


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig(TaskConfig):
    """Training an autoencoder. Every term is a mean over media elements, so that weights mean the same at every size.

    Movie Gen's published weight of the outlier penalty, 1e5, belongs to a reconstruction term that is summed over the
    3*Y*X elements of a frame; divided by that it is about 0.5 at 256 px, the default here.
    """

    l1: float = option(1.0, "weight of the mean absolute error, media in [-1, 1]")
    mse: float = option(0.0, "weight of the mean squared error; raises PSNR (our choice)")
    edges: float = option(0.0, "weight of the mean absolute error of spatial differences at three sizes (our choice)")
    perceptual: float = option(0.0, "weight of the distance of features; needs perceptual_weights")
    perceptual_weights: Optional[str] = option(None, "folder of the feature network: model.safetensors of 3x3 convolutions")
    kl: float = option(1e-6, "weight of the Kullback-Leibler term, summed over latents per media element, as in latent diffusion")
    opl: float = option(0.5, "weight of the outlier penalty on the sampled latents")
    opl_r: float = option(3.0, "deviations from the mean beyond which a latent is an outlier")
    adversarial: float = option(0.0, "weight of the adversarial term; 0 builds no discriminator")
    discriminator_width: int = option(64, "channels of the patch discriminator's first layer")
    image_share: float = option(0.25, "share of steps on one random frame of each clip: 1 image batch to 3 of video")

    def __post_init__(self):
        for name in ("l1", "mse", "edges", "perceptual", "kl", "opl", "adversarial"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a weight: at least 0, not {getattr(self, name)}")
        if not 0 <= self.image_share <= 1:
            raise ValueError(f"image_share is between 0 and 1, not {self.image_share}")
        if self.perceptual and self.perceptual_weights is None:
            raise ValueError("perceptual needs perceptual_weights, a folder with model.safetensors")
        if not (self.l1 or self.mse):
            raise ValueError("l1 and mse are both 0: the loss has no reconstruction term")

    @classmethod
    def tiny(cls) -> ReconstructConfig:
        """Weights for short trainings at 64 px."""
        return cls(mse=1.0, kl=0.1)

    def required_parts(self) -> tuple[str, ...]:
        return ("autoencoder",)

    def modalities(self) -> tuple[str, ...]:
        return ()

    def num_parameters(self) -> int:
        """Those of the discriminator, 0 without one."""
        if not self.adversarial:
            return 0
        w = self.discriminator_width
        return 16 * (3 * w + w * 2 * w + 2 * w * 4 * w) + w + 2 * w + 4 * w + 9 * 4 * w + 1
