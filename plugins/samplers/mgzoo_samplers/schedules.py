"""Where the steps fall in time, and how much noise there is at a time.

Time t runs from 0 (noise) to 1 (data). A grid is a list of steps + 1 floats that rises from 0.0 to 1.0.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def linear(steps: int) -> list[float]:
    """Equal steps."""
    return [i / steps for i in range(steps + 1)]


def linear_quadratic(steps: int, linear_steps: int, continuity: str = "slope") -> list[float]:
    """S steps instead of N = `linear_steps` linear ones (Movie Gen's inference): L = S // 2 steps of 1 / N, then S - L quadratic ones.

    The paper's text fixes the first half only; `continuity` chooses a reading of the second. With Q = S - L, tau = L / N, j = 1 … Q:
    slope (default): t = tau + j / N + (1 - tau - Q / N) (j / Q)^2. The first quadratic step continues the linear ones, so
        that step sizes never fall. This is the curve of open reimplementations (Mochi's code, with linear_steps 1000).
    square: t = tau + (1 - tau) (j / Q)^2. The literal reading; for N = 250 and S = 50 its first step is shorter than the linear ones.
    N = S gives linear(S) under slope. A single step has no linear half and goes from 0 to 1.
    """
    first = steps // 2
    rest = steps - first
    tau = first / linear_steps
    pace = 1 / linear_steps if continuity == "slope" and first else 0.0
    bend = 1 - tau - rest * pace
    quadratic = [tau + j * pace + bend * (j / rest) ** 2 for j in range(1, rest)]
    return [i / linear_steps for i in range(first + 1)] + quadratic + [1.0]


def shifted(times: list[float], shift: float) -> list[float]:
    """Move a grid towards noise: s = 1 - t becomes shift s / (1 + (shift - 1) s), as Stable Diffusion 3 does for large pictures."""
    return [t / (1 + (shift - 1) * (1 - t)) for t in times]


def noise_levels(schedule: str, t: Tensor) -> tuple[Tensor, Tensor]:
    """(a, s) in float64 on the CPU, of t's shape: x_t = a x1 + s x0, a^2 + s^2 = 1, a = 0 exactly at t = 0, a = 1 at t = 1.

    cosine: a = sin(pi t / 2) (Salimans and Ho 2022, without offset).
    scaled_linear: Stable Diffusion's 1,000 levels after Lin et al. 2023's rescaling; level k lies at t = 1 - k / 1000, and a is
        linear between levels.
    """
    t = t.to("cpu", torch.float64)
    if schedule == "cosine":
        a = torch.sin(t * (torch.pi / 2))
    else:
        table = _scaled_linear()
        level = (1 - t) * (len(table) - 1)
        below = level.floor().clamp(0, len(table) - 2)
        i = below.long()
        a = torch.lerp(table[i], table[i + 1], level - below)
    return a, (1 - a * a).clamp(min=0).sqrt()


@functools.lru_cache(maxsize=4096)
def noise_level(schedule: str, t: float) -> tuple[float, float]:
    """`noise_levels` of one time, as numbers."""
    a, s = noise_levels(schedule, torch.tensor(t, dtype=torch.float64, device="cpu"))
    return a.item(), s.item()


@functools.cache
def _scaled_linear() -> Tensor:
    """sqrt(alpha-bar) of levels 0 (data) to 1000 (noise, exactly 0)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64, device="cpu") ** 2
    a = (1 - betas).cumprod(0).sqrt()
    a = (a - a[-1]) * (a[0] / (a[0] - a[-1]))
    return torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), a])
