"""What the metric may be told; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import option


@dataclass(frozen=True, kw_only=True)
class FlickerConfig:
    """How much the whole picture's brightness, or a sound's loudness, jumps from one moment to the next."""

    moment: float = option(0.05, "seconds of sound that make one moment; of a video each frame is one")

    def __post_init__(self):
        if self.moment <= 0:
            raise ValueError(f"moment must be positive, not {self.moment}")

    @classmethod
    def tiny(cls):
        """The default: it costs nothing."""
        return cls()

    def parameters(self) -> int:
        """It has no weights."""
        return 0

    def better(self) -> str:
        """Which way is better: ``higher`` or ``lower``."""
        return "lower"
