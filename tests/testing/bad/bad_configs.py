"""Configs of the deliberately bad parts. No torch."""

from dataclasses import dataclass

from mgzoo.spec import RequestOption, option
from mgzoo.testing.reference_configs import ReferenceDataConfig, ReferenceFilterConfig, ReferenceSamplerConfig, ReferenceTaskConfig, ReferenceTextEncoderConfig


@dataclass(frozen=True, kw_only=True)
class SilentField(ReferenceSamplerConfig):
    order: int = 1


class KeepsPerhaps(ReferenceFilterConfig):
    def keeps(self, score):
        return "perhaps"


@dataclass(frozen=True, kw_only=True)
class Huge(ReferenceTextEncoderConfig):
    max_len: int = option(420_000, "longest text in bytes")


class Miscounted(ReferenceTextEncoderConfig):
    def num_parameters(self):
        return super().num_parameters() + 1


class OneMore(ReferenceTextEncoderConfig):
    def num_parameters(self):
        return super().num_parameters() + 5


class OtherSizes(ReferenceDataConfig):
    def sizes(self):
        return ((8, 16, 8),)


class Promises(ReferenceTaskConfig):
    def request_options(self):
        return (RequestOption(name="strength", kind="number", help="how much, 0 to 1"),)


class OffersStyles(ReferenceTaskConfig):
    def request_options(self):
        return (RequestOption(name="style", kind="choice", help="how it looks", choices=("plain", "fancy")),)
