"""Flicker: the mean jump of the level from moment to moment. F frames, Y X pixel height/width, S samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgzoo.media import Media
from mgzoo_frozen.metric.configs import FlickerConfig


class Flicker:
    """Media -> mean absolute jump each, from 0 (steady) to 1 (black and white by turns); 0 for a single moment."""

    def __init__(self, config: FlickerConfig):
        self.config = config

    @torch.no_grad()
    def __call__(self, media: Sequence[Media]) -> list[float]:
        """One score per clip, picture or sound, in order."""
        return [jumps(self._levels(one)) for one in media]

    def _levels(self, media: Media) -> Tensor:
        """The level of each moment: mean brightness of a frame, or root mean square of a stretch of sound, in [0, 1]."""
        if media.video is not None:
            return media.video.float().mean((1, 2, 3)) / 255
        moment = max(1, round(self.config.moment * media.rate))
        sound_S = media.audio.float().square().mean(0)
        return torch.stack([piece.mean().sqrt() for piece in sound_S.split(moment)]) if len(sound_S) else torch.zeros(1)


def jumps(levels: Tensor) -> float:
    """Mean absolute difference of neighbours; 0 where there is but one."""
    return float(levels.diff().abs().mean()) if len(levels) > 1 else 0.0
