"""What the task may be told, and what it asks of a recipe; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import RequestOption, TaskConfig, option, require


@dataclass(frozen=True, kw_only=True)
class BoomerangConfig(TaskConfig):
    """Text to a clip that plays forwards, then backwards."""

    frames: int = option(16, "frames generated, before they are played backwards too; 1 makes an image")
    height: int = option(64, "pixels")
    width: int = option(64, "pixels")
    fps: float = option(8.0, "frames per second, written to the file")

    def __post_init__(self):
        require({f"{name} must be positive, not {getattr(self, name)}": getattr(self, name) > 0 for name in ("frames", "height", "width", "fps")})

    @classmethod
    def tiny(cls):
        """Eight frames of 16x16."""
        return cls(frames=8, height=16, width=16)

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(frames, height, width) of what the model makes, held against strides and patches."""
        return ((self.frames, self.height, self.width),)

    def request_options(self) -> tuple[RequestOption, ...]:
        """What a request may hold besides prompt, seed, size, rate, steps and guidance."""
        return (
            RequestOption(name="back", kind="boolean", help="play the clip backwards after it has ended (default: yes)"),
            RequestOption(name="pause", kind="integer", help="frames that the turning point is held, at least 0 (default: 0)"),
        )
