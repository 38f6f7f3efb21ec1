"""Diffusion with v-prediction and zero terminal SNR (Salimans and Ho 2022; Lin et al. 2023).

It is what Movie Gen's ablation compares flow matching with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mgzoo.parts import Latents
from mgzoo_samplers.configs import VDiffusionConfig
from mgzoo_samplers.noise import device_of, gaussian_like, mean_squared_error, per_sample
from mgzoo_samplers.schedules import noise_levels


class VDiffusion:
    """x_t = a(t) x1 + s(t) x0 and v = a(t) x0 - s(t) x1, so x1 = a x_t - s v and x0 = s x_t + a v; t uniform in [0, 1), plain MSE."""

    def __init__(self, config: VDiffusionConfig):
        self.config = config

    def pair(self, latents: Latents, generator: torch.Generator, t: Tensor | None = None) -> tuple[Latents, Tensor, Latents]:
        """Clean latents (B, C, *axes) or a list of (C, *axes) -> (noisy, t (B,), v), float32 on the latents' device.

        t is drawn first (unless given, in [0, 1]), then the noise, on the CPU generator.
        """
        if t is None:
            t = torch.rand(len(latents), generator=generator, dtype=torch.float32, device="cpu")
        device = device_of(latents)
        a, s = (level.to(device) for level in noise_levels(self.config.schedule, t))
        noise = gaussian_like(latents, generator)
        noisy = per_sample(lambda a, s, x1, x0: a * x1 + s * x0, (a, s), latents, noise)
        v = per_sample(lambda a, s, x1, x0: a * x0 - s * x1, (a, s), latents, noise)
        return noisy, t.to(device, torch.float32), v

    def loss(self, prediction: Latents, target: Latents, t: Tensor) -> Tensor:
        """Mean squared error in v, unweighted over t: scalar float32."""
        return mean_squared_error(prediction, target)
