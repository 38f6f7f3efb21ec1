"""What the parts of this plugin may be told; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgzoo.spec import DataConfig, RequestOption, TaskConfig, former_names, option, require, require_at_least

SHOWN = {"faces": "with a face", "paper": "on a white background", "whole": "which fills it"}


@former_names
@dataclass(frozen=True, kw_only=True)
class ReferenceConfig(TaskConfig):
    """Text to video with the subject of a picture. Defaults are Movie Gen's sizes for personalized video."""

    frames: int = option(256, "default number of generated frames")
    height: int = option(768, "pixels")
    width: int = option(768, "pixels")
    fps: float = option(16.0, "frames per second, passed to the model and written to the file")
    fps_token: bool = option(True, "put FPS-<rate> before the prompt (Movie Gen, section 3)")
    finder: Literal["faces", "paper", "whole"] = option(
        "faces", "subject detector: faces (a face detector, the extra `faces`), paper (non-white foreground), or whole (the whole picture)"
    )
    crop: int = option(224, "side of the square crop for the vision encoder, in pixels")
    smallest: int = option(64, "minimum longer side of a subject, in pixels")
    text_target_weight: float = option(
        0.0, "weight of text-similarity soft targets in the contrastive loss (0: one-hot identities); used in stages that train only vision encoders",
        formerly=("words",),
    )  # fmt: skip

    def __post_init__(self):
        require_at_least(self, 1, "frames", "height", "width", "crop", "smallest")
        require({
            f"text_target_weight must be in [0, 1], not {self.text_target_weight}": 0 <= self.text_target_weight <= 1,
            f"fps must be positive, not {self.fps}": self.fps > 0,
        })  # fmt: skip

    @classmethod
    def tiny(cls, **changes):
        """Sixteen frames of 64x64, of a subject that fills its picture."""
        return cls(**{"frames": 16, "height": 64, "width": 64, "fps": 5.0, "finder": "whole", "crop": 64, "smallest": 16, **changes})

    def request_options(self) -> tuple[RequestOption, ...]:
        """The picture, and which of its subjects."""
        return (
            RequestOption(name="reference", kind="image", help=f"picture of the subject, {SHOWN[self.finder]}", required=True),
            RequestOption(name="subject", kind="integer", help="index of the subject, from the left, starting at 1"),
        )

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(frames, height, width) of what it generates unless told otherwise."""
        return ((self.frames, self.height, self.width),)

    def modalities(self) -> tuple[str, ...]:
        """What it can feed to encoders: the prompt, and the reference to those that take a picture."""
        return ("text", "image")


@dataclass(frozen=True, kw_only=True)
class PairsConfig(DataConfig):
    """Clips of a subject, each with a picture of that subject."""

    path: str = option("???", "folder of *.tar shards of clips, KEY.mp4 and KEY.json; relative to the working directory or the repository")
    references: str = option("", "folder with references.jsonl and its STYLE.tar files of stills; empty: cross must be 0, captions come from the shards")
    frames: int = option(16, "frames of a clip, from its start")
    height: int = option(64, "pixels")
    width: int = option(64, "pixels")
    crop: int = option(64, "side of a reference, in pixels")
    cross: float = option(0.0, "share of clips with another picture of the subject as reference; the other clips use one of their own frames")
    jitter: float = option(0.0, "training: maximum random zoom and shift of references as a share of their side, with random mirroring; 0: no augmentation")
    moments: int = option(5, "number of candidate reference frames, spread over the clip (Movie Gen: 5)")
    split: Literal["train", "all"] = option("train", "train: without held-out samples; all: with them")
    held_out: tuple[str, ...] = option((), "files with held-out keys, one per line; in the data folder or relative like `path`")
    shuffle: bool = option(True, "shuffle in every epoch, seeded")
    on_error: Literal["raise", "skip"] = option("raise", "unusable clips: stop with an error, or skip with a warning")
    license: str = option("unknown", "licence of the media, lower case; checked against policy.licenses")

    def __post_init__(self):
        require_at_least(self, 1, "frames", "height", "width", "crop", "moments")
        if not 0 <= self.cross <= 1:
            raise ValueError(f"cross must be in [0, 1], got {self.cross}")
        if not 0 <= self.jitter < 0.5:
            raise ValueError(f"jitter must be in [0, 0.5], got {self.jitter}")
        if self.cross and not self.references:
            raise ValueError(f"cross {self.cross} needs references: a folder with references.jsonl")

    @classmethod
    def tiny(cls):
        """One-frame 16x16 pictures of the emoji that the repository holds, paired with themselves."""
        return cls(path="data/emoji64", frames=1, height=16, width=16, crop=16, cross=0.0, license="mit")


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """One frame a second, and how many subjects are in it."""

    finder: Literal["faces", "paper"] = option("faces", "subject detector: faces (a face detector, the extra `faces`), or paper (non-white foreground)")
    every: float = option(1.0, "interval of the examined frames, in seconds (Movie Gen: 1)")
    least: float = option(0.02, "minimum area of the subject in every examined frame, as a share of the picture")
    white: int = option(240, "finder paper: minimum value of the darkest channel of the background, 0 to 255")

    def __post_init__(self):
        if self.every <= 0:
            raise ValueError(f"every must be positive, got {self.every}")

    @classmethod
    def tiny(cls):
        """On paper; half grey counts as paper."""
        return cls(finder="paper", every=0.25, white=128)

    def num_parameters(self) -> int | None:
        """Those of the detector are its package's own."""
        return 0 if self.finder == "paper" else None

    def keeps(self, score: float) -> bool:
        """Whether a clip stays: one subject in every frame, and large enough."""
        return score >= self.least


@dataclass(frozen=True, kw_only=True)
class OneIdentityConfig(FacesConfig):
    """One subject in every frame that is looked at, and the same one: cosine of neighbouring frames' embeddings."""

    recogniser: Literal["dlib", "pixels"] = option("dlib", "identity embedding: dlib's 128 numbers of a face (the extra `faces`), or the pixels of the crop")
    least: float = option(0.9, "minimum cosine between neighbouring frames (0.9 is dlib's distance of 0.6; Movie Gen's 0.5 is for ArcFace and separates no identities with dlib)")

    @classmethod
    def tiny(cls):
        """On paper, by pixels."""
        return cls(finder="paper", recogniser="pixels", every=0.25, white=128)
