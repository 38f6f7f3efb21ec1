"""What the data may be told; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import DataConfig, option, require, require_at_least


@dataclass(frozen=True, kw_only=True)
class StripesConfig(DataConfig):
    """Moving stripes: a colour, a direction and a speed each."""

    frames: int = option(16, "frames of a clip; 1 gives images")
    height: int = option(64, "pixels")
    width: int = option(64, "pixels")
    fps: float = option(8.0, "frames per second")
    clips: int = option(256, "different clips; every eighth is held out")
    license: str = option("mit", "licence of the media, lower case; checked against policy.licenses")

    def __post_init__(self):
        require_at_least(self, 1, "frames", "height", "width")
        require_at_least(self, 8, "clips")
        require({f"fps must be positive, not {self.fps}": self.fps > 0})

    @classmethod
    def tiny(cls):
        """Eight frames of 16x16."""
        return cls(frames=8, height=16, width=16, clips=64)