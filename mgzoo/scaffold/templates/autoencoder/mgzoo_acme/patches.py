"""A linear codec of patches, the best there is for the data it is fitted to, with a small network after it.

Shape letters: B batch, C latent channels, T H W latent axes, F frames, Y X pixel height/width, N blocks, P numbers of a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from mgzoo_acme.configs import PatchesConfig
from torch import Tensor, nn

LOGVAR = -6.0  # of the posterior: next to no noise, since nothing but the linear map shapes the latents


class Patches(nn.Module):
    """Media float (B, 3, F, Y, X) in [-1, 1] <-> normalised latents (B, C, T, H, W), of any size: the last block is padded.

    `encode` and `decode` are what every task needs; `posterior`, `pixels`, `fit` and `calibrate` are what
    `autoencoders.reconstruct.v1` trains an autoencoder by.
    """

    def __init__(self, config: PatchesConfig):
        super().__init__()
        self.config, self.spec = config, config.latent_spec()
        self.analysis = nn.Linear(config.block(), config.channels, bias=False)
        self.synthesis = nn.Linear(config.channels, config.block(), bias=False)
        # frame by frame, so that an image is a video of one frame, and starting at zero: training starts from the codec
        self.widen = nn.Conv3d(3, config.width, (1, 3, 3), padding=(0, 1, 1))
        self.repair = nn.Conv3d(config.width, 3, (1, 3, 3), padding=(0, 1, 1))
        nn.init.orthogonal_(self.analysis.weight)
        with torch.no_grad():
            self.synthesis.weight.copy_(self.analysis.weight.T)
            self.repair.weight.zero_()
            self.repair.bias.zero_()
        self.register_buffer("latent_mean", torch.zeros(config.channels))
        self.register_buffer("latent_std", torch.ones(config.channels))

    def encode(self, media: Tensor) -> Tensor:
        """Media -> normalised latents, float32."""
        return (self.posterior(media)[0] - spread(self.latent_mean)) / spread(self.latent_std)

    def decode(self, latents: Tensor, like: Sequence[int]) -> Tensor:
        """Normalised latents -> media of size ``like`` = (F, Y, X), float32."""
        frames, height, width = like
        raw = latents.float() * spread(self.latent_std) + spread(self.latent_mean)
        return self.pixels(raw, frames)[..., :height, :width]

    def posterior(self, media: Tensor) -> tuple[Tensor, Tensor]:
        """Media -> raw (not normalised) mean and log-variance (B, C, T, H, W), float32."""
        mean = self.analysis(self._blocks(media.to(self.analysis.weight.dtype))).movedim(-1, 1).float()
        return mean, torch.full_like(mean, LOGVAR)

    def pixels(self, raw: Tensor, frames: int | None = None) -> Tensor:
        """Raw latents -> the first ``frames`` (default all) of their media, float32, not cropped in space."""
        x = self.synthesis(raw.to(self.synthesis.weight.dtype).movedim(1, -1))
        B, T, H, W, _ = x.shape
        t, h, w = self.config.stride
        x = x.view(B, T, H, W, 3, t, h, w).permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(B, 3, T * t, H * h, W * w)
        x = x[:, :, :frames]
        return (x + self.repair(F.gelu(self.widen(x)))).float()

    def _blocks(self, media: Tensor) -> Tensor:
        """Media -> blocks (B, T, H, W, P); incomplete ones repeat their last frame, row and column."""
        t, h, w = self.config.stride
        padding = [p for size, step in zip(reversed(media.shape[2:]), (w, h, t)) for p in (0, -size % step)]
        if any(padding):
            media = F.pad(media, padding, mode="replicate")
        B, _, frames, height, width = media.shape
        x = media.view(B, 3, frames // t, t, height // h, h, width // w, w)
        return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)

    @torch.no_grad()
    def fit(self, media: Iterable[Tensor]) -> None:
        """Start from the principal components, about zero and of unit power, of batches (B, 3, F, Y, X)."""
        moments, count = 0, 0
        for batch in media:
            blocks_NP = self._blocks(batch.float()).flatten(0, 3).double()
            moments, count = moments + blocks_NP.T @ blocks_NP, count + len(blocks_NP)
        power, vectors = torch.linalg.eigh(moments / count)
        largest = slice(-self.config.channels, None)  # eigenvalues come in ascending order
        scale = power[largest].clamp_min(1e-4).sqrt()
        self.analysis.weight.copy_((vectors[:, largest] / scale).T)
        self.synthesis.weight.copy_(vectors[:, largest] * scale)

    @torch.no_grad()
    def calibrate(self, raw: Iterable[Tensor]) -> None:
        """Set the statistics that normalise latents from batches of raw ones."""
        values_CN = torch.cat([batch.movedim(1, 0).flatten(1).float() for batch in raw], dim=1)
        self.latent_mean.copy_(values_CN.mean(1))
        self.latent_std.copy_(values_CN.std(1).clamp_min(1e-4))


def spread(values_C: Tensor) -> Tensor:
    """(C,) -> (C, 1, 1, 1)."""
    return values_C[:, None, None, None]
