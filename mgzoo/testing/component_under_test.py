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
        return _load(self.component.config)

    @cached_property
    def target(self) -> type:
        return _load(self.component.target)

    @cached_property
    def config(self) -> Any:
        """The part's tiny config, with which every law tries it."""
        return self.config_class.tiny()

    @cached_property
    def latent(self) -> LatentSpec:
        """The space that a backbone or a task is tried in, or an autoencoder's own."""
        if self.kind == "autoencoder":
            return self.config.latent()
        if self.kind == "task" and hasattr(self.config, "layout"):
            return next(latent for latent in LATENTS if latent.layout == self.config.layout())
        if self.kind != "backbone":
            return LATENTS[0]
        found = [latent for latent in LATENTS if not self.config.check(latent, CONDITIONS)]
        require(found, f"its tiny() takes latents neither of video nor of sound: {self.config.check(LATENTS[0], CONDITIONS)}")
        return found[0]

    def sizes(self, count: int = 3) -> list[tuple[int, ...]]:
        """Latent sizes that a backbone takes, the smallest first and no two alike; the first of one frame where it takes that."""
        axes = sorted(product(range(1, 9), repeat=len(self.latent.stride)), key=lambda size: (math.prod(size), size))
        found = [size for size in axes if not self.config.check(self.latent, CONDITIONS, size)]
        require(len(found) >= count, f"its tiny() takes {len(found)} of the latent sizes up to 8 along each axis; {count} are needed")
        # not only the smallest: those that differ along every axis say more
        return [found[0], *[found[i * (len(found) - 1) // (4 * count)] for i in range(1, count)]]

    def wires(self, feeds: int = 0) -> dict[str, Any]:
        """What a part of this kind is built with beside its config."""
        if self.kind == "backbone":
            return {"latent": self.latent, "conditions": CONDITIONS, "feeds": feeds}
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
        yield ask("check", subject.latent, CONDITIONS)
        yield ask("check", subject.latent, CONDITIONS, subject.sizes(1)[0])
        yield ask("tokens", subject.sizes(1)[0])
        yield ask("parameters", subject.latent, CONDITIONS, 2)
        yield "patch", getattr(config, "patch", None)
        return
    yield ask("parameters")
    if kind == "autoencoder":
        yield ask("latent")
    elif kind == "encoder":
        yield ask("takes")
        yield ask("condition", NAME)
    elif kind == "objective":
        yield ask("predicts")
    elif kind == "sampler":
        yield ask("accepts")
    elif kind == "task":
        yield ask("parts")
        yield ask("gives")
        yield ask("conditions")
        yield ask("feeds", subject.latent)
    elif kind == "data":
        yield ask("sizes")
        yield ask("gives")
    elif kind == "filter":
        yield ask("keeps", 0.0)
    elif kind == "metric":
        yield ask("better")
