"""What the parts of this plugin may be told; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional

from mgzoo.spec import DataConfig, TaskConfig, former_names, option, require, require_at_least


@former_names
@dataclass(frozen=True, kw_only=True)
class ClipsConfig(DataConfig):
    """Captioned clips and images from a folder or from WebDataset tar shards."""

    path: str = option("???", "folder of media or of *.tar shards, or one shard; relative to the working directory or the repository")
    frames: int = option(16, "frames of a clip; 1 gives images")
    height: int = option(64, "pixels")
    width: int = option(64, "pixels")
    fps: Optional[float] = option(None, "sampling rate in frames per second; None: all frames of the clip")
    sampling: Literal["uniform", "center", "spread", "middle"] = option(
        "uniform", "frames of a longer clip: uniform (evenly spaced) or center (consecutive, from the middle); spread and middle are old names",
        formerly=("cut",), former_values={"uniform": "spread", "center": "middle"},
    )  # fmt: skip
    image_frame: Literal["middle", "first", "random"] = option("middle", "frame of a clip if frames is 1; random: another one in each epoch")
    buckets: tuple[str, ...] = option((), "sizes FxHxW, e.g. 16x64x64, instead of frames, height and width; each clip uses the nearest")
    mix: bool = option(False, "mix clips of several buckets in one micro-batch")
    split: Literal["train", "all"] = option("train", "train: without held-out clips; all: with them")
    held_out: tuple[str, ...] = option((), "files with held-out keys, one per line; in the data folder or relative like `path`")
    caption_key: str = option("caption", "caption field of JSON sidecars")
    shuffle: bool = option(True, "shuffle in every epoch, seeded")
    on_error: Literal["raise", "skip"] = option("raise", "unusable clips: stop with an error, or skip with a warning")
    keep_mb: int = option(512, "memory for decoded clips, in MB; 0: decode every time")
    license: str = option("unknown", "licence of the media, lower case; checked against policy.licenses")

    def __post_init__(self):
        require_at_least(self, 1, "frames", "height", "width")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps must be positive, got {self.fps}")
        object.__setattr__(self, "sampling", {"spread": "uniform", "middle": "center"}.get(self.sampling, self.sampling))
        if self.fps is not None and self.sampling == "uniform":
            raise ValueError(f"fps {self.fps} needs sampling: center; frames spread over a whole clip have another rate")
        if self.keep_mb < 0:
            raise ValueError(f"keep_mb must not be negative, got {self.keep_mb}")
        if self.buckets and len(set(self.sizes())) != len(self.buckets):
            raise ValueError(f"duplicate sizes in buckets: {', '.join(self.buckets)}")
        if self.mix and len(self.buckets) < 2:
            raise ValueError("mix needs at least two buckets")

    @classmethod
    def tiny(cls):
        """One-frame 16x16 pictures of the emoji that the repository holds."""
        return cls(path="data/emoji64", frames=1, height=16, width=16, license="mit")

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(frames, height, width) of every clip it can emit."""
        if not self.buckets:
            return ((self.frames, self.height, self.width),)
        return tuple(_size(bucket) for bucket in self.buckets)


def _size(bucket: str) -> tuple[int, int, int]:
    parts = bucket.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"bucket {bucket!r} is not FRAMESxHEIGHTxWIDTH, e.g. 16x64x64")
    return int(parts[0]), int(parts[1]), int(parts[2])


@dataclass(frozen=True, kw_only=True)
class ShapesConfig(DataConfig):
    """Moving shapes with captions, drawn as they are needed."""

    frames: int = option(16, "frames of a clip; 1 gives images")
    height: int = option(64, "pixels")
    width: int = option(64, "pixels")
    fps: float = option(8.0, "frames per second")
    clips: int = option(384, "different clips; every eighth is held out")
    speed: float = option(0.125, "movement of a shape per frame, as a share of the smaller side of the picture")
    license: str = option("apache-2.0", "licence of the media; checked against policy.licenses")

    def __post_init__(self):
        require_at_least(self, 1, "frames", "height", "width")
        require_at_least(self, 2, "clips")
        require({f"fps must be positive, not {self.fps}": self.fps > 0})

    @classmethod
    def tiny(cls):
        """Eight frames of 16x16."""
        return cls(frames=8, height=16, width=16)


@dataclass(frozen=True, kw_only=True)
class TextToVideoConfig(TaskConfig):
    """Text to video and, at one frame, text to image. Defaults are Movie Gen Video's largest size."""

    frames: int = option(256, "default number of generated frames")
    height: int = option(768, "pixels")
    width: int = option(768, "pixels")
    fps: float = option(16.0, "frames per second, passed to the model and written to the file")
    fps_token: bool = option(True, "put FPS-<rate> before the prompt (Movie Gen, section 3)")

    def __post_init__(self):
        require({f"{name} must be positive, not {getattr(self, name)}": getattr(self, name) > 0 for name in ("frames", "height", "width", "fps")})

    @classmethod
    def tiny(cls, **changes):
        """Sixteen frames of 64x64."""
        return cls(**{"frames": 16, "height": 64, "width": 64, "fps": 5.0, **changes})

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(frames, height, width) of what it generates unless told otherwise."""
        return ((self.frames, self.height, self.width),)
