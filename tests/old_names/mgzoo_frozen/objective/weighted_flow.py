"""Rectified flow (Liu et al. 2022) with a loss that weighs times near noise more.

Shape letters: B batch, C channels. Latents are (B, C, *axes), or a list of B tensors (C, *axes) of several sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mgzoo.parts import Latents
from mgzoo_frozen.objective.configs import WeightedFlowConfig


class WeightedFlow:
    """x_t = t x1 + (1 - t) x0, velocity x1 - x0, t uniform, squared error weighted by (p + 1) (1 - t)^p."""

    def __init__(self, config: WeightedFlowConfig):
        self.config = config

    def pair(self, latents: Latents, generator: torch.Generator, t: Tensor | None = None) -> tuple[Latents, Tensor, Latents]:
        """Clean latents -> (noisy, t (B,), velocity), float32. t is drawn first unless given, then the noise, on the CPU generator."""
        if t is None:
            t = torch.rand(len(latents), generator=generator)
        t = t.to(latents[0].device, torch.float32)
        noisy, velocity = [], []
        for time, x1 in zip(t, latents, strict=True):
            x0 = torch.randn(x1.shape, generator=generator).to(x1.device)  # sample by sample: a list and a tensor get the same noise
            noisy.append(time * x1.float() + (1 - time) * x0)
            velocity.append(x1.float() - x0)
        if isinstance(latents, list):
            return noisy, t, velocity
        return torch.stack(noisy), t, torch.stack(velocity)

    def loss(self, prediction: Latents, target: Latents, t: Tensor) -> Tensor:
        """Weighted mean over the elements of each sample, then over samples: scalar float32."""
        errors = torch.stack([(p.float() - v.float()).square().mean() for p, v in zip(prediction, target, strict=True)])
        power = self.config.power
        return (errors * (power + 1) * (1 - t.to(errors)) ** power).mean()
