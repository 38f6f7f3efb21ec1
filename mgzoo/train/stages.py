"""The curriculum: a recipe's stages as consecutive ranges of optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mgzoo.recipe.schema import Train, Zero


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage of training, under one setting.

    start, end: it is optimizer steps start..end-1. lr_start, lr_end: the steps over which the learning-rate schedule
    (warm-up, decay) runs: it starts again at a stage that sets ``train.lr``, and at one after it where that setting ends.
    recipe: the recipe as it stands in this stage. frozen: names of the parts that it freezes.
    """

    index: int
    name: str
    start: int
    end: int
    lr_start: int
    lr_end: int
    train: Train
    zero: Zero
    frozen: frozenset[str]
    recipe: Any = None


def plan_stages(recipe) -> list[StagePlan]:
    """The stages of a recipe in order; a recipe without stages is one stage of ``train.steps``."""
    stages = list(recipe.stages)
    steps = [stage.steps for stage in stages] or [recipe.train.steps]
    names = [stage.name for stage in stages] or ["train"]
    staged = [recipe.at_stage(i) for i in range(len(stages))] or [recipe]
    anew = [i == 0 or "train.lr" in stages[i].set or here.train.lr != staged[i - 1].train.lr for i, here in enumerate(staged)]
    bounds = [sum(steps[:i]) for i in range(len(steps) + 1)]
    made = []
    for i, (name, here) in enumerate(zip(names, staged, strict=True)):
        first = max(j for j in range(i + 1) if anew[j])
        last = next((j for j in range(i + 1, len(names)) if anew[j]), len(names))
        made.append(
            StagePlan(
                index=i,
                name=name,
                start=bounds[i],
                end=bounds[i + 1],
                lr_start=bounds[first],
                lr_end=bounds[last],
                train=here.train,
                zero=here.zero,
                frozen=frozenset(key for key, part in here.parts.items() if part.frozen),
                recipe=here,
            )
        )
    return made


def stage_at(stages: Sequence[StagePlan], step: int) -> StagePlan:
    """The stage that step `step` (0-based) belongs to; the last one for steps beyond the end."""
    return next((stage for stage in stages if stage.start <= step < stage.end), stages[-1])
