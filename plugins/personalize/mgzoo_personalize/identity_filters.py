"""Which clips show one person, and the same one throughout: frames looked at once a second (Movie Gen, section 4).

Pictures are uint8 (Y, X, 3), clips uint8 (F, Y, X, 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from mgzoo.parts import Clip
from mgzoo_personalize import faces
from mgzoo_personalize.configs import FacesConfig, OneIdentityConfig
from mgzoo_personalize.foreground import Detection, crop_subject, segment_on_paper

THUMB = 16  # pixels along a side of a crop that is compared as it is


def sample_times(frames: int, fps: float, every: float) -> list[int]:
    """Indices of the frames on screen at 0, `every`, 2 `every` … seconds; the first alone of a picture."""
    if frames < 2 or not fps:
        return [0]
    count = math.floor((frames - 1) / fps / every + 1e-6) + 1
    return [min(frames - 1, int(i * every * fps + 1e-6)) for i in range(count)]


def embed_pixels(picture: Tensor, found: Detection) -> Tensor:
    """The crop's pixels (16x16), less each channel's mean: no recogniser, but enough to notice a cut."""
    thumb = crop_subject(picture, found, THUMB).float()
    return (thumb - thumb.mean((0, 1))).flatten()


RECOGNISERS: dict[str, Callable[[Tensor, Detection], Tensor]] = {"dlib": faces.embed_face, "pixels": embed_pixels}
"""A picture and one subject in it -> its embedding (D,), by the name that a config gives it."""


class Faces:
    """Scores clips by the one face or subject in them: the least share of the picture that it takes in any frame looked at; 0 where a frame
    shows none, and below 0 where one shows several (minus how many too many)."""

    def __init__(self, config: FacesConfig):
        self.config = config

    def detect(self, picture: Tensor) -> list[Detection]:
        """The subjects of a picture, from left to right."""
        return faces.detect_faces(picture) if self.config.finder == "faces" else segment_on_paper(picture, self.config.white)

    def detections(self, clip: Clip) -> list[tuple[Tensor, list[Detection]]]:
        """(picture, its subjects) of each moment."""
        video = clip.load()
        return [(video[i], self.detect(video[i])) for i in sample_times(len(video), clip.fps, self.config.every)]

    def __call__(self, clips: Sequence[Clip]) -> list[float]:
        return [self.score(clip) for clip in clips]

    def score(self, clip: Clip) -> float:
        shares = []
        for picture, found in self.detections(clip):
            if len(found) > 1:
                shares.append(1.0 - len(found))
            else:
                shares.append(sum(area_share(picture, one) for one in found))
        return float(min(shares))


class OneIdentity(Faces):
    """Scores clips by the least cosine of the one subject's embeddings between neighbouring moments; -1 where a moment shows none or
    several, 1 where there is one moment alone."""

    config: OneIdentityConfig

    def score(self, clip: Clip) -> float:
        looked = self.detections(clip)
        if any(len(found) != 1 for _, found in looked):
            return -1.0
        embed = RECOGNISERS[self.config.recogniser]
        known = [embed(picture, found[0]) for picture, found in looked]
        return min((float(F.cosine_similarity(a, b, dim=0)) for a, b in pairwise(known)), default=1.0)


def area_share(picture: Tensor, found: Detection) -> float:
    """Of the picture, what a subject takes: its mask's pixels, or its box's."""
    left, top, right, bottom = found.box
    pixels = found.mask.sum().item() if isinstance(found.mask, torch.Tensor) else (right - left) * (bottom - top)
    return pixels / (picture.shape[0] * picture.shape[1])
