"""From noise at t = 0 to latents at t = 1, through one closure and without knowing the model.

Shape letters: B batch, C channels. Latents are (B, C, *axes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mgzoo.parts import Denoise
from mgzoo_frozen.sampler.configs import HeunConfig


class Heun:
    """dx/dt = velocity, second order, on equal steps. The state is float32 whatever the model computes in."""

    def __init__(self, config: HeunConfig):
        self.config = config

    @torch.no_grad()
    def sample(
        self,
        denoise: Denoise,
        shape: Sequence[int],
        generator: torch.Generator,
        *,
        conditions: Sequence[str] = (),
        noise: Tensor | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Latents (B, C, *axes), float32. noise: the state at t = 0, drawn from the CPU generator where not given."""
        x = torch.randn(tuple(shape), generator=generator) if noise is None else noise.float()
        steps = self.config.steps
        for i in range(steps):
            t, later = i / steps, (i + 1) / steps
            first = self._velocity(denoise, x, t, conditions)
            second = self._velocity(denoise, x + (later - t) * first, later, conditions)
            x = x + (later - t) * (first + second) / 2
            if on_step is not None:
                on_step(i + 1, steps)
        return x

    def _velocity(self, denoise: Denoise, x: Tensor, t: float, conditions: Sequence[str]) -> Tensor:
        """The guided velocity: all conditions are dropped together in the second branch."""
        times = torch.full((len(x),), t, device=x.device)
        if not conditions or self.config.guidance == 1:
            return denoise(x, times, [frozenset()])[0].float()
        given, dropped = (v.float() for v in denoise(x, times, [frozenset(), frozenset(conditions)]))
        return dropped + self.config.guidance * (given - dropped)
