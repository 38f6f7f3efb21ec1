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

    frames: int = option(256, "frames generated unless the request says otherwise")
    height: int = option(768, "pixels")
    width: int = option(768, "pixels")
    fps: float = option(16.0, "frames per second, told to the model and written to the file")
    fps_token: bool = option(True, "put FPS-<rate> before the prompt (Movie Gen, section 3)")
    finder: Literal["faces", "paper", "whole"] = option(
        "faces", "what finds the subject: a face detector (the extra `faces`), what is not white paper, or nothing: the whole picture is taken for it"
    )
    crop: int = option(224, "pixels along a side of the square that the vision encoder is given")
    smallest: int = option(64, "pixels: a subject whose longer side is less is refused")
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
            RequestOption(name="subject", kind="integer", help="which of several subjects, counted from the left from 1"),
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
    references: str = option("", "folder with references.jsonl and the STYLE.tar of stills that it names; empty where cross is 0 and captions come from the shards")
    frames: int = option(16, "frames of a clip, taken from its start")
    height: int = option(64, "pixels")
    width: int = option(64, "pixels")
    crop: int = option(64, "pixels along a side of a reference")
    cross: float = option(0.0, "share of clips whose reference is another picture of the subject; the others' is a frame of the clip")
    jitter: float = option(0.0, "training references are zoomed and moved by up to this share of their side, half of them mirrored; 0 for none")
    moments: int = option(5, "frames of a clip that its references are taken from, spread over all of it (Movie Gen takes 5)")
    split: Literal["train", "all"] = option("train", "train leaves out what is held out, all does not")
    held_out: tuple[str, ...] = option((), "files that list held-out keys, one a line; in the data's folder or relative like path")
    shuffle: bool = option(True, "a new order each epoch, made from the seed")
    on_error: Literal["raise", "skip"] = option("raise", "what to do about a clip that cannot be used: stop, or leave it out and say so")
    license: str = option("unknown", "licence of the media, lower case, held against policy.licenses")

    def __post_init__(self):
        require_at_least(self, 1, "frames", "height", "width", "crop", "moments")
        if not 0 <= self.cross <= 1:
            raise ValueError(f"cross is a share from 0 to 1, got {self.cross}")
        if not 0 <= self.jitter < 0.5:
            raise ValueError(f"jitter is a share from 0 to 0.5, got {self.jitter}")
        if self.cross and not self.references:
            raise ValueError(f"cross {self.cross} needs references: a folder with references.jsonl")

    @classmethod
    def tiny(cls):
        """One-frame 16x16 pictures of the emoji that the repository holds, paired with themselves."""
        return cls(path="data/emoji64", frames=1, height=16, width=16, crop=16, cross=0.0, license="mit")


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """One frame a second, and how many subjects are in it."""

    finder: Literal["faces", "paper"] = option("faces", "what finds subjects: a face detector (the extra `faces`), or what is not white paper")
    every: float = option(1.0, "seconds between the frames that are looked at (Movie Gen: 1)")
    least: float = option(0.02, "share of the picture that the one subject must take in every frame that is looked at")
    white: int = option(240, "finder paper: the least value of a paper's darkest channel, 0 to 255")

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

    recogniser: Literal["dlib", "pixels"] = option("dlib", "what tells identities apart: dlib's 128 numbers of a face (the extra `faces`), or the crop's pixels")
    least: float = option(0.9, "least cosine between neighbouring frames (dlib's distance of 0.6; Movie Gen: 0.5, of ArcFace, by which dlib tells nobody apart)")

    @classmethod
    def tiny(cls):
        """On paper, by pixels."""
        return cls(finder="paper", recogniser="pixels", every=0.25, white=128)
