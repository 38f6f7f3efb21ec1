"""Config of the stream of sounds. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgzoo.spec import DataConfig, option, require_at_least


@dataclass(frozen=True, kw_only=True)
class SoundsConfig(DataConfig):
    """Captioned sounds, with or without a picture, from a folder with captions.jsonl or a .txt or .json beside each file."""

    path: str = option("???", "folder of media; relative to the working directory or the repository")
    samples: int = option(76_800, "samples of a sound; shorter ones are followed by silence")
    rate: int = option(48_000, "samples per second that every sound is brought to")
    channels: Literal[1, 2] = option(1, "1: the mean of a sound's channels; 2: stereo, a mono sound twice")
    crop: Literal["start", "random"] = option("start", "of a longer sound: its beginning, or a place drawn anew each epoch (held-out sounds: always the beginning)")
    delay: float = option(0.0, "seconds of silence, at most, that training puts before a sound without a picture, drawn anew each epoch; 0 for none")
    delays: int = option(8, "different delays, from 0 up; of so many a latent cache holds each")
    kinds: tuple[str, ...] = option((), "only sounds whose sidecar gives one of these as `kind`; empty takes all")
    frames: int = option(0, "frames of the picture of a clip, spread over the sound that is taken; 0 leaves pictures out")
    height: int = option(64, "pixels of those frames")
    width: int = option(64, "pixels of those frames")
    split: Literal["train", "all"] = option("train", "train leaves out the held-out sounds, all does not")
    held_out: tuple[str, ...] = option((), "files that list held-out keys, one a line; in the data's folder or relative like path")
    caption_key: str = option("caption", "field of a JSON sidecar that holds the caption")
    shuffle: bool = option(True, "a new order each epoch, made from the seed")
    on_error: Literal["raise", "skip"] = option("raise", "what to do about a sound that cannot be used: stop, or leave it out and say so")
    keep_mb: int = option(512, "decoded sounds held in memory, in MB; 0 decodes every time")
    license: str = option("unknown", "licence of the media, lower case, held against policy.licenses")

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
