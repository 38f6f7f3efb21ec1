"""A part that does nothing, and its config."""

from dataclasses import dataclass

from mgzoo.spec import option


@dataclass(frozen=True, kw_only=True)
class HealthyConfig:
    steps: int = option(4, "solver steps")

    @classmethod
    def tiny(cls):
        return cls()

    def num_parameters(self):
        return 0

    def prediction_types(self):
        return ("velocity",)


class Healthy:
    def __init__(self, config):
        self.config = config
