"""The curriculum: a recipe's stages as consecutive spans of steps, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mgzoo.recipe.schema import Train, Zero


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One span of training under one setting.

    first, last: the span is optimiser steps first..last-1. warm_first, warm_last: the span over which the learning rate
    runs its course (warm-up, decay): it begins anew at a stage that sets ``train.lr``, or goes back from one that did.
    recipe: the recipe as it stands in this stage. frozen: names of the parts that it freezes.
    """

    index: int
    name: str
    first: int
    last: int
    warm_first: int
    warm_last: int
    train: Train
    zero: Zero
    frozen: frozenset[str]
    recipe: Any = None


def plans(recipe) -> list[StagePlan]:
    """The stages of a recipe in order; a recipe without stages is one span of ``train.steps``."""
    stages = list(recipe.stages)
    steps = [stage.steps for stage in stages] or [recipe.train.steps]
    names = [stage.name for stage in stages] or ["train"]
    staged = [recipe.at_stage(i) for i in range(len(stages))] or [recipe]
    anew = [i == 0 or "train.lr" in stages[i].set or here.train.lr != staged[i - 1].train.lr for i, here in enumerate(staged)]
    bounds = [sum(steps[:i]) for i in range(len(steps) + 1)]
    made = []
    for i, (name, here) in enumerate(zip(names, staged, strict=True)):
        begin = max(j for j in range(i + 1) if anew[j])
        end = next((j for j in range(i + 1, len(names)) if anew[j]), len(names))
        made.append(
            StagePlan(
                index=i,
                name=name,
                first=bounds[i],
                last=bounds[i + 1],
                warm_first=bounds[begin],
                warm_last=bounds[end],
                train=here.train,
                zero=here.zero,
                frozen=frozenset(key for key, part in here.parts.items() if part.frozen),
                recipe=here,
            )
        )
    return made


def stage_at(spans: Sequence[StagePlan], step: int) -> StagePlan:
    """The stage that step `step` (0-based) belongs to; the last one for steps beyond the end."""
    return next((span for span in spans if span.first <= step < span.last), spans[-1])


def learning_rate(span: StagePlan, step: int) -> float:
    """Learning rate of 0-based step `step`: linear warm-up to ``train.lr``, then constant or a cosine to ``lr * final_lr``."""
    train, k, n = span.train, step - span.warm_first, span.warm_last - span.warm_first
    if k < train.warmup:
        return train.lr * (k + 1) / train.warmup
    if train.schedule == "constant":
        return train.lr
    progress = min(1.0, (k - train.warmup + 1) / max(1, n - train.warmup))
    return train.lr * (train.final_lr + (1 - train.final_lr) * 0.5 * (1 + math.cos(math.pi * progress)))
