"""Pictures for a sound: frames made small for an encoder, and their features brought to the times of the latents.

Shape letters: F frames, Y X pixels, T latent times, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mgzoo.media import uint8_to_float

CHUNK = 64  # frames made small at once


@dataclass(frozen=True, kw_only=True)
class Footage:
    """The picture that goes with one sound.

    load: gives uint8 (F, Y, X, 3). frames, fps: of it. digest: of exactly what it gives. start: seconds into the clip at which the sound begins.
    """

    load: Callable[[], Tensor]
    frames: int
    fps: float
    digest: str = ""
    start: float = 0.0


def shrink_frames(video: Tensor, size: int) -> Tensor:
    """uint8 (F, Y, X, 3) -> uint8 (F, size, size, 3), squeezed, so that nothing at the sides is lost."""
    if video.shape[1:3] == (size, size):
        return video
    made = []
    for frames in video.split(CHUNK):
        scaled = F.interpolate(frames.permute(0, 3, 1, 2).float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        made.append(scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1))
    return torch.cat(made)


def frames_to_float(video: Tensor, size: int) -> Tensor:
    """uint8 (F, Y, X, 3) -> float32 (3, F, size, size) in [-1, 1]."""
    return uint8_to_float(shrink_frames(video, size))


def frame_weights(frames: int, fps: float, times: int, rate: float, start: float = 0.0) -> Tensor:
    """(T, F) float: how much of each frame each latent sees; the rows sum to one.

    Latent k lasts from start + k / rate to start + (k + 1) / rate, frame f is shown from f / fps to (f + 1) / fps, the last one for ever
    (and the first one before time 0): a latent sees the frames that are shown while it lasts, in proportion.
    """
    edges = torch.arange(frames + 1, dtype=torch.float64) / fps
    edges[0], edges[-1] = -torch.inf, torch.inf
    begins = start + torch.arange(times, dtype=torch.float64)[:, None] / rate
    overlap = torch.minimum(edges[1:], begins + 1 / rate) - torch.maximum(edges[:-1], begins)
    return (overlap.clamp_min(0) * rate).float()


def resample_features(features: Tensor, footage: Footage, times: int, rate: float) -> Tensor:
    """Features (at least F, D) of a clip's frames -> (T, D) of a sound of ``times`` latents, ``rate`` a second."""
    share_TF = frame_weights(footage.frames, footage.fps, times, rate, footage.start)
    return share_TF.to(features) @ features[: footage.frames]
