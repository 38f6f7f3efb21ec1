"""One step of each solver. x is (B, C, *axes) float32; `predict(x, t)` gives the guided prediction; 0 <= t < t_next <= 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mgzoo_samplers.schedules import noise_level

Predict = Callable[[Tensor, float], Tensor]


def euler_step(predict: Predict, x: Tensor, t: float, t_next: float) -> Tensor:
    """First order, one evaluation, of dx/dt = velocity."""
    return torch.add(x, predict(x, t), alpha=t_next - t)


def midpoint_step(predict: Predict, x: Tensor, t: float, t_next: float) -> Tensor:
    """Second order, two evaluations, of dx/dt = velocity."""
    middle = (t + t_next) / 2
    return torch.add(x, predict(euler_step(predict, x, t, middle), middle), alpha=t_next - t)


def ddim_step(predict: Predict, x: Tensor, t: float, t_next: float, schedule: str) -> Tensor:
    """DDIM without noise (Song et al. 2021) from a prediction of v: data a x - s v and noise s x + a v, mixed anew for t_next."""
    (a, s), (a_next, s_next) = noise_level(schedule, t), noise_level(schedule, t_next)
    return ((a_next * a + s_next * s) * x).add_(predict(x, t), alpha=s_next * a - a_next * s)
