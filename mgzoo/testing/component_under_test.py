"""The component under test, and the questions that its config must answer. No torch here: a law imports this in a fresh process and sees that
questions import nothing heavy."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from mgzoo.discovery import say_once
from mgzoo.old_names import CONFIG_METHODS, PART_METHODS, accept_old_names
from mgzoo.spec import Component, ConditionSpec, LatentSpec

LATENTS = (
    LatentSpec(space="testing.video", channels=4, stride=(4, 4, 4)),
    LatentSpec(space="testing.sound", channels=4, stride=(16,), layout="sound"),
)
"""The spaces a backbone is tried in: the first whose rank it takes."""

CONDITIONS = (
    ConditionSpec(name="text", dim=12, max_len=8),
    ConditionSpec(name="style", dim=10, kind="vector"),
    ConditionSpec(name="motion", dim=6, kind="frames"),
)
"""One condition of each kind."""

RATE = 800
"""Samples per second of the kit's sounds."""

NAME = "prompt"  # of an encoder under test: not the default of any signature


class LawViolation(AssertionError):
    """A law that does not hold; the message tells the author of the part what to change."""


def require(holds: Any, message: str) -> None:
    """Raise `LawViolation` unless a claim holds."""
    if not holds:
        raise LawViolation(message)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A component as the laws see it.

    namespace: what its id must start with. plugin: module of the entry point, or "" where the component stands alone.
    """

    component: Component
    namespace: str
    plugin: str = ""

    def __str__(self) -> str:
        return self.component.id

    @property
    def kind(self) -> str:
        return self.component.kind

    @cached_property
    def config_class(self) -> type:
        return accept_old_names(_load(self.component.config), CONFIG_METHODS[self.component.kind], say_once)

    @cached_property
    def target(self) -> type:
        found = _load(self.component.target)
        return accept_old_names(found, PART_METHODS, say_once) if isinstance(found, type) else found

    @cached_property
    def config(self) -> Any:
        """The part's tiny config, with which every law tries it."""
        return self.config_class.tiny()

    @cached_property
    def latent(self) -> LatentSpec:
        """The space that a backbone or a task is tried in, or an autoencoder's own."""
        if self.kind == "autoencoder":
            return self.config.latent_spec()
        if self.kind == "task" and hasattr(self.config, "layout"):
            return next(latent for latent in LATENTS if latent.layout == self.config.layout())
        if self.kind != "backbone":
            return LATENTS[0]
        found = [latent for latent in LATENTS if not self.config.validate_shapes(latent, CONDITIONS)]
        require(found, f"its tiny() takes latents neither of video nor of sound: {self.config.validate_shapes(LATENTS[0], CONDITIONS)}")
        return found[0]

    def sizes(self, count: int = 3) -> list[tuple[int, ...]]:
        """Latent sizes that a backbone takes, the smallest first and no two alike; the first of one frame where it takes that."""
        axes = sorted(product(range(1, 9), repeat=len(self.latent.stride)), key=lambda size: (math.prod(size), size))
        found = [size for size in axes if not self.config.validate_shapes(self.latent, CONDITIONS, size)]
        require(len(found) >= count, f"its tiny() takes {len(found)} of the latent sizes up to 8 along each axis; {count} are needed")
        # not only the smallest: those that differ along every axis say more
        return [found[0], *[found[i * (len(found) - 1) // (4 * count)] for i in range(1, count)]]

    def wires(self, concat_channels: int = 0) -> dict[str, Any]:
        """What a part of this kind is built with beside its config."""
        if self.kind == "backbone":
            return {"latent": self.latent, "conditions": CONDITIONS, "concat_channels": concat_channels}
        return {"encoder": {"name": NAME}, "data": {"seed": 7, "rank": 0, "world": 1}}.get(self.kind, {})


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def questions(subject: Subject) -> Iterator[tuple[str, Any]]:
    """Everything that the checks and plans of a recipe ask a config of this kind: (question, answer)."""
    config, kind = subject.config, subject.kind

    def ask(question: str, *arguments: Any) -> tuple[str, Any]:
        method = getattr(config, question, None)
        require(method is not None, f"the config {type(config).__name__} has no {question}(); a recipe's check asks every {kind} for it")
        return question, method(*arguments)

    if kind == "backbone":
        yield ask("validate_shapes", subject.latent, CONDITIONS)
        yield ask("validate_shapes", subject.latent, CONDITIONS, subject.sizes(1)[0])
        yield ask("num_tokens", subject.sizes(1)[0])
        yield ask("num_parameters", subject.latent, CONDITIONS, 2)
        yield "patch", getattr(config, "patch", None)
        return
    yield ask("num_parameters")
    if kind == "autoencoder":
        yield ask("latent_spec")
    elif kind == "encoder":
        yield ask("input_modality")
        yield ask("condition_spec", NAME)
    elif kind == "objective":
        yield ask("prediction_type")
    elif kind == "sampler":
        yield ask("prediction_types")
    elif kind == "task":
        yield ask("required_parts")
        yield ask("modalities")
        yield ask("conditions")
        yield ask("concat_channels", subject.latent)
    elif kind == "data":
        yield ask("sizes")
        yield ask("modalities")
    elif kind == "filter":
        yield ask("keeps", 0.0)
    elif kind == "metric":
        yield ask("higher_is_better")
