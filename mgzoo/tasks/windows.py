"""Media beyond the training length: overlapping windows in time, denoised together and blended at every sampling step.

The windows of a step share the noisy latents in their overlap, so that their contents agree; blending finished media would cross-fade
between two different ones. MultiDiffusion (Bar-Tal et al. 2023) does this in space, Movie Gen Audio along time. Blending
velocities is equivalent to blending states, since a step is linear in the velocity.

Shape letters: B samples, N windows, C channels, T latent times of the whole, W of a window. Time is the first axis after the channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mgzoo.parts import Condition, Conditions, Denoise

WEIGHTS = ("triangle", "ramp", "uniform")


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """Starts of windows over `length`, each with an overlap of at least `overlap` with the previous one; the last ends at `length`."""
    assert 0 <= overlap < window, f"overlap {overlap} of windows of {window}"
    if length <= window:
        return [0]
    return [*range(0, length - window, window - overlap), length - window]


def split_windows(whole: Tensor, starts: Sequence[int], window: int) -> Tensor:
    """(B, C, T, …) -> its windows (N * B, C, W, …), grouped by start."""
    return torch.cat([whole[:, :, start : start + window] for start in starts])


def window_weights(window: int, kind: str) -> Tensor:
    """(W,) float32 above zero. triangle: linear to the middle, sampled at half places (Movie Gen Audio); ramp: a Bartlett window without its
    zero ends, in whole numbers; uniform: ones."""
    if kind == "uniform":
        return torch.ones(window)
    if kind == "ramp":
        count = torch.arange(1.0, window + 1)
        return torch.minimum(count, count.flip(0))
    assert kind == "triangle", f"{kind} is none of {WEIGHTS}"
    return 1 - (2 * (torch.arange(window) + 0.5) / window - 1).abs()


def blend_weights(length: int, window: int, starts: Sequence[int], kind: str) -> tuple[Tensor, Tensor]:
    """Weight of each window at each time, (N, T), and the divisor of the weighted sum, (T,).

    Integer weights are normalised after the sum, the others before it.
    """
    weights_NT = torch.zeros(len(starts), length)
    for row, start in zip(weights_NT, starts, strict=True):
        row[start : start + window] = window_weights(min(window, length), kind)
    total_T = weights_NT.sum(0)
    return (weights_NT, total_T) if kind == "ramp" else (weights_NT / total_T, torch.ones(length))


def blend_windows(pieces: Tensor, starts: Sequence[int], length: int, kind: str = "triangle") -> Tensor:
    """Windows (N * B, C, W, …) as `split_windows` gives them -> (B, C, T, …) float32, weighted mean in the overlaps."""
    window, along = pieces.shape[2], (-1, *[1] * (pieces.ndim - 3))
    weights_NT, total_T = (one.to(pieces.device) for one in blend_weights(length, window, starts, kind))
    whole = torch.zeros(len(pieces) // len(starts), pieces.shape[1], length, *pieces.shape[3:], device=pieces.device)
    for start, weights_T, piece in zip(starts, weights_NT, pieces.float().chunk(len(starts)), strict=True):
        whole[:, :, start : start + window] += weights_T[start : start + window].view(along) * piece
    return whole / total_T.view(along)


def windowed_denoiser(
    denoiser: Callable[[Conditions, Mapping[str, Tensor]], Denoise], conditions: Conditions, concat: Mapping[str, Tensor], *,
    batch: int, length: int, window: int, overlap: int, weights: str = "triangle", at_once: int = 16,
) -> Denoise:  # fmt: skip
    """A denoiser of latents (B, C, T, …) of any `length`, from a model's ``denoiser(conditions, concat)``; the latter itself for a single window.

    conditions: of the B samples. Those of kind ``frames`` (B, T, D) are split like the latents, others are shared by all windows.
    concat: extra input channels by name, (B, C', T, …). batch: B. window, overlap: latent times. weights: one of `WEIGHTS`. at_once: maximum windows times
    samples per call, to bound the memory.
    """
    starts = window_starts(length, window, overlap)
    if len(starts) == 1:
        return denoiser(conditions, concat)
    many = max(1, at_once // batch)
    groups = [starts[i : i + many] for i in range(0, len(starts), many)]
    denoisers = [
        denoiser(
            {name: _in_windows(condition, group, window, length) for name, condition in conditions.items()},
            {name: split_windows(extra, group, window) for name, extra in concat.items()},
        )
        for group in groups
    ]

    def denoise(latents: Tensor, t: Tensor, branches: Sequence[frozenset[str]]) -> list[Tensor]:
        pieces = [one(split_windows(latents, group, window), t.repeat(len(group)), branches) for one, group in zip(denoisers, groups, strict=True)]
        return [blend_windows(torch.cat(branch), starts, length, weights) for branch in zip(*pieces, strict=True)]

    return denoise


def _in_windows(condition: Condition, starts: Sequence[int], window: int, length: int) -> Condition:
    """A condition, repeated or split for each window."""
    values, mask = condition.values, condition.mask
    framed = values.ndim == 3 and mask.ndim == 1 and values.shape[1] == length
    cut = [values[:, start : start + window] if framed else values for start in starts]
    return replace(condition, values=torch.cat(cut), mask=torch.cat([mask] * len(starts)))
