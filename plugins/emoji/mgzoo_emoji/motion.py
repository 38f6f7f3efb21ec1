"""A random affine motion, the same for every clip that it is given: animated frame editing (Movie Gen Edit, stage two).

Shape letters: F frames, Y X pixel height and width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_MOTION = {"turn": 0.22, "grow": 0.16, "shear": 0.10, "shift": 0.16}
"""The largest turn in radians, growth and shear as shares, and shift as a share of half the picture (our choice; the paper gives none)."""


def affine_sequence(seed: int, frames: int) -> Tensor:
    """Affine matrices (F, 2, 3) from target to source coordinates in [-1, 1], smooth in time, from a seed.

    Each of the six numbers goes along half a period to a period and a half of a sine around a middle of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    u = torch.arange(frames) / max(frames - 1, 1)

    def wave(most: float) -> Tensor:
        middle, height, speed, phase = torch.rand(4, generator=generator)
        return most * ((middle - 0.5) + 0.75 * (0.4 + 0.6 * height) * torch.sin(2 * math.pi * ((0.5 + speed) * u + phase)))

    turn, shear = wave(MAX_MOTION["turn"]), wave(MAX_MOTION["shear"])
    across, along = 1 + wave(MAX_MOTION["grow"]), 1 + wave(MAX_MOTION["grow"])
    x, y = wave(MAX_MOTION["shift"]), wave(MAX_MOTION["shift"])
    cos, sin = torch.cos(turn), torch.sin(turn)
    rows = torch.stack([across * cos, across * (shear - sin), x, along * sin, along * cos, y], 1)
    return rows.view(frames, 2, 3)


def apply_motion(picture: Tensor, matrices: Tensor) -> Tensor:
    """One picture uint8 (Y, X, 3) along (F, 2, 3) -> uint8 (F, Y, X, 3); what comes in from outside repeats the border."""
    still = picture.permute(2, 0, 1)[None].float().expand(len(matrices), -1, -1, -1)
    grid = F.affine_grid(matrices, list(still.shape), align_corners=False)
    made = F.grid_sample(still, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return made.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
