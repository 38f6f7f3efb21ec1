"""Configs of parts that hold all laws and are unlike the kit's own: for sound, and for pictures. No torch."""

from dataclasses import dataclass

from mgzoo.spec import LatentSpec, option
from mgzoo.testing.component_under_test import LATENTS
from mgzoo.testing.reference_configs import ReferenceBackboneConfig, ReferenceImageEncoderConfig


@dataclass(frozen=True, kw_only=True)
class SoundMixing(ReferenceBackboneConfig):
    patch: tuple[int, ...] = option((1,), "latents per token: always one")


@dataclass(frozen=True, kw_only=True)
class SoundBlocksConfig:
    """A linear codec of blocks of samples."""

    @classmethod
    def tiny(cls):
        return cls()

    def latent_spec(self) -> LatentSpec:
        return LATENTS[1]

    def num_parameters(self):
        return None


class ClipColours(ReferenceImageEncoderConfig):
    @classmethod
    def tiny(cls):
        return cls(video=True)
