"""Configs of the deliberately bad parts. No torch."""

from dataclasses import dataclass

from mgzoo.spec import option
from mgzoo.testing.reference_configs import EqualConfig, LettersConfig, MotionConfig, WavesConfig


@dataclass(frozen=True, kw_only=True)
class SilentField(EqualConfig):
    order: int = 1


class KeepsPerhaps(MotionConfig):
    def keeps(self, score):
        return "perhaps"


@dataclass(frozen=True, kw_only=True)
class Huge(LettersConfig):
    max_len: int = option(420_000, "longest text in bytes")


class Miscounted(LettersConfig):
    def parameters(self):
        return super().parameters() + 1


class OneMore(LettersConfig):
    def parameters(self):
        return super().parameters() + 5


class OtherSizes(WavesConfig):
    def sizes(self):
        return ((8, 16, 8),)
