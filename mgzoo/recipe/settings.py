"""Settings without effect because of another setting. No torch.

A default is silent. So are sizes of what does not happen (`train.validation_batch`, `train.keep_checkpoints`, `zero.reduce_bucket_size`), which cost nobody anything. So is a setting that somebody else switched off afterwards: a file that says how to validate, and ``train.validate_every=0``
on the command line. What depends on the number of steps is no problem of a recipe, which may be tried for a few; the run says it (`notes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mgzoo.recipe.schema import Train
from mgzoo.recipe.yaml_tree import COMMAND_LINE, Node, find_node
from mgzoo.spec import Problem


@dataclass(frozen=True, kw_only=True)
class Rule:
    """key: the setting. neutral: its value without effect. idle: whether other values have no effect. switch: the deciding setting."""

    key: str
    neutral: Any
    idle: Callable[[Any], bool]
    switch: str
    what: str
    remedy: str


def holds_out(config) -> bool | None:
    """Whether a data config has held-out samples; None if unknown: its ``holds_out()``, else its ``held_out``."""
    if hasattr(config, "holds_out"):
        return config.holds_out()
    return bool(config.held_out) if hasattr(config, "held_out") else None


RULES = (
    Rule(key="train.validate_every", neutral=0, idle=lambda r: r.data is not None and holds_out(r.data.config) is False,
         switch="data.config.held_out", what="validation is on, but the data has no held-out samples",
         remedy="set data.config.held_out, or train.validate_every=0"),
    Rule(key="train.plateau", neutral=0, idle=lambda r: not r.train.validate_every or (r.data is not None and holds_out(r.data.config) is False),
         switch="train.validate_every", what="a plateau needs validation, but there is none",
         remedy="set train.validate_every and held-out samples, or train.plateau=0"),
    Rule(key="train.ema.every", neutral=1, idle=lambda r: not r.train.ema.decay, switch="train.ema.decay",
         what="with train.ema.decay 0 there is no average", remedy="set train.ema.decay, or remove this"),
    Rule(key="train.min_lr_ratio", neutral=0.05, idle=lambda r: r.train.schedule == "constant", switch="train.schedule",
         what="a constant schedule ignores the final learning rate", remedy="set train.schedule=cosine, or remove this"),
    Rule(key="train.steps", neutral=None, idle=lambda r: bool(r.stages), switch="stages", what="the stages have steps of their own",
         remedy="set stages.N.steps, or stages=[] for a run without stages"),
    Rule(key="zero.persistence_threshold", neutral=100_000, idle=lambda r: r.zero.stage != 3, switch="zero.stage", what="only ZeRO stage 3 partitions weights",
         remedy="set zero.stage=3, or remove this"),
)


def setting_problems(recipes: Sequence[Any]) -> list[Problem]:
    """All explicit settings without effect in any stage. recipes: the recipe of each stage."""
    found = []
    for rule in RULES:
        acts, idle = set(), {}
        for recipe in recipes:
            node = find_node(recipe.yaml_tree, rule.key)
            if node is None or node.plain() == rule.neutral:
                continue
            if not rule.idle(recipe):
                acts.add(node.origin)
            elif _meant(node.origin, find_node(recipe.yaml_tree, rule.switch), recipe.yaml_tree):
                idle[node.origin] = Problem(what=rule.what, remedy=rule.remedy, key=rule.key, origin=node.origin, kind="no-effect")
        found += [problem for origin, problem in idle.items() if origin not in acts]
    return found


def _meant(origin, switch: Node | None, written: Node) -> bool:
    """Whether who wrote a setting could have known the other one: it is on the command line, or both are in one place, or the other is a default.

    A recipe that mgzoo wrote has every key there is, whoever asked for it.
    """
    if origin == COMMAND_LINE:
        return True
    complete = all(find_node(written, f"train.{one.name}") for one in fields(Train))
    return not complete and (switch is None or switch.origin.source == origin.source)


def setting_notes(spans: Sequence[Any]) -> list[str]:
    """Settings that need more steps than the run has. spans: its `mgzoo.train.stages.StagePlan`."""
    found, total = {}, spans[-1].end
    for span in spans:
        train, course = span.train, span.lr_end - span.lr_start
        if train.warmup >= course > 1:
            found[f"train.warmup={train.warmup} is not shorter than its {course} steps: the learning rate ends below its peak"] = None
        if train.ema.decay and train.ema.every > total:
            found[f"train.ema.every={train.ema.every} is longer than the run of {total} steps: the EMA is never updated, and the raw weights are kept"] = None
        if train.plateau and train.validate_every * (train.plateau + 1) >= total:
            found[f"train.plateau={train.plateau} with a validation every {train.validate_every} of {total} steps: the learning rate is never lowered"] = None
    return list(found)
