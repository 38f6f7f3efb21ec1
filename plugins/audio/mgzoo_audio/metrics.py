"""Two measures of generated sound, used to rank candidates and to evaluate: does it follow the picture, does it agree with its caption.

Neither has learnt anything. They measure what they say and no more: see the note of benchmarks/audio.py for what they are worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from mgzoo.media import Media
from mgzoo_audio import signal_features
from mgzoo_audio.configs import CaptionConfig, SyncConfig

AUDIBLE = 0.01  # root mean square at which a sound counts half
HALF_TONES = 12  # how far a pitch may be off before it counts as none


class Sync:
    """``audio.sync.v1``: correlation, -1 to 1, of a sound's onsets with its picture's turns of motion, widened to the config's tolerance.

    0 where there is no sound, no picture that moves, or nothing turns.
    """

    def __init__(self, config: SyncConfig):
        self.config = config

    def __call__(self, media: Sequence[Media]) -> list[float]:
        return [self.score(one) for one in media]

    def score(self, one: Media) -> float:
        if one.audio is None or one.video is None or len(one.video) < 3 or not one.audio.numel():
            return 0.0
        onsets, turning = signal_features.onset_strength(one.audio, one.rate), signal_features.motion_reversals(one.video)
        times = (torch.arange(len(turning)) / one.fps / signal_features.HOP).round().long()
        events = torch.zeros(max(len(onsets), int(times[-1]) + 1)).index_add(0, times, turning)[: len(onsets)]
        return _correlation(self.widened(onsets), self.widened(events))

    def widened(self, signal: torch.Tensor) -> torch.Tensor:
        sigma = self.config.tolerance / signal_features.HOP
        places = torch.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
        kernel = torch.exp(-0.5 * (places / sigma).square())
        return F.conv1d(signal[None, None], kernel[None, None] / kernel.sum(), padding=len(places) // 2)[0, 0]


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one - one.mean(), other - other.mean()
    length = one.norm() * other.norm()
    return float(one @ other / length) if length > 1e-9 else 0.0


class Caption:
    """``audio.caption.v1``: whether the note that the caption names is heard, 0 to 1, and 0.1 for being audible at all.

    The pitch counts by its clearness, less the further off it is, nothing from an octave. A caption without a note is only asked to be heard.
    """

    def __init__(self, config: CaptionConfig):
        self.config = config

    def __call__(self, media: Sequence[Media]) -> list[float]:
        return [self.score(one) for one in media]

    def score(self, one: Media) -> float:
        if one.audio is None or not one.audio.numel():
            return 0.0
        level = float(one.audio.float().square().mean().sqrt())
        heard, wanted = 0.1 * level / (level + AUDIBLE), signal_features.note_of(one.caption)
        if wanted is None:
            return heard
        found, clear = signal_features.pitch(one.audio, one.rate)
        if math.isnan(found):
            return heard
        return heard + clear * max(0.0, 1 - abs(signal_features.cents(found, wanted)) / (100 * HALF_TONES))
