"""Subjects on paper: found as connected pieces of what is not white, and cut out as a square on white.

Shape letters: Y X pixels of a picture, uint8 (Y, X, 3), as `mgzoo.media` reads it (transparency already laid on white).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from mgzoo.media import resize

GRID = 96  # cells along the longer side at which pieces are told apart: a gap narrower than one of them does not part a subject
SMALL = 0.2  # a piece of less than this share of the largest one's cells belongs to the nearest subject: a ball, a drop of sweat
MARGIN = 0.04  # of the square's side, left free on each side
WHITE = 240  # a pixel whose darkest channel is at least this is paper; a shadow is not


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One subject. box: left, top, right, bottom in pixels, right and bottom exclusive. mask: bool (Y, X), where it is; None where
    a finder gives boxes alone. exact: the box as its detector gave it, where `box` is larger."""

    box: tuple[int, int, int, int]
    mask: Tensor | None = None
    exact: tuple[int, int, int, int] | None = None

    @property
    def side(self) -> int:
        """The longer side of the box, in pixels."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


def foreground_mask(picture: Tensor, white: int = WHITE) -> Tensor:
    """Bool (Y, X): where the paper is not blank."""
    return picture.amin(-1) < white


def segment_on_paper(picture: Tensor, white: int = WHITE) -> list[Detection]:
    """The subjects of a picture on white paper, from left to right.

    Two that touch are one: what overlaps cannot be told apart by where the paper shows.
    """
    mask_YX = foreground_mask(picture, white)
    if not mask_YX.any():
        return []
    height, width = mask_YX.shape
    grid = [min(size, max(1, round(size * GRID / max(height, width)))) for size in (height, width)]
    cells = F.adaptive_max_pool2d(mask_YX[None].float(), grid)[0] > 0
    labels = connected_components(cells)
    sizes = {int(label): int((labels == label).sum()) for label in labels[cells].unique()}
    large = [label for label, size in sizes.items() if size >= SMALL * max(sizes.values())]
    centres = {label: _centroid(labels == label) for label in sizes}
    found = []
    for label in sorted(large, key=lambda one: centres[one][1].item()):
        own = labels == label
        for small in sizes.keys() - set(large):
            if min(large, key=lambda one: (centres[one] - centres[small]).norm().item()) == label:
                own = own | (labels == small)
        rows = (torch.arange(height) * grid[0]) // height
        columns = (torch.arange(width) * grid[1]) // width
        mask = mask_YX & own[rows][:, columns]
        found.append(Detection(box=bounding_box(mask), mask=mask))
    return found


def bounding_box(mask_YX: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is True."""
    rows, columns = mask_YX.any(1).nonzero().flatten(), mask_YX.any(0).nonzero().flatten()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def crop_subject(picture: Tensor, subject: Detection, size: int) -> Tensor:
    """uint8 (size, size, 3): the subject in a square with a small margin, white where it is not, scaled (bicubic, antialiased)."""
    left, top, right, bottom = subject.box
    side = max(right - left, bottom - top)
    side += 2 * round(side * MARGIN)
    paper = torch.full((side, side, 3), 255, dtype=torch.uint8)
    y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    inside = picture[top:bottom, left:right]
    if subject.mask is not None:
        inside = torch.where(subject.mask[top:bottom, left:right, None], inside, 255)
    paper[y : y + bottom - top, x : x + right - left] = inside
    return resize(paper[None], size, size)[0].contiguous()


def foreground(picture: Tensor, white: int = WHITE) -> Detection | None:
    """All that is on the paper as one subject; None where it is blank. For training pictures, which are known to show one."""
    mask = foreground_mask(picture, white)
    return Detection(box=bounding_box(mask), mask=mask) if mask.any() else None


def connected_components(cells: Tensor) -> Tensor:
    """Labels (H, W) of 8-connected pieces of what is True, from 1 in the order of their last cells; 0 elsewhere."""
    backwards, count = ndimage.label(cells.numpy()[::-1, ::-1], structure=np.ones((3, 3)))
    return torch.from_numpy(np.where(backwards, count + 1 - backwards, 0)[::-1, ::-1].copy())


def _centroid(cells: Tensor) -> Tensor:
    return cells.nonzero().double().mean(0)
