"""Flow matching on straight paths (Lipman et al. 2023; Movie Gen, arXiv 2410.13720)."""

from __future__ import annotations

import torch
from torch import Tensor

from mgzoo.parts import Latents
from mgzoo_samplers.configs import FlowMatchingConfig
from mgzoo_samplers.noise import device_of, gaussian_like, mean_squared_error, per_sample


class FlowMatching:
    """x_t = t x1 + (1 - (1 - sigma_min) t) x0, velocity x1 - (1 - sigma_min) x0, t = sigmoid(t_mean + t_std n) with n normal, plain MSE."""

    def __init__(self, config: FlowMatchingConfig):
        self.config = config

    def pair(self, latents: Latents, generator: torch.Generator, t: Tensor | None = None) -> tuple[Latents, Tensor, Latents]:
        """Clean latents (B, C, *axes) or a list of (C, *axes) -> (noisy, t (B,), velocity), float32 on the latents' device.

        t is drawn first (unless given, in [0, 1]), then the noise, on the CPU generator.
        """
        if t is None:
            n = torch.randn(len(latents), generator=generator, dtype=torch.float32, device="cpu")
            t = torch.sigmoid(self.config.t_mean + self.config.t_std * n)
        t = t.to(device_of(latents), torch.float32)
        noise = gaussian_like(latents, generator)
        keep = 1 - self.config.sigma_min
        noisy = per_sample(lambda t, x1, x0: t * x1 + (1 - keep * t) * x0, (t,), latents, noise)
        velocity = per_sample(lambda t, x1, x0: x1 - keep * x0, (t,), latents, noise)
        return noisy, t, velocity

    def loss(self, prediction: Latents, target: Latents, t: Tensor) -> Tensor:
        """Mean squared error, unweighted over t: scalar float32."""
        return mean_squared_error(prediction, target)
