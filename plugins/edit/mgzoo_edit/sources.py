"""A source of any size and length -> what the model takes, and the edited window back to the source's size and length.

Shape letters: F frames, Y X pixel height and width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from blake3 import blake3
from torch import Tensor

from mgzoo.media import AAC_RATES, Media, resize
from mgzoo.media.audio import resample
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError

RATE = 48_000  # samples per second of a sound whose own rate no clip can hold


@dataclass(frozen=True, kw_only=True)
class FittedSource:
    """Where a source lies in the model's picture.

    size: (F, Y, X) of the source. inner: (Y, X) it was scaled to. corner: (top, left) of it in the model's picture.
    video: uint8 (F', Y', X', 3), what the model is given.
    """

    size: tuple[int, int, int]
    inner: tuple[int, int]
    corner: tuple[int, int]
    video: Tensor

    def clip(self, fps: float) -> Clip:
        """What the model is given, for the autoencoder and its cache."""
        frames, height, width, _ = self.video.shape
        digest = blake3(f"{tuple(self.video.shape)}".encode() + self.video.contiguous().numpy().tobytes()).hexdigest()
        return Clip(key="source", digest=digest, caption="", frames=frames, height=height, width=width, fps=fps, load=lambda: self.video)

    def restore(self, edited: Tensor) -> Tensor:
        """An edited uint8 (F', Y', X', 3) in the source's frames and size."""
        (frames, height, width), (top, left) = self.size, self.corner
        return resize(edited[:frames, top : top + self.inner[0], left : left + self.inner[1]], height, width)


def fit_source(video: Tensor, frames: int, height: int, width: int) -> FittedSource:
    """A source uint8 (F, Y, X, 3) in a picture of this size: scaled to fit inside, in its middle, its border repeated around it; a clip
    shorter than `frames` holds its last frame. A picture (one frame) stays one.

    Scaling to fit keeps the whole picture, which an edit must give back; repeating the border keeps edges out that the model would
    take for content (our choice).
    """
    size = tuple(video.shape[:3])
    scale = min(height / size[1], width / size[2])
    inner = tuple(min(most, max(1, round(n * scale))) for n, most in zip(size[1:], (height, width)))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    whole = resize(video, *inner)
    for axis, (most, start, n) in enumerate(((height, top, inner[0]), (width, left, inner[1])), start=1):
        if most != n:
            whole = whole.index_select(axis, (torch.arange(most) - start).clamp(0, n - 1))
    if 1 < size[0] < frames:
        whole = whole[torch.arange(frames).clamp(max=size[0] - 1)]
    return FittedSource(size=size, inner=inner, corner=(top, left), video=whole.contiguous())


def black_source(frames: int, height: int, width: int, fps: float) -> Clip:
    """The source of a text-to-video sample: a black clip (Movie Gen Edit, section 5)."""
    return Clip(key="black", digest=blake3(f"black {frames} {height} {width}".encode()).hexdigest(), caption="", frames=frames, height=height,
                width=width, fps=fps, load=lambda: torch.zeros(frames, height, width, 3, dtype=torch.uint8))


def choose_source(source: Media | None, picture: Media | None) -> Media:
    """The one of the two that a request gave, its sound at a rate that a clip can hold. Raises MgzooError where it gave none or both."""
    given = [one for one in (source, picture) if one is not None]
    if len(given) != 1:
        raise MgzooError("no source to edit" if not given else "--source and --picture cannot be combined",
                         remedy="give one of --source CLIP.mp4 and --picture PICTURE.png")
    (media,) = given
    if media.audio is not None and media.rate not in AAC_RATES:  # or the file could not be written, after all the work
        media = replace(media, audio=resample(media.audio, media.rate, RATE), rate=RATE)
    return media


def source_fps(media: Media, otherwise: float) -> float:
    """The frame rate that the model is told."""
    return media.fps if media.fps and len(media.video) > 1 else otherwise
