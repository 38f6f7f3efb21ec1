"""What the data may be told; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import option


@dataclass(frozen=True, kw_only=True)
class StripesConfig:
    """Moving stripes: a colour, a direction and a speed each."""

    frames: int = option(16, "frames of a clip; 1 gives images")
    height: int = option(64, "pixels")
    width: int = option(64, "pixels")
    fps: float = option(8.0, "frames per second")
    clips: int = option(256, "different clips; every eighth is held out")
    license: str = option("mit", "licence of the media, lower case, held against policy.licenses")

    def __post_init__(self):
        for name in ("frames", "height", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.clips < 8 or self.fps <= 0:
            raise ValueError(f"clips must be at least 8 and fps positive, not {self.clips} and {self.fps}")

    @classmethod
    def tiny(cls):
        """Eight frames of 16x16."""
        return cls(frames=8, height=16, width=16, clips=64)

    def parameters(self) -> int:
        """Data has no weights."""
        return 0

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(frames, height, width) of every clip."""
        return ((self.frames, self.height, self.width),)

    def gives(self) -> tuple[str, ...]:
        """Modalities."""
        return ("image" if self.frames == 1 else "video", "text")
