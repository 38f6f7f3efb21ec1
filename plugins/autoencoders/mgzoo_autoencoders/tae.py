"""Temporal autoencoder (TAE): Movie Gen, section 3.1.1, in 2.5-D or in full 3-D.

In the order of the paper: `tae_convolutions` (inflated convolutions), `tae_layers` (residual block, attention in space and time),
`tae_resampling` (strides in time and space), `tae_encoder`, `tae_decoder`, the model (here), its initialisation from an image
autoencoder (`inflate`, here), the outlier penalty (`reconstruction_losses`) and tiling (`tae_tiling`). Our addition:
`tae_block_transform`.

Shape letters: B batch, C channels, T H W latent axes, F frames, Y X pixel height/width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.spec import MgzooError
from mgzoo_autoencoders.configs import TaeConfig
from mgzoo_autoencoders.tae_block_transform import BlockTransform
from mgzoo_autoencoders.tae_convolutions import Conv, inflate_weight
from mgzoo_autoencoders.tae_decoder import Decoder
from mgzoo_autoencoders.tae_encoder import Encoder
from mgzoo_autoencoders.tae_resampling import from_channels, shortcut_shape, to_channels
from mgzoo_autoencoders.tae_tiling import blend_over_space, blend_over_time, scaled, tiles

LOGVAR_RANGE = (-30.0, 20.0)
HEAD_GAIN = 0.1  # of the network beside a block transform: Adam's first steps on its last layers must not drown the codec
START_LOGVAR = -6.0  # a posterior as wide as the prior would drown the latents in noise for the first thousands of steps


class Tae(nn.Module):
    """Movie Gen's temporal autoencoder: media float (B, 3, F, Y, X) in [-1, 1] <-> normalised latents (B, C, T, H, W).

    Any number of frames and any size: T = ceil(F / stride), and the decoder's spurious frames and pixels are dropped. An
    image is a one-frame video. The statistics that normalise the latents are buffers, set by `calibrate` and saved with
    the weights.
    """

    def __init__(self, config: TaeConfig):
        super().__init__()
        self.config = config
        self.spec = config.latent_spec()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.blocks = None
        if config.linear:
            self.blocks = BlockTransform(config.channels, config.in_channels, self.spec.stride[0], self.spec.stride[1])
            for head in (self.encoder.head, self.decoder.head):
                last = head.spatial if isinstance(head, Conv) else head
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        self.register_buffer("latent_mean", torch.zeros(config.channels))
        self.register_buffer("latent_std", torch.ones(config.channels))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.encoder.stem.parameters()).dtype

    def posterior(self, media: Tensor) -> tuple[Tensor, Tensor]:
        """Media (B, 3, F, Y, X) in [-1, 1] -> raw (not normalised) mean and log-variance (B, C, T, H, W), float32, untiled."""
        p, s = self.config.patch, self.spec.stride[1]
        Y, X = media.shape[-2:]
        media = media.to(self.dtype)
        if Y % s or X % s:
            media = F.pad(media.flatten(1, 2), (0, -X % s, 0, -Y % s), mode="replicate").unflatten(1, media.shape[1:3])
        pixels_BTHWC = media.permute(0, 2, 3, 4, 1).contiguous()
        mean, logvar = self.encoder(to_channels(pixels_BTHWC, 1, p, p)).movedim(-1, 1).float().chunk(2, dim=1)
        if self.blocks is not None:
            mean = HEAD_GAIN * mean + self.blocks.analyse(pixels_BTHWC).movedim(-1, 1)
        return mean, (logvar + START_LOGVAR).clamp(*LOGVAR_RANGE)

    def pixels(self, raw: Tensor, frames: int | None = None) -> Tensor:
        """Raw latents (B, C, T, H, W) -> the first ``frames`` (default all) of the decoded media (B, 3, F, Y, X), float32,
        untiled, not cropped in space."""
        frames = frames or raw.shape[2] * self.spec.stride[0]
        z_BTHWC, p = raw.to(self.dtype).movedim(1, -1).contiguous(), self.config.patch
        linear = self.blocks.synthesise(z_BTHWC)[:, :frames] if self.blocks is not None else None
        # Weights that ZeRO stage 3 has split among the ranks are empty, and whole only while their own layer's forward runs.
        if torch.is_grad_enabled() or not all(p.numel() for p in self.decoder.parameters()):
            pixels_BTHWC = from_channels(self.decoder(z_BTHWC, frames), 1, p, p)
            return (pixels_BTHWC if linear is None else HEAD_GAIN * pixels_BTHWC + linear).movedim(-1, 1).float()
        B, _, H, W = (s * stride for s, stride in zip(z_BTHWC.shape, (1, *self.spec.stride)))
        out = z_BTHWC.new_empty(B, self.config.in_channels, frames, H, W, dtype=torch.float32)
        for f, frame in enumerate(self.decoder.stream(z_BTHWC, frames)):
            frame = from_channels(frame, 1, p, p)
            out[:, :, f : f + 1] = (frame if linear is None else HEAD_GAIN * frame + linear[:, f : f + 1]).movedim(-1, 1)
        return out

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw latents -> latents of zero mean and unit deviation per channel."""
        return (raw - per_channel(self.latent_mean)) / per_channel(self.latent_std)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return latents.float() * per_channel(self.latent_std) + per_channel(self.latent_mean)

    def encode(self, media: Tensor) -> Tensor:
        """Media float (B, 3, F, Y, X) in [-1, 1] -> normalised latents (B, C, T, H, W) float32: the posterior mean.

        A video longer than `tile_frames` is cut into tiles without overlap (Movie Gen, section 3.1.1). Frames larger than
        `tile_height` or `tile_width` are cut into overlapping tiles whose latents are blended."""
        stride, (H, W) = self.spec.stride[1], self.spec.axes(*media.shape[2:])[1:]

        def means(part: Tensor) -> Tensor:
            return self._blend_over_space(H, W, 1, lambda y, x: self.posterior(part[..., scaled(y, stride), scaled(x, stride)])[0])

        return torch.cat([self.normalise(means(part)) for part in media.split(self.config.tile_frames, dim=2)], dim=2)

    def decode(self, latents: Tensor, like: Sequence[int]) -> Tensor:
        """Normalised latents -> media float32 of size ``like`` = (F, Y, X); frames and pixels beyond it are dropped.

        Larger than a tile in time (`tile_frames`) or space (`tile_height`, `tile_width`), latents are decoded in overlapping
        tiles that are blended (see `tae_tiling`)."""
        frames, height, width = like
        stride, scale = self.spec.stride[:2]
        tile, overlap = self.config.tile_frames // stride, self.config.tile_overlap // stride
        raw = self.denormalise(latents)

        def media(times: slice, frames: int) -> Tensor:
            part = raw[:, :, times]
            return self._blend_over_space(*part.shape[-2:], scale, lambda y, x: self.pixels(part[..., y, x], frames))[..., :height, :width]

        if (T := raw.shape[2]) <= tile:
            return media(slice(0, T), frames)
        out = raw.new_zeros(len(raw), self.config.in_channels, frames, height, width)
        return blend_over_time(media, out, T, tile, overlap, stride)

    def _blend_over_space(self, H: int, W: int, scale: int, decode: Callable[[slice, slice], Tensor]) -> Tensor:
        c, stride = self.config, self.spec.stride[1]
        overlap = c.tile_space_overlap // stride
        rows, columns = tiles(H, c.tile_height // stride, overlap), tiles(W, c.tile_width // stride, overlap)
        return blend_over_space(decode, rows, columns, overlap, scale)

    def fit(self, media: Iterable[Tensor]) -> None:
        """Initialise the linear block transform, if there is one, from the principal components of batches (B, 3, F, Y, X)."""
        if self.blocks is not None:
            self.blocks.fit(batch.permute(0, 2, 3, 4, 1) for batch in media)

    @torch.no_grad()
    def calibrate(self, raw: Iterable[Tensor]) -> None:
        """Set the normalisation from batches of raw latents (B, C, T, H, W): mean and deviation of each channel."""
        count, total, square = 0, 0.0, 0.0
        for batch in raw:
            x = batch.double().movedim(1, 0).flatten(1)
            count, total, square = count + x.shape[1], total + x.sum(1), square + x.square().sum(1)
        assert count, "no latents to calibrate with"
        mean = total / count
        self.latent_mean.copy_(mean)
        self.latent_std.copy_((square / count - mean.square()).clamp_min(1e-12).sqrt())


def per_channel(x_C: Tensor) -> Tensor:
    """(C,) -> float32 (C, 1, 1, 1), to broadcast over latents."""
    return x_C.float()[:, None, None, None]


@torch.no_grad()
def inflate(image: Tae, config: TaeConfig) -> Tae:
    """A temporal autoencoder initialised from an image autoencoder, so that it computes the same (Movie Gen, section 3.1.1).

    image: built with ``temporal="2d"``. config: the same network with ``temporal`` "2.5d" or "3d" and any temporal strides. On one
    frame both give the same latents and the same image. Without `shortcut` and `linear`, latent i of a video is the image
    latent of frame ``i * stride``, and each decoded image is repeated ``stride`` times. Raises MgzooError if the configs do
    not match, or if `shortcut` would turn channels into frames, which an image model does not have.
    """
    ours, theirs = (dataclasses.asdict(c) for c in (config, image.config))
    free = {"temporal", "time_strides", "space"} | {name for name in ours if name.startswith("tile_")}
    if differ := sorted(name for name in ours if name not in free and ours[name] != theirs[name]):
        what = f"cannot inflate: {', '.join(differ)} differ from the image autoencoder's"
        raise MgzooError(what, remedy="copy these fields from its config")
    levels = zip(config.widths, config.widths[1:], config.time_strides, config.space_strides)
    if config.shortcut and any(time > 1 and shortcut_shape(fine, coarse, (time, space))[0] > 1 for fine, coarse, time, space in levels):
        what = "cannot inflate with shortcuts that turn channels into frames"
        raise MgzooError(what, remedy="set shortcut: false, or the time stride to 1 where the width doubles")
    video = Tae(config)
    weights = image.state_dict()
    if config.linear:
        time, scales = video.spec.stride[0], (image.blocks.scale, video.blocks.scale)
        weights["blocks.analysis.weight"] = weights["blocks.analysis.weight"].repeat(1, time) * (scales[0] / scales[1] / time)
        weights["blocks.synthesis.weight"] = weights["blocks.synthesis.weight"].repeat(time, 1)
    if config.temporal == "3d":
        pairs = {name.removesuffix(".spatial"): module for name, module in image.named_modules() if name.endswith(".spatial")}
        for name, spatial in pairs.items():
            weights[f"{name}.weight"] = inflate_weight(weights.pop(f"{name}.spatial.weight"))
            weights[f"{name}.bias"] = weights.pop(f"{name}.spatial.bias")
    left = video.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys, left.unexpected_keys
    return video.to(image.dtype)
