"""How bright a clip is on the whole. F frames, Y X pixel height/width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mgzoo_acme.configs import ExposureConfig

from mgzoo.parts import Clip

LUMA = (0.2126, 0.7152, 0.0722)  # of red, green and blue (ITU-R BT.709)


class Exposure:
    """Clips -> mean luma each, from 0 (black) to 1 (white)."""

    def __init__(self, config: ExposureConfig):
        self.config = config

    @torch.no_grad()
    def __call__(self, clips: Sequence[Clip]) -> list[float]:
        """One score per clip, in order; each is decoded, looked at, and let go."""
        return [self._score(clip) for clip in clips]

    def _score(self, clip: Clip) -> float:
        video_FYX3 = clip.load()
        picked = torch.linspace(0, len(video_FYX3) - 1, min(self.config.frames, len(video_FYX3))).round().long()
        return float((video_FYX3[picked].float() / 255 @ torch.tensor(LUMA)).mean())
