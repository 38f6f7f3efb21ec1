"""A part that does nothing, and its config."""

from dataclasses import dataclass

from mgzoo.spec import option


@dataclass(frozen=True, kw_only=True)
class HealthyConfig:
    steps: int = option(4, "solver steps")

    @classmethod
    def tiny(cls):
        return cls()

    def parameters(self):
        return 0

    def accepts(self):
        return ("velocity",)


class Healthy:
    def __init__(self, config):
        self.config = config
