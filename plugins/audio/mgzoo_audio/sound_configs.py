"""Config of the stream of sounds. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgzoo.spec import DataConfig, option, require_at_least


@dataclass(frozen=True, kw_only=True)
class SoundsConfig(DataConfig):
    """Captioned sounds, with or without a picture, from a folder with captions.jsonl or a .txt or .json beside each file."""

    path: str = option("???", "folder of media; relative to the working directory or the repository")
    samples: int = option(76_800, "samples of a sound; shorter ones are padded with silence")
    rate: int = option(48_000, "sampling rate after resampling, in samples per second")
    channels: Literal[1, 2] = option(1, "1: mean of the channels; 2: stereo, mono sounds duplicated")
    crop: Literal["start", "random"] = option("start", "crop of longer sounds: the start, or a random position in each epoch (held-out sounds: always the start)")
    delay: float = option(0.0, "training: maximum random silence before a sound without video, in seconds, drawn in each epoch; 0: none")
    delays: int = option(8, "number of different delays, from 0; limits the entries of the latent cache")
    kinds: tuple[str, ...] = option((), "only sounds with one of these as `kind` in their sidecar; empty: all")
    frames: int = option(0, "frames of a clip, spread over the sound; 0: no video")
    height: int = option(64, "pixels of the frames")
    width: int = option(64, "pixels of the frames")
    split: Literal["train", "all"] = option("train", "train: without held-out sounds; all: with them")
    held_out: tuple[str, ...] = option((), "files with held-out keys, one per line; in the data folder or relative like `path`")
    caption_key: str = option("caption", "caption field of JSON sidecars")
    shuffle: bool = option(True, "shuffle in every epoch, seeded")
    on_error: Literal["raise", "skip"] = option("raise", "unusable sounds: stop with an error, or skip with a warning")
    keep_mb: int = option(512, "memory for decoded sounds, in MB; 0: decode every time")
    license: str = option("unknown", "licence of the media, lower case; checked against policy.licenses")

    def __post_init__(self):
        require_at_least(self, 1, "samples", "rate", "height", "width", "delays")
        require_at_least(self, 0, "frames", "keep_mb")
        if not 0 <= self.delay * self.rate < self.samples:
            raise ValueError(f"delay must be in [0, {self.samples / self.rate:g}) seconds, the length of a sound, got {self.delay}")

    @classmethod
    def tiny(cls):
        """A fifth of a second of the sounds that the repository holds."""
        return cls(path="data/sounds_demo", samples=9_600, held_out=("held_out.txt",), license="cc-by-3.0")

    def sizes(self) -> tuple[tuple[int], ...]:
        """(samples,) of every sound it can emit."""
        return ((self.samples,),)

    def modalities(self) -> tuple[str, ...]:
        """Modalities: sound and captions always, pictures of those that have one."""
        return ("sound", "text", *(("video",) if self.frames else ()))
