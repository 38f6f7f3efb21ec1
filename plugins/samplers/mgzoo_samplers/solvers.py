"""One step of each solver. x is (B, C, *axes) float32; `predict(x, t)` gives the guided prediction; 0 <= t < t_next <= 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mgzoo_samplers.schedules import noise_levels

Predict = Callable[[Tensor, float], Tensor]


def euler_step(predict: Predict, x: Tensor, t: float, t_next: float) -> Tensor:
    """First order, one evaluation, of dx/dt = velocity."""
    return x + (t_next - t) * predict(x, t)


def midpoint_step(predict: Predict, x: Tensor, t: float, t_next: float) -> Tensor:
    """Second order, two evaluations, of dx/dt = velocity."""
    middle = (t + t_next) / 2
    return x + (t_next - t) * predict(euler_step(predict, x, t, middle), middle)


def ddim_step(predict: Predict, x: Tensor, t: float, t_next: float, schedule: str) -> Tensor:
    """DDIM without noise (Song et al. 2021) from a prediction of v: estimate data and noise, and mix them anew for t_next."""
    levels = noise_levels(schedule, torch.tensor([t, t_next], dtype=torch.float64, device="cpu"))
    (a, a_next), (s, s_next) = (level.tolist() for level in levels)
    v = predict(x, t)
    return a_next * (a * x - s * v) + s_next * (s * x + a * v)
