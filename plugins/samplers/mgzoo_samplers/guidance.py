"""Classifier-free guidance as a weighted sum of branches, one per set of dropped conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mgzoo.parts import Denoise
from mgzoo.spec import MgzooError
from mgzoo_samplers.configs import SamplerConfig

Branches = list[tuple[frozenset[str], float]]


def joint_branches(conditions: Sequence[str], scale: float) -> Branches:
    """v(none) + scale (v(all) - v(none)): all conditions are dropped together."""
    return _nested([frozenset(conditions), frozenset()], [scale]) if conditions else [(frozenset(), 1.0)]


def nested_branches(conditions: Sequence[str], scales: Mapping[str, float]) -> Branches:
    """v(none) + s1 (v(c1) - v(none)) + s2 (v(c1, c2) - v(c1)) + …, for c1, c2, … in the order of ``scales``.

    Conditions that ``scales`` does not name stay in every branch. A name that the model does not have raises MgzooError.
    """
    unknown = [name for name in scales if name not in conditions]
    if unknown:
        raise MgzooError(
            f"unknown conditions in guidance_scales: {', '.join(unknown)}; the conditions are {', '.join(conditions) or 'none'}",
            remedy="use only conditions of the model in the sampler's `guidance_scales`",
        )
    names = list(scales)
    return _nested([frozenset(names[i:]) for i in range(len(names) + 1)], list(scales.values()))


def _nested(dropped: list[frozenset[str]], scales: list[float]) -> Branches:
    """Collect the terms of each branch; those that cancel (a scale of 1, or two equal ones in a row) need no evaluation."""
    bounds = [1.0, *scales, 0.0]
    weighted = [(branch, high - low) for branch, high, low in zip(dropped, bounds[:-1], bounds[1:], strict=True)]
    return [(branch, weight) for branch, weight in weighted if weight != 0.0]


def guided(denoise: Denoise, conditions: Sequence[str], config: SamplerConfig) -> Callable[[Tensor, float], Tensor]:
    """predict(x (B, C, *axes) float32, t) -> guided prediction, float32: all branches of one t in one call of `denoise`."""
    scales = config.guidance_scales
    branches = nested_branches(conditions, scales) if scales else joint_branches(conditions, config.guidance)
    plain: Branches = [(frozenset(), 1.0)]

    def predict(x: Tensor, t: float) -> Tensor:
        here = branches if config.guidance_from <= t <= config.guidance_to else plain
        times = torch.full((len(x),), t, dtype=torch.float32, device=x.device)
        predictions = denoise(x, times, [dropped for dropped, _ in here])
        (_, weight), *more = here
        total = weight * predictions[0].float()
        for (_, weight), prediction in zip(more, predictions[1:], strict=True):
            total.add_(prediction.float(), alpha=weight)
        return total

    return predict
