"""A convolutional mixer (after Trockman and Kolter 2022), modulated by time and conditions.

Shape letters: B batch, C latent channels, D width, L condition tokens. Latents are (B, C, *axes), one to three axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mgzoo_acme.configs import MixerConfig
from torch import Tensor, nn

from mgzoo.parts import Condition, Conditions, Latents
from mgzoo.spec import ConditionSpec, LatentSpec, MgzooError

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
DECONV = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class Block(nn.Module):
    """Depthwise convolution over tokens, then a feed-forward over channels; time and conditions scale and shift what goes in."""

    def __init__(self, config: MixerConfig):
        super().__init__()
        d = config.width
        self.modulation = nn.Linear(d, 2 * d)
        self.mix = CONV[len(config.patch)](d, d, config.kernel, padding=config.kernel // 2, groups=d)
        self.norm = nn.Parameter(torch.ones(d))
        self.up = nn.Linear(d, 2 * d)
        self.down = nn.Linear(2 * d, d)

    def forward(self, x: Tensor, told_BD: Tensor) -> Tensor:
        """x (B, D, *axes)."""
        x = x + self.mix(x)
        scale, shift = (v.view(len(v), *[1] * (x.ndim - 2), -1) for v in self.modulation(told_BD).chunk(2, dim=-1))
        y = F.rms_norm(x.movedim(1, -1), self.norm.shape, self.norm, 1e-6) * (1 + scale) + shift
        return x + self.down(F.gelu(self.up(y))).movedim(-1, 1)


class Told(nn.Module):
    """One condition -> (B, D): the mean of its tokens or frames that count; a learned null where it is dropped or absent."""

    def __init__(self, spec: ConditionSpec, width: int):
        super().__init__()
        self.spec = spec
        self.project = nn.Linear(spec.dim, width, bias=False)
        self.null = nn.Parameter(torch.zeros(width))

    def forward(self, condition: Condition | None, batch: int) -> Tensor:
        if condition is None:
            if not self.spec.optional:
                raise MgzooError(f"condition {self.spec.name} is missing", remedy="provide it: the model requires this condition")
            return self.null.expand(batch, -1)
        values, mask = condition.values.to(self.null), condition.mask.to(self.null.device)
        if values.ndim == 3:
            counts_BL = mask if mask.ndim == 2 else mask[:, None].expand(values.shape[:2])
            values = torch.where(counts_BL[..., None], values, 0).sum(1) / counts_BL.sum(1, keepdim=True).clamp_min(1)
            mask = counts_BL.any(1)
        values = torch.where(mask[:, None], values, 0)  # what is dropped may be anything, infinities included
        return torch.where(mask[:, None], self.project(values), self.null)


class Mixer(nn.Module):
    """The backbone; `concat_channels` are extra input channels, whose weights start at zero."""

    def __init__(self, config: MixerConfig, *, latent: LatentSpec, conditions: Sequence[ConditionSpec] = (), concat_channels: int = 0):
        super().__init__()
        if problems := config.validate_shapes(latent, conditions):
            raise MgzooError("; ".join(problems), remedy="change patch to the latent's axes")
        self.config, self.latent, self.concat_channels = config, latent, concat_channels
        d, rank = config.width, len(config.patch)
        self.embed = CONV[rank](latent.channels + concat_channels, d, config.patch, stride=config.patch)
        self.time = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.told = nn.ModuleDict({c.name: Told(c, d) for c in conditions})
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.Parameter(torch.ones(d))
        self.output = DECONV[rank](d, latent.channels, config.patch, stride=config.patch)
        with torch.no_grad():
            self.embed.weight[:, latent.channels :].zero_()
            self.output.weight.zero_()
            self.output.bias.zero_()

    def forward(self, latents: Latents, t: Tensor, conditions: Conditions | None = None) -> Latents:
        """Latents (B, C + concat_channels, *axes), or a list of several sizes; t (B,) in [0, 1]; the same out, of C channels."""
        conditions = conditions or {}
        if unknown := sorted(conditions.keys() - self.told.keys()):
            raise MgzooError(f"unknown condition {', '.join(unknown)}; this backbone takes {', '.join(self.told) or 'none'}",
                             remedy="rename its encoder, or remove it")
        told_BD = self.time(sinusoid(1000 * t.float(), self.config.width).to(self.norm.dtype))
        for name, one in self.told.items():
            told_BD = told_BD + one(conditions.get(name), len(told_BD))
        told_BD = F.silu(told_BD)
        if isinstance(latents, list):
            return [self._one_size(x[None], told_BD[i : i + 1])[0] for i, x in enumerate(latents)]
        return self._one_size(latents, told_BD)

    def _one_size(self, x: Tensor, told_BD: Tensor) -> Tensor:
        channels, axes = self.latent.channels + self.concat_channels, tuple(x.shape[2:])
        if x.shape[1] != channels:
            raise MgzooError(f"latents of {x.shape[1]} channels given to a backbone for {channels}", remedy="give latents of the space it was built for")
        if problems := self.config.validate_shapes(self.latent, (), axes):
            raise MgzooError("; ".join(problems), remedy="choose a size that divides")
        x = self.embed(x.to(self.norm.dtype))
        for block in self.blocks:
            x = block(x, told_BD)
        x = F.rms_norm(x.movedim(1, -1), self.norm.shape, self.norm, 1e-6).movedim(-1, 1)
        return self.output(x)


def sinusoid(t_B: Tensor, channels: int) -> Tensor:
    """Features (B, channels) of t, float32: cosines, then sines, of periods from 2 pi to 10,000 * 2 pi."""
    half = channels // 2
    angles = t_B[:, None] * torch.exp(-math.log(10_000) * torch.arange(half, device=t_B.device) / half)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)
