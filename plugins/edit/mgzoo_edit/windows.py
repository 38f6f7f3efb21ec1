"""Clips longer than the model was trained on: overlapping windows in time, denoised together and merged at every step.

All windows of a step share the noisy latents where they overlap, so that they agree on what they make; merging finished clips would
cross-fade between two different ones (as MultiDiffusion, Bar-Tal et al. 2023, does in space; along time it is our choice).

Shape letters: B samples, N windows, C channels, T latent times of the whole, W of a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mgzoo.parts import Condition, Conditions, Denoise

AT_ONCE = 8  # windows in one forward pass


def starts_of(length: int, window: int, overlap: int) -> list[int]:
    """Where windows of this length begin so that they cover `length`, each overlapping the one before by `overlap` at least; the last one
    ends with it."""
    assert 0 <= overlap < window, f"overlap {overlap} of windows of {window}"
    if length <= window:
        return [0]
    return [*range(0, length - window, window - overlap), length - window]


def cut(whole: Tensor, starts: Sequence[int], window: int) -> Tensor:
    """(B, C, T, …) -> its windows (B * N, C, W, …), those of one sample together."""
    return torch.stack([whole[:, :, start : start + window] for start in starts], 1).flatten(0, 1)


def merge(pieces: Tensor, starts: Sequence[int], length: int) -> Tensor:
    """Windows (B * N, C, W, …) -> (B, C, T, …): where several lie, their mean, each weighted the more the farther from its ends."""
    window, many = pieces.shape[2], pieces.unflatten(0, (-1, len(starts)))
    weights = torch.arange(1, window + 1, device=pieces.device, dtype=pieces.dtype)
    weights = torch.minimum(weights, weights.flip(0)).view(-1, *[1] * (pieces.ndim - 3))
    total = pieces.new_zeros(many.shape[0], pieces.shape[1], length, *pieces.shape[3:])
    count = pieces.new_zeros(length, *[1] * (pieces.ndim - 3))
    for i, start in enumerate(starts):
        total[:, :, start : start + window] += weights * many[:, i]
        count[start : start + window] += weights
    return total / count


def over_windows(model, conditions: Conditions, feeds: Mapping[str, Tensor], length: int, window: int, overlap: int) -> Denoise:
    """A denoiser of whole latents (B, C, T, …) from the model's own of windows; that one itself where one window suffices.

    conditions: of the B samples, the same in all their windows. feeds: (B, C', T, …) each.
    """
    starts = starts_of(length, window, overlap)
    if len(starts) == 1:
        return model.denoiser(conditions, feeds=feeds)
    told = {name: _repeated(one, len(starts)) for name, one in conditions.items()}
    fed = {name: cut(one, starts, window) for name, one in feeds.items()}
    total = len(next(iter(told.values())).mask)
    parts = [slice(first, first + AT_ONCE) for first in range(0, total, AT_ONCE)]
    denoisers = [
        model.denoiser(
            {name: replace(one, values=one.values[part], mask=one.mask[part]) for name, one in told.items()},
            feeds={name: one[part] for name, one in fed.items()},
        )
        for part in parts
    ]

    def denoise(latents: Tensor, t: Tensor, branches: Sequence[frozenset[str]]) -> list[Tensor]:
        pieces, times = cut(latents, starts, window), t.repeat_interleave(len(starts))
        found = [one(pieces[part], times[part], branches) for one, part in zip(denoisers, parts, strict=True)]
        return [merge(torch.cat(branch), starts, length) for branch in zip(*found, strict=True)]

    return denoise


def _repeated(condition: Condition, times: int) -> Condition:
    return replace(condition, values=condition.values.repeat_interleave(times, 0), mask=condition.mask.repeat_interleave(times, 0))
