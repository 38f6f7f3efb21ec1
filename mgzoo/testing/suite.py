"""The laws of each kind, and how they become tests."""

from __future__ import annotations

import importlib
import re
import sys
import unittest
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mgzoo.discovery import discover
from mgzoo.distributions import entry_points, known_distributions
from mgzoo.spec import KINDS, MgzooError
from mgzoo.testing.authors_line import authors_line
from mgzoo.testing.component_under_test import LawViolation, Subject

MODULES = {
    "declaring": KINDS,
    "building": KINDS,
    "randomness": KINDS,
    "learning": ("autoencoder", "encoder", "backbone", "objective", "task"),
    "autoencoders": ("autoencoder",),
    "encoders": ("encoder",),
    "backbones": ("backbone",),
    "objectives": ("objective",),
    "samplers": ("sampler",),
    "tasks": ("task",),
    "data": ("data",),
    "scores": ("filter", "metric"),
}
"""Files of `mgzoo.testing.laws`, in the order of the tests, and the kinds that each is about."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """One law. name: what its test is called. text: the law in a sentence. kinds: those it holds for.

    Called with a `Subject`, it raises `LawViolation` (an `AssertionError`), or whatever the part raised, where it does not hold.
    """

    name: str
    text: str
    kinds: tuple[str, ...]
    check: Callable[[Subject], None]

    def __call__(self, subject: Subject) -> None:
        self.check(subject)


def laws(kind: str | None = None) -> list[Law]:
    """The laws of a kind, or all of them."""
    found = []
    for module, kinds in MODULES.items():
        place = importlib.import_module(f"mgzoo.testing.laws.{module}")
        for check in place.LAWS:
            own = getattr(check, "kinds", kinds)
            text = " ".join(check.__doc__.split())
            found.append(Law(name=check.__name__, text=text, kinds=own, check=check))
    return [law for law in found if kind is None or kind in law.kinds]


def subjects(namespace: str) -> list[Subject]:
    """The components of an installed plugin. Raises MgzooError if the plugin is not installed or is disabled."""
    registry = discover()
    for bad in registry.disabled:
        if bad.name == namespace:
            raise MgzooError(f"the plugin {namespace} is disabled: {bad.reason}", origin=bad.distribution)
    if namespace not in registry.providers:
        distribution = known_distributions().get(namespace)
        remedy = f"pip install {distribution or '-e .'} first; `mgzoo list` shows what there is"
        raise MgzooError(f"no plugin {namespace} is installed", remedy=remedy)
    plugin = next(point.module for point in entry_points(sys.path) if point.namespace == namespace)
    declared = [component for _, component in sorted(registry.components.items()) if component.namespace == namespace]
    return [Subject(component=component, namespace=namespace, plugin=plugin) for component in declared]


def conformance(namespace: str) -> type:
    """A class of tests for an installed plugin: each law once for every component that it is about.

    Put it into a test file: ``TestAcme = conformance("acme")``. Raises MgzooError if the plugin is not installed or is disabled.
    """
    components = subjects(namespace)
    tests = {}
    for law in laws():
        concerned = [subject for subject in components if subject.kind in law.kinds]
        if concerned:
            tests[f"test_{law.name}"] = _test(law, concerned)
    name = "Test" + "".join(map(str.capitalize, re.split(r"[^a-zA-Z0-9]+", namespace)))
    return type(name, (), {"__doc__": f"The laws of mgzoo's parts, held against the plugin {namespace}.", **tests})


def _test(law: Law, concerned: list[Subject]) -> Callable:
    @pytest.mark.parametrize("component", concerned, ids=str)
    def test(self, component: Subject) -> None:
        __tracebackhide__ = True
        try:
            law(component)
        except LawViolation as error:
            said = f"{component} breaks a law: {law.text}\n    {error}"
        except unittest.SkipTest:
            raise
        except Exception as error:  # whatever a stranger's part raises: his own line says more than a traceback through the kit
            place = authors_line(component, error)
            if place is None:
                raise
            said = f"{component} raises where a law is tried: {law.text}\n    {place}"
        else:
            return
        pytest.fail(said, pytrace=False)

    test.__name__, test.__doc__ = f"test_{law.name}", law.text
    return test
