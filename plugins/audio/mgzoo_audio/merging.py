"""Sounds longer than the backbone sees at once: overlapping windows, merged at every step (section 10.5 of the facts).

Every window is denoised by itself and the predictions are averaged where windows overlap, weighted by a function of the place in the
window (MultiDiffusion: Bar-Tal et al. 2023). What merges velocities merges states, since a step is linear in the velocity.

Shape letters: B batch, C channels, T latent times, W times of a window, S windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mgzoo.parts import Condition, Denoise

TOGETHER = 16
"""Windows times samples that are denoised in one call, so that memory does not grow with the length."""


def starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows begin that cover ``length`` and share at least ``overlap``; the last ends where the sound ends."""
    if length <= window:
        return [0]
    step, last = window - overlap, length - window
    return [*range(0, last, step), last]


def weights(window: int, kind: str) -> Tensor:
    """(W,) above zero: a triangle (Bartlett, the paper's better one) or uniform."""
    places = torch.arange(window) + 0.5
    return 1 - (2 * places / window - 1).abs() if kind == "triangle" else torch.ones(window)


def shares(length: int, window: int, begins: Sequence[int], kind: str) -> Tensor:
    """(S, T) float: how much each window counts at each time; the columns sum to one."""
    window = min(window, length)
    shares = torch.zeros(len(begins), length)
    for row, begin in zip(shares, begins, strict=True):
        row[begin : begin + window] = weights(window, kind)
    return shares / shares.sum(0)


def merged(denoisers: Sequence[tuple[Sequence[int], Denoise]], length: int, window: int, kind: str) -> Denoise:
    """One closure over the whole length from closures over groups of windows.

    denoisers: (where the windows of this group begin, a closure that takes those windows one after the other as its batch (len * B, C, W)).
    """
    begins = [begin for group, _ in denoisers for begin in group]
    shares_ST = shares(length, window, begins, kind)

    def denoise(latents: Tensor, t: Tensor, branches: Sequence[frozenset[str]]) -> list[Tensor]:
        totals, place = [torch.zeros_like(latents, dtype=torch.float32) for _ in branches], 0
        for group, one in denoisers:
            windows = torch.cat([latents[..., begin : begin + window] for begin in group])
            found = one(windows, t.repeat(len(group)), branches)
            for total, prediction in zip(totals, found, strict=True):
                for i, (begin, part) in enumerate(zip(group, prediction.chunk(len(group)), strict=True)):
                    share = shares_ST[place + i, begin : begin + window].to(part.device)
                    total[..., begin : begin + window] += share * part.to(total)
            place += len(group)
        return totals

    return denoise


def windowed(
    make: Callable[[dict[str, Condition], dict[str, Tensor]], Denoise], conditions: dict[str, Condition], feeds: dict[str, Tensor], *,
    batch: int, length: int, window: int, overlap: int, kind: str,
) -> Denoise:  # fmt: skip
    """A closure for latents (B, C, length) from ``make(conditions, feeds)``, a model's `denoiser`.

    Conditions of frames (B, T, D) and feeds (B, C', T) are cut as the latents are, other conditions serve every window as they are.
    """
    begins = starts(length, window, overlap)
    if len(begins) == 1:
        return make(conditions, feeds)
    many = max(1, TOGETHER // batch)
    groups = [begins[i : i + many] for i in range(0, len(begins), many)]

    def cut(condition: Condition, group: Sequence[int]) -> Condition:
        along = condition.values.ndim == 3 and condition.mask.ndim == 1 and condition.values.shape[1] == length
        values = [condition.values[:, begin : begin + window] if along else condition.values for begin in group]
        return Condition(name=condition.name, values=torch.cat(values), mask=torch.cat([condition.mask] * len(group)))

    made = []
    for group in groups:
        told = {name: cut(condition, group) for name, condition in conditions.items()}
        fed = {name: torch.cat([feed[..., begin : begin + window] for begin in group]) for name, feed in feeds.items()}
        made.append((group, make(told, fed)))
    return merged(made, length, window, kind)
