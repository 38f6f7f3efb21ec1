"""Draws and averages shared by the objectives, for latents of one size (a tensor) or of several (a list).

Shape letters: B batch, C channels. Latents are (B, C, *axes), or a list of B tensors (C, *axes).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mgzoo.parts import Latents


def gaussian_like(latents: Latents, generator: torch.Generator) -> Latents:
    """Standard normal float32 noise, drawn on the CPU sample by sample: a tensor and a list of its samples get the same noise."""
    drawn = [torch.randn(x.shape, generator=generator, dtype=torch.float32, device="cpu").to(x.device) for x in latents]
    return drawn if isinstance(latents, list) else torch.stack(drawn)


def device_of(latents: Latents) -> torch.device:
    return latents[0].device


def per_sample(formula: Callable[..., Tensor], coefficients: tuple[Tensor, ...], *latents: Latents) -> Latents:
    """formula(*coefficients, *latents) in float32, each coefficient (B,) spread over its sample."""
    if isinstance(latents[0], list):
        rows = zip(zip(*coefficients, strict=True), zip(*latents, strict=True), strict=True)
        return [formula(*(c.float() for c in cs), *(x.float() for x in xs)) for cs, xs in rows]
    ones = [1] * (latents[0].ndim - 1)
    return formula(*(c.float().view(-1, *ones) for c in coefficients), *(x.float() for x in latents))


def mean_squared_error(prediction: Latents, target: Latents) -> Tensor:
    """Mean over the elements of each sample, then over samples: scalar float32."""
    if isinstance(prediction, list):
        return torch.stack([(p.float() - x.float()).square().mean() for p, x in zip(prediction, target, strict=True)]).mean()
    return (prediction.float() - target.float()).square().flatten(1).mean(1).mean()
