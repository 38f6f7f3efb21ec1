"""Settings of the objectives and samplers. Time t runs from 0 (noise) to 1 (data)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgzoo.spec import former_names, option, require

NoiseSchedule = Literal["scaled_linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class FlowMatchingConfig:
    """Movie Gen (arXiv 2410.13720): X_t = t X1 + (1 - (1 - sigma_min) t) X0."""

    sigma_min: float = option(1e-5, "noise left at t = 1, in units of the latents' standard deviation")
    t_mean: float = option(0.0, "mean of logit(t) in training; below 0: more noisy latents")
    t_std: float = option(1.0, "standard deviation of logit(t) in training")

    def __post_init__(self):
        require({
            f"sigma_min must be in [0, 1), not {self.sigma_min}": 0 <= self.sigma_min < 1,
            f"t_std must be positive, not {self.t_std}": self.t_std > 0,
        })  # fmt: skip

    @classmethod
    def tiny(cls) -> FlowMatchingConfig:
        return cls()

    def num_parameters(self) -> int:
        return 0

    def prediction_type(self) -> str:
        return "velocity"


@dataclass(frozen=True, kw_only=True)
class VDiffusionConfig:
    """v-prediction with zero terminal SNR, t uniform: the diffusion arm of Movie Gen's ablation."""

    schedule: NoiseSchedule = option(
        "scaled_linear", "noise levels: Stable Diffusion's, rescaled to zero terminal SNR, or a cosine; the sampler needs the same"
    )

    def __post_init__(self):
        require({f"schedule must be one of {NoiseSchedule.__args__}, not {self.schedule!r}": self.schedule in NoiseSchedule.__args__})

    @classmethod
    def tiny(cls) -> VDiffusionConfig:
        return cls()

    def num_parameters(self) -> int:
        return 0

    def prediction_type(self) -> str:
        return "v"


@former_names
@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Fields of every sampler: the number of steps, and classifier-free guidance."""

    steps: int = option(50, "solver steps from noise to data")
    guidance: float = option(7.5, "classifier-free guidance scale of all conditions together; 1 switches it off")
    guidance_scales: dict[str, float] = option(
        {}, "guidance scale per condition name, nested in this order; replaces `guidance`; unnamed conditions are never dropped",
        formerly=("scales",),
    )  # fmt: skip
    guidance_from: float = option(0.0, "first t with guidance, in [0, 1]")
    guidance_to: float = option(1.0, "last t with guidance, in [0, 1]")
    shift: float = option(1.0, "more steps near noise: noise level s becomes shift s / (1 + (shift - 1) s); 1: no shift")

    def __post_init__(self):
        require({
            f"steps must be at least 1, not {self.steps}": self.steps >= 1,
            f"guidance_from and guidance_to must be in [0, 1] and in order, not {self.guidance_from} and {self.guidance_to}": 0 <= self.guidance_from <= self.guidance_to <= 1,
            f"shift must be positive, not {self.shift}": self.shift > 0,
        })  # fmt: skip

    @classmethod
    def tiny(cls) -> SamplerConfig:
        return cls(steps=4)

    def num_parameters(self) -> int:
        return 0

    def prediction_types(self) -> tuple[str, ...]:
        return ("velocity",)


@former_names
@dataclass(frozen=True, kw_only=True)
class EulerConfig(SamplerConfig):
    """Equal first-order steps."""


@former_names
@dataclass(frozen=True, kw_only=True)
class MidpointConfig(SamplerConfig):
    """Equal second-order steps, two evaluations each; Movie Gen Audio uses 64 with guidance 3."""


@former_names
@dataclass(frozen=True, kw_only=True)
class LinearQuadraticConfig(SamplerConfig):
    """Movie Gen's inference (arXiv 2410.13720): the first half of the steps linear, the second quadratic."""

    linear_steps: int = option(250, "N: the first steps // 2 steps have length 1 / N, as N linear steps", formerly=("emulates",))
    continuity: Literal["slope", "square"] = option(
        "slope", "first quadratic step: as long as the linear steps (slope), or from zero speed (square); the paper specifies neither",
        formerly=("join",),
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        require({
            f"linear_steps ({self.linear_steps}) must be at least steps ({self.steps})": self.linear_steps >= self.steps,
            f"continuity must be slope or square, not {self.continuity!r}": self.continuity in ("slope", "square"),
        })  # fmt: skip


@former_names
@dataclass(frozen=True, kw_only=True)
class DdimConfig(SamplerConfig):
    """Deterministic DDIM (eta = 0) over equal steps in t."""

    schedule: NoiseSchedule = option("scaled_linear", "the noise levels the model was trained with (its objective's `schedule`)")

    def __post_init__(self):
        super().__post_init__()
        require({f"schedule must be one of {NoiseSchedule.__args__}, not {self.schedule!r}": self.schedule in NoiseSchedule.__args__})

    def prediction_types(self) -> tuple[str, ...]:
        return ("v",)
