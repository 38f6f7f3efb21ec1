"""Samplers: from noise at t = 0 to latents at t = 1, through one closure and without knowing the model.

Shape letters: B batch, C channels. Latents are (B, C, *axes); the state is float32 whatever the model computes in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mgzoo.parts import Denoise
from mgzoo_samplers import schedules, solvers
from mgzoo_samplers.configs import DdimConfig, EulerConfig, LinearQuadraticConfig, MidpointConfig, SamplerConfig
from mgzoo_samplers.guidance import guided
from mgzoo_samplers.solvers import Predict


class OdeSampler:
    """Walks a grid of times with one solver; a sampler is a grid and a step."""

    def __init__(self, config: SamplerConfig):
        self.config = config

    def grid(self) -> list[float]:
        """steps + 1 times from 0 to 1, before the shift."""
        return schedules.linear(self.config.steps)

    def step(self, predict: Predict, x: Tensor, t: float, t_next: float) -> Tensor:
        raise NotImplementedError

    def times(self) -> list[float]:
        """steps + 1 times that the state visits, from 0.0 to 1.0."""
        return schedules.shifted(self.grid(), self.config.shift)

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
        """Latents (B, C, *axes) float32, on the device of `noise`, or on the CPU where none is given.

        noise: the state at t = 0 of this shape; drawn from the CPU generator where not given.
        conditions: names that guidance may drop. on_step(step, steps): called after each step, from 1.
        Raises MgzooError where `guidance_scales` names a condition that is not among them.
        """
        if noise is None:
            noise = torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu")
        assert tuple(noise.shape) == tuple(shape), f"noise {tuple(noise.shape)} is not of shape {tuple(shape)}"
        predict = guided(denoise, conditions, self.config)
        x, times = noise.float(), self.times()
        for i, (t, t_next) in enumerate(zip(times, times[1:], strict=False), start=1):
            x = self.step(predict, x, t, t_next)
            if on_step:
                on_step(i, self.config.steps)
        return x


class Euler(OdeSampler):
    """First order, equal steps."""

    config: EulerConfig

    def step(self, predict: Predict, x: Tensor, t: float, t_next: float) -> Tensor:
        return solvers.euler_step(predict, x, t, t_next)


class Midpoint(OdeSampler):
    """Second order, equal steps, two evaluations each."""

    config: MidpointConfig

    def step(self, predict: Predict, x: Tensor, t: float, t_next: float) -> Tensor:
        return solvers.midpoint_step(predict, x, t, t_next)


class LinearQuadratic(OdeSampler):
    """First order, on Movie Gen's linear-quadratic grid."""

    config: LinearQuadraticConfig

    def grid(self) -> list[float]:
        return schedules.linear_quadratic(self.config.steps, self.config.linear_steps, self.config.continuity)

    def step(self, predict: Predict, x: Tensor, t: float, t_next: float) -> Tensor:
        return solvers.euler_step(predict, x, t, t_next)


class Ddim(OdeSampler):
    """Deterministic DDIM for a model that predicts v."""

    config: DdimConfig

    def step(self, predict: Predict, x: Tensor, t: float, t_next: float) -> Tensor:
        return solvers.ddim_step(predict, x, t, t_next, self.config.schedule)
