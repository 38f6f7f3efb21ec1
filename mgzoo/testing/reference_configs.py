"""Configs of the kit's own parts (`mgzoo.testing.reference`). No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mgzoo.spec import ConditionSpec, DataConfig, LatentSpec, TaskConfig, option
from mgzoo.testing.component_under_test import LATENTS, RATE


@dataclass(frozen=True, kw_only=True)
class ReferenceVideoAutoencoderConfig:
    """A linear codec of blocks of pixels."""

    tile_frames: int = option(32, "frames per tile; longer videos are coded tile by tile")

    @classmethod
    def tiny(cls):
        return cls(tile_frames=8)

    def latent_spec(self) -> LatentSpec:
        return LATENTS[0]

    def num_parameters(self) -> int:
        return 2 * 3 * math.prod(self.latent_spec().stride) * self.latent_spec().channels


@dataclass(frozen=True, kw_only=True)
class ReferenceAudioAutoencoderConfig:
    """A linear codec of stretches of sound."""

    rate: int = option(RATE, "samples per second")

    @classmethod
    def tiny(cls):
        return cls()

    def latent_spec(self) -> LatentSpec:
        return LATENTS[1]

    def num_parameters(self) -> int:
        return 2 * math.prod(self.latent_spec().stride) * self.latent_spec().channels


@dataclass(frozen=True, kw_only=True)
class ReferenceTextEncoderConfig:
    """One token per byte."""

    width: int = option(12, "D, width of the tokens")
    max_len: int = option(32, "maximum length of a text in bytes; longer texts are truncated")

    @classmethod
    def tiny(cls):
        return cls()

    def input_modality(self) -> str:
        return "text"

    def condition_spec(self, name: str) -> ConditionSpec:
        return ConditionSpec(name=name, dim=self.width, max_len=self.max_len)

    def num_parameters(self) -> int:
        return (257 + self.max_len) * self.width + self.width**2 + self.width


@dataclass(frozen=True, kw_only=True)
class ReferenceImageEncoderConfig:
    """The mean colour of a clip or picture."""

    video: bool = option(False, "input: clips instead of pictures")

    @classmethod
    def tiny(cls):
        return cls()

    def input_modality(self) -> str:
        return "video" if self.video else "image"

    def condition_spec(self, name: str) -> ConditionSpec:
        return ConditionSpec(name=name, dim=8, kind="vector")

    def num_parameters(self) -> int:
        return 4 * 8


@dataclass(frozen=True, kw_only=True)
class ReferenceBackboneConfig:
    """Every token on its own, with the mean of all, the time and the conditions."""

    width: int = option(32, "channels of a token; even")
    patch: tuple[int, ...] = option((1, 1, 1), "latents per token along each axis: always 1")

    @classmethod
    def tiny(cls):
        return cls()

    def validate_shapes(self, latent: LatentSpec, conditions: Sequence[ConditionSpec], axes: Sequence[int] | None = None) -> list[str]:
        return [] if len(latent.stride) == len(self.patch) else [f"patch {self.patch} is not for latents of {len(latent.stride)} axes"]

    def num_tokens(self, axes: Sequence[int]) -> int:
        return math.prod(axes)

    def num_parameters(self, latent: LatentSpec, conditions: Sequence[ConditionSpec], concat_channels: int = 0) -> int:
        d = self.width
        told = d * d + d + sum(c.dim * d + d for c in conditions)
        return (latent.channels + concat_channels) * d + d + told + 3 * d * d + d + d * latent.channels + latent.channels


@dataclass(frozen=True, kw_only=True)
class ReferenceObjectiveConfig:
    """Flow matching on straight paths, t uniform."""

    @classmethod
    def tiny(cls):
        return cls()

    def prediction_type(self) -> str:
        return "velocity"

    def num_parameters(self) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class ReferenceSamplerConfig:
    """Euler's method with equal steps."""

    steps: int = option(4, "steps from noise to data")
    guidance: float = option(2.0, "classifier-free guidance scale; 1 switches it off")

    @classmethod
    def tiny(cls):
        return cls()

    def prediction_types(self) -> tuple[str, ...]:
        return ("velocity",)

    def num_parameters(self) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class ReferenceTaskConfig(TaskConfig):
    """Text to video."""

    frames: int = option(8, "frames generated")
    height: int = option(16, "pixels")
    width: int = option(16, "pixels")

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        return ((self.frames, self.height, self.width),)


@dataclass(frozen=True, kw_only=True)
class ReferenceDataConfig(DataConfig):
    """The kit's clips as a stream."""

    clips: int = option(12, "different clips; every fourth is held out")

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        return ((8, 16, 16),)


@dataclass(frozen=True, kw_only=True)
class ReferenceFilterConfig:
    """How much moves from frame to frame."""

    least: float = option(0.5, "minimum mean absolute difference of neighbouring frames, in grey levels")

    @classmethod
    def tiny(cls):
        return cls()

    def keeps(self, score: float) -> bool:
        return score >= self.least

    def num_parameters(self) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class ReferenceMetricConfig:
    """The deviation of all pixels."""

    @classmethod
    def tiny(cls):
        return cls()

    def higher_is_better(self) -> bool:
        return True

    def num_parameters(self) -> int:
        return 0
