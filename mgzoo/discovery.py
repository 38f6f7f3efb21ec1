"""Plugin discovery: entry points of the group ``mgzoo``, one by one. A broken plugin is disabled and never stops the others.

Discovery, including the code of plugins in it, imports no torch, numpy, deepspeed, transformers or diffusers.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pluggy

from mgzoo import hooks
from mgzoo.distributions import GROUP, EntryPoint, entry_points, listed_owner, pinned, pip_line, same_distribution
from mgzoo.errors import suggest
from mgzoo.import_guard import run_guarded, stdout_to_stderr
from mgzoo.old_names import CONFIG_METHODS, PART_METHODS, accept_old_names
from mgzoo.spec import KINDS, Component, MgzooError, Problem, Provider, one_line

ID = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+\.v[0-9]+")
SLOW = 1.0
"""Seconds of loading from which a plugin is named (our choice)."""
PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class DisabledPlugin:
    """A disabled plugin. name: its namespace. distribution: the pip distribution, with version. reason: one line."""

    name: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution}): {self.reason}" if self.distribution else f"{self.name}: {self.reason}"


@dataclass(kw_only=True)
class Registry:
    """The active plugins: components by id, providers and recipe folders by namespace; and the disabled ones, with reasons.

    renamed: old component id -> current id.
    """

    components: dict[str, Component] = field(default_factory=dict)
    providers: dict[str, Provider] = field(default_factory=dict)
    disabled: list[DisabledPlugin] = field(default_factory=list)
    recipe_folders: dict[str, Path] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    manager: pluggy.PluginManager = field(default_factory=lambda: plugin_manager())
    _configs: dict[str, type] = field(default_factory=dict, repr=False)  # by place

    @property
    def hook(self):
        return self.manager.hook

    def kind(self, kind: str) -> list[Component]:
        """Components of one kind, by id."""
        return [c for _, c in sorted(self.components.items()) if c.kind == kind]

    def provider(self, component_id: str) -> Provider:
        """The distribution of this component."""
        return self.providers[self.get(component_id).namespace]

    def find(self, component_id: str) -> Component | None:
        """The component with this id or old id (with one warning), or None."""
        current = self.renamed.get(component_id)
        if current:
            say_once(f"{component_id} was renamed to {current}; the old name still works, but use the new one")
        return self.components.get(current or component_id)

    def get(self, component_id: str) -> Component:
        """The component with this id. Raises `MgzooError` with the nearest ids, or the distribution to install."""
        component = self.find(component_id)
        if component is None:
            what, remedy = self.unknown(component_id)
            raise MgzooError(what, remedy=remedy)
        return component

    def unknown(self, component_id: str, kind: str = "", versions: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Problem and remedy for an unknown id: install or repair a plugin, or use one of the nearest ids.

        versions: distribution -> version recorded in a manifest, a lock or a generated file. A distribution named only there gets no pip command.
        """
        what, namespace = f"unknown component {component_id!r}", component_id.split(".", 1)[0]
        for bad in self.disabled:
            if bad.name == namespace:
                return f"{what}: the plugin {bad.name} is disabled", f"repair it ({bad.reason}); see `mgzoo doctor`"
        if namespace not in self.providers and (line := pip_line(namespace, versions)):
            return what, line
        if namespace not in self.providers and (named := self.not_installed(versions or {})):
            return what, f"identify the plugin and check that you trust it; made with {named}"
        names = {c.id: c.id.split(".")[-2] for c in self.components.values() if not kind or c.kind == kind}
        bare = re.sub(r"\.v[0-9]+$", "", component_id).rpartition(".")[2]
        alone = "." not in component_id or namespace in self.providers
        near = suggest(component_id, names) or [known for word in suggest(bare, set(names.values()), 1) for known in names if alone and names[known] == word]
        if near:
            return what, "did you mean " + " or ".join(near) + "?"
        return what, f"install the plugin with this component; `mgzoo list{' ' + kind if kind else ''}` shows the installed ones"

    def not_installed(self, versions: Mapping[str, str]) -> str:
        """The given distributions that supply no installed component, with versions: ``mgzoo-acme==1.2``."""
        here = {provider.distribution for provider in self.providers.values()}
        return ", ".join(pinned(name, version) for name, version in sorted(versions.items()) if name not in here)

    def config_class(self, component_id: str) -> type:
        """Import the component's config dataclass; imports of torch etc. are an error."""
        component = self.get(component_id)
        if (known := self._configs.get(component.config)) is not None:
            return known
        found, reason = run_guarded(lambda: load(component.config), component.namespace)
        if reason:
            raise self._broken(component, "config", reason)
        if isinstance(found, type):
            found = self._configs[component.config] = accept_old_names(found, CONFIG_METHODS[component.kind], say_once)
        return found

    def build_class(self, component_id: str) -> type:
        """Import the component's class, and with it torch."""
        component = self.get(component_id)
        try:
            with stdout_to_stderr():
                found = load(component.target)
        except (ImportError, AttributeError) as error:
            raise self._broken(component, "target", f"{type(error).__name__}: {error}") from error
        return accept_old_names(found, PART_METHODS, say_once) if isinstance(found, type) else found

    def check(self, recipe) -> list[Problem]:
        """Problems from the `mgzoo_check` hooks of plugins; a failing hook is a problem itself."""
        problems = []
        for implementation in self.hook.mgzoo_check.get_hookimpls():
            alone = self.manager.subset_hook_caller(
                "mgzoo_check", [p for p in self.manager.get_plugins() if p is not implementation.plugin]
            )
            found, reason = run_guarded(lambda call=alone: [p for listed in call(recipe=recipe) for p in listed or ()])
            if reason is None and not all(isinstance(p, Problem) for p in found):
                reason = "it did not return a list of mgzoo.spec.Problem"
            if reason:
                provider = self.providers[implementation.plugin_name]
                found = [Problem(what=f"the check of plugin {implementation.plugin_name} failed: {reason}", kind="plugin",
                                 remedy=f"repair or upgrade {provider.distribution}, or exclude it with MGZOO_PLUGINS")]
            problems += found
        return problems

    def _broken(self, component: Component, role: str, reason: str) -> MgzooError:
        place = getattr(component, role)
        return MgzooError(f"the {role} of {component.id}, {place}, cannot be imported: {reason}", origin=str(self.provider(component.id)),
                          remedy=f"repair or upgrade {self.provider(component.id).distribution}")


def plugin_manager() -> pluggy.PluginManager:
    """A pluggy manager with the mgzoo hooks."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hooks)
    return manager


_found: Registry | None = None
_told: set[str] = set()
"""Warnings already logged by this process."""


def say_once(line: str) -> None:
    """Log a warning once per process."""
    import logging

    if line not in _told:
        _told.add(line)
        logging.getLogger("mgzoo").warning("%s", line)


def discover(refresh: bool = False) -> Registry:
    """The registry of this process, created at the first call. ``MGZOO_PLUGINS=a,b`` limits the plugins; empty: none."""
    global _found
    if _found is None or refresh:
        _found = load_plugins(list(entry_points(sys.path)), os.environ.get("MGZOO_PLUGINS"))
    return _found


def current_id(component_id: str) -> str:
    """The current id of a component, after renamings."""
    return discover().renamed.get(component_id, component_id)


def load_plugins(points: list[EntryPoint], limit: str | None = None) -> Registry:
    """Load plugins one by one and register the valid ones. limit: comma-separated namespaces, None for all."""
    registry = Registry()
    wanted = None if limit is None else [name.strip() for name in limit.split(",") if name.strip()]
    if wanted is not None:
        for name in wanted:
            if name not in {point.namespace for point in points}:
                registry.disabled.append(DisabledPlugin(name=name, distribution="", reason="named in MGZOO_PLUGINS but not installed"))
        points = [point for point in points if point.namespace in wanted]

    def aside(point: EntryPoint, reason: str) -> None:
        registry.disabled.append(DisabledPlugin(name=point.namespace, distribution=f"{point.distribution} {point.version}", reason=reason))

    loaded: list[tuple[EntryPoint, ModuleType, list[Component], Path | None]] = []
    for point in sorted(points, key=lambda p: (p.namespace, p.distribution)):
        if reason := _namespace_conflict(point, points):
            aside(point, reason)
            continue
        begun = time.perf_counter()
        with stdout_to_stderr(descriptor=True):
            answer, reason = run_guarded(lambda point=point: _load_plugin(point), point.namespace)
        if (seconds := time.perf_counter() - begun) > SLOW:
            say_once(f"the plugin {point.namespace} ({point.distribution} {point.version}) took {seconds:.1f} s to load; every command waits for it")
        if reason:
            aside(point, reason)
        else:
            loaded.append((point, *answer))
    declared: dict[str, list[EntryPoint]] = {}
    for point, _, components, _ in loaded:
        for component in components:
            declared.setdefault(component.id, []).append(point)
    for point, module, components, recipes in loaded:
        reason = _id_conflict(point, components, declared)
        if reason:
            aside(point, reason)
            continue
        registry.manager.register(module, name=point.namespace)
        registry.components.update({component.id: component for component in components})
        registry.renamed.update({old: component.id for component in components for old in component.formerly})
        registry.providers[point.namespace] = Provider(namespace=point.namespace, distribution=point.distribution, version=point.version)
        if recipes is not None:
            registry.recipe_folders[point.namespace] = recipes
    registry.disabled.sort(key=lambda bad: (bad.name, bad.distribution))
    return registry


def _namespace_conflict(point: EntryPoint, points: list[EntryPoint]) -> str | None:
    """Why a plugin with a namespace that others claim too is disabled; None for the one listed in `registry/plugins.json`."""
    rivals = [one for one in points if one.namespace == point.namespace and one is not point]
    if not rivals:
        return None
    owner = listed_owner(point.namespace)
    if owner and same_distribution(point.distribution, owner):
        return None
    for one in rivals:
        if owner and same_distribution(one.distribution, owner):
            return f"the namespace {point.namespace!r} is that of {one.distribution} {one.version}, which registry/plugins.json lists; uninstall {point.distribution}"
    others = " and ".join(f"{one.distribution} {one.version}" for one in rivals)
    return f"the namespace {point.namespace!r} is also claimed by {others}; uninstall all but one"


def _load_plugin(point: EntryPoint) -> tuple[ModuleType, list[Component], Path | None]:
    """Import a plugin and collect its declarations, in a separate manager."""
    module = importlib.import_module(point.module)
    alone = plugin_manager()
    for name, value in vars(module).items():
        options = alone.parse_hookimpl_opts(module, name)
        own = isinstance(value, FunctionType) and value.__module__ == module.__name__
        hook = (options or {}).get("specname") or name
        if options is None and not (own and name.startswith(f"{GROUP}_")):
            continue
        if not hasattr(alone.hook, hook):
            near = suggest(hook, [known for known in vars(hooks) if known.startswith(f"{GROUP}_")], 1)
            raise MgzooError(f"{hook} is not a hook" + (f"; did you mean {near[0]}?" if near else ""))
        if options is None:
            raise MgzooError(f"{name} is not marked with @hookimpl")
    alone.register(module, name=point.namespace)
    components = [component for listed in alone.hook.mgzoo_components() for component in listed]
    for component in components:
        if not isinstance(component, Component):
            raise MgzooError(f"mgzoo_components returned {component!r}, not a Component")
        if not ID.fullmatch(component.id):
            raise MgzooError(f"the id {component.id!r} is not of the form plugin.name.vN")
        if component.kind not in KINDS:
            raise MgzooError(f"{component.id} has the unknown kind {component.kind!r}; kinds are {', '.join(KINDS)}")
        if not isinstance(component.formerly, tuple):
            raise MgzooError(f"the old ids of {component.id}, {component.formerly!r}, are not a tuple")
        for old in component.formerly:
            if not isinstance(old, str) or not ID.fullmatch(old):
                raise MgzooError(f"an old id of {component.id}, {old!r}, is not of the form plugin.name.vN")
        for role in ("config", "target"):
            if not PLACE.fullmatch(getattr(component, role)):
                raise MgzooError(f"the {role} of {component.id}, {getattr(component, role)!r}, is not of the form module:Class")
        if not all(isinstance(text, str) for text in (component.summary, component.license)):
            raise MgzooError(f"the summary and the licence of {component.id} are not texts")
    components = [dataclasses.replace(one, summary=one_line(one.summary), license=one_line(one.license)) for one in components]
    folders = alone.hook.mgzoo_recipes()
    return module, components, Path(folders[0]) if folders else None


def _id_conflict(point: EntryPoint, components: list[Component], declared: dict[str, list[EntryPoint]]) -> str | None:
    for component in components:
        owners = declared[component.id]
        if owners.count(point) > 1:
            return f"it declares the id {component.id!r} twice"
        if component.namespace != point.namespace and len(owners) > 1:
            both = " and ".join(sorted(f"{owner.distribution} {owner.version}" for owner in owners))
            return f"the id {component.id!r} is taken: it is declared by {both}"
        if component.namespace != point.namespace:
            return f"the id {component.id!r} is outside its namespace: it must start with {point.namespace + '.'!r}"
    claims: dict[str, str] = {component.id: f"the id of {component.id}" for component in components}
    for component in components:
        for old in component.formerly:
            if old.split(".", 1)[0] != point.namespace:
                return f"the old id {old!r} of {component.id} is outside its namespace: it must start with {point.namespace + '.'!r}"
            if old in claims:
                return f"the old id {old!r} of {component.id} is also {claims[old]}; an id means one component"
            claims[old] = f"an old id of {component.id}"
    return None


def load(place: str) -> Any:
    """Import ``module:Class``."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
