"""What the filter may be told; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import option


@dataclass(frozen=True, kw_only=True)
class ExposureConfig:
    """Leaves out clips that are too dark or too bright on the whole."""

    least: float = option(0.08, "lowest mean brightness that stays; 0 is black, 1 white")
    most: float = option(0.95, "highest mean brightness that stays")
    frames: int = option(8, "frames looked at, spread evenly over the clip")

    def __post_init__(self):
        if not 0 <= self.least <= self.most <= 1 or self.frames < 1:
            raise ValueError(f"0 <= least <= most <= 1 and frames >= 1 must hold, not {self.least}, {self.most} and {self.frames}")

    @classmethod
    def tiny(cls):
        """Two frames."""
        return cls(frames=2)

    def num_parameters(self) -> int:
        """It has no weights."""
        return 0

    def keeps(self, score: float) -> bool:
        """Whether a clip of this score stays."""
        return self.least <= score <= self.most
