"""Which part of a sound the model is shown while it learns to make the rest (Movie Gen Audio, section 6), and how often what is dropped.

Shape letters: B batch, T latent times.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WAYS = ("forward", "backward", "infill")


def context_masks(lengths: Sequence[int], full: float, least: float, generator: torch.Generator) -> list[Tensor]:
    """For sounds of these lengths a bool (T,) each: True where the context shows the sound.

    With probability ``full`` all is masked. Else a share of the sound uniform in [least, 1] is masked, in one stretch: the end (the sound is
    to be continued), the start, or one somewhere within, with equal probability (our choice; the paper names the uses, not their shares).
    """
    chance, share, way, place = torch.rand(4, len(lengths), generator=generator)
    masks = []
    for i, length in enumerate(lengths):
        count = 0 if chance[i] < full else round(length * (1 - least) * share[i].item())
        masks.append(_stretch(length, count, WAYS[min(2, int(3 * way[i]))], place[i].item()))
    return masks


def _stretch(length: int, count: int, way: str, place: float) -> Tensor:
    """(length,) with ``count`` times shown: the first of them, the last, or some at either end as ``place`` (in [0, 1]) divides them."""
    before = {"forward": count, "backward": 0, "infill": round(count * place)}[way]
    mask = torch.zeros(length, dtype=torch.bool)
    mask[:before] = True
    mask[length - (count - before) :] = True
    return mask


def draw_dropped(batch: int, together: float, each: float, names: Sequence[str], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Rows (bool (B,)) where everything is dropped, and for each name the rows where it is, by itself or with all."""
    everything = torch.rand(batch, generator=generator) < together
    return everything, {name: everything | (torch.rand(batch, generator=generator) < each) for name in names}
