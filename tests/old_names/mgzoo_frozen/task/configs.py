"""What the task may be told, and what it asks of a recipe; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import ConditionSpec, LatentSpec, option


@dataclass(frozen=True, kw_only=True)
class BoomerangConfig:
    """Text to a clip that plays forwards, then backwards."""

    frames: int = option(16, "frames generated, before they are played backwards too; 1 makes an image")
    height: int = option(64, "pixels")
    width: int = option(64, "pixels")
    fps: float = option(8.0, "frames per second, written to the file")

    def __post_init__(self):
        for name in ("frames", "height", "width", "fps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")

    @classmethod
    def tiny(cls):
        """Eight frames of 16x16."""
        return cls(frames=8, height=16, width=16)

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(frames, height, width) of what the model makes, held against strides and patches."""
        return ((self.frames, self.height, self.width),)

    def parts(self) -> tuple[str, ...]:
        """The kinds of part it needs."""
        return ("autoencoder", "encoder", "backbone", "objective", "sampler")

    def gives(self) -> tuple[str, ...]:
        """What it can feed to encoders."""
        return ("text",)

    def conditions(self) -> tuple[ConditionSpec, ...]:
        """Conditions that it makes itself: none."""
        return ()

    def feeds(self, latent: LatentSpec) -> int:
        """Extra input channels of the backbone: none."""
        return 0

    def parameters(self) -> int:
        """It holds no weights."""
        return 0
