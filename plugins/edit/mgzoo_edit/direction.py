"""`edit.direction.v1`: the automatic score of a made pair (Movie Gen Edit, stage three; there ViCLIP's direction and output scores).

Shape letters: F frames, Y X pixel height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mgzoo.parts import Clip
from mgzoo_edit.configs import DirectionConfig


class Direction:
    """Scores clips by what differs from the source in their ``extra``, inside and outside the ``region`` there.

    In pixels, so it needs no model that knows words: it sees that something changed in the right place, not that it became what was
    asked for. ViCLIP, which sees that, is out of reach here (our stand-in).
    """

    def __init__(self, config: DirectionConfig):
        self.config = config

    def __call__(self, clips: Sequence[Clip]) -> list[float]:
        """One score in [0, 1] per clip, the higher the better. A clip without a source is compared with black, as in training; without a
        region all of it may change."""
        return [self.score(clip.load(), _made(clip, "source"), _made(clip, "region")) for clip in clips]

    def score(self, edited: Tensor, source: Tensor | None, region: Tensor | None) -> float:
        """(1 - exp(-inside / enough)) x inside / (inside + outside), of the mean changes inside and outside the region.

        edited, source: uint8 (F, Y, X, 3). region: bool (F, Y, X).
        """
        before = torch.zeros_like(edited) if source is None else source
        change = (edited.float() - before.float()).abs().mean(-1) / 255
        region = torch.ones_like(change, dtype=torch.bool) if region is None else region
        inside = change[region].mean().item() if region.any() else 0.0
        outside = change[~region].mean().item() if not region.all() else 0.0
        return (1 - math.exp(-inside / self.config.enough)) * inside / (inside + outside) if inside else 0.0


def _made(clip: Clip, name: str) -> Tensor | None:
    make = clip.extra.get(name)
    return None if make is None else make()
