"""Validate the merged YAML against the schema and each component's config, and collect every problem.

OmegaConf converts each leaf separately, so that one wrong value does not hide others.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

from mgzoo.artifact.manifest import read_manifest, read_part_config
from mgzoo.discovery import current_id, discover, say_once
from mgzoo.errors import suggest
from mgzoo.hub.lookup import find_local
from mgzoo.import_guard import run_guarded
from mgzoo.recipe.field_types import convert_value, default_of, field_hints, holds_dataclasses, plain_value, raw_default, type_name, why_unusable
from mgzoo.recipe.interpolation import Interpolation
from mgzoo.recipe.overrides import as_text
from mgzoo.recipe.recorded_versions import recorded_versions
from mgzoo.recipe.schema import SCHEMA, Adapter, PartRef, Schema
from mgzoo.recipe.yaml_tree import MISSING, Node, current_keys, leaves, merge_leaf, merge_trees, node_of
from mgzoo.spec import SEED_LIMIT, Component, MgzooError, Origin, Problem, Provider, RecipeError

STAGE_KEY = re.compile(r"(train|data)\..+|parts\.(\w+|encoders\.[\w-]+)\.frozen")
ENCODER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
ROLES = ("autoencoder", "encoders", "backbone", "objective", "sampler", "task")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a composed recipe.

    name: ``autoencoder``, ``encoders.text``, ``backbone``, ``objective``, ``sampler``, ``task`` or ``data``.
    config: an instance of the component's config dataclass. weights: the initial weights. adapter: the LoRA adapter.
    """

    name: str
    kind: str
    component: Component
    provider: Provider
    config: Any
    weights: str | None = None
    frozen: bool = False
    adapter: Adapter | None = None


@dataclass(frozen=True, kw_only=True)
class FieldValue:
    """A value and its origin. raw: the interpolation, if any."""

    value: Any
    origin: Origin
    raw: str | None = None


def validate(written: Node) -> tuple[dict[str, Any], list[Problem]]:
    """The fields of a `mgzoo.recipe.recipe.Recipe`, and the problems. Invalid parts are omitted and listed in `broken`."""
    work = _Validation(written)
    top, found = work.typed(Schema, work.root, ""), work.parts()
    data = found.pop("data", None)
    if top["schema"] != SCHEMA and not any(p.key == "schema" for p in work.problems):
        work.problem(f"unknown schema {top['schema']}", f"this mgzoo reads schema {SCHEMA}", "schema", work.root.value["schema"], "schema")
    if not 0 <= top["seed"] < SEED_LIMIT:
        work.problem(f"{top['seed']} is out of range", f"choose one from 0 to {SEED_LIMIT - 1}", "seed", work.root.value["seed"], "value")
    work.check_stages()
    roles: dict[str, Any] = {}
    for name, part in found.items():
        role, _, encoder = name.partition(".")
        if encoder:
            roles.setdefault(role, {})[encoder] = _ref(part)
        else:
            roles[role] = _ref(part)
    tree = {"schema": top["schema"], "description": top["description"], "seed": top["seed"], "parts": roles}
    if data:
        tree["data"] = _ref(data)
    for name in ("train", "stages", "zero", "policy"):
        tree[name] = plain_value(top[name])
    origins = {key: _settings(node) for key, node in leaves(work.root)}
    values = {"parts": found, "data": data, "tree": tree, "origins": origins, "invalid_parts": frozenset(work.invalid_parts), "stages": tuple(top["stages"])}
    return {**{name: top[name] for name in ("description", "seed", "train", "zero", "policy")}, **values}, work.problems


def _ref(part: Part) -> dict[str, Any]:
    said = {"use": part.component.id, "config": plain_value(part.config), "weights": part.weights, "frozen": part.frozen}
    return said if part.adapter is None else {**said, "adapter": plain_value(part.adapter)}


def _settings(node: Node) -> list[FieldValue]:
    said = [FieldValue(value=value, origin=origin) for origin, value in node.overridden]
    return [*said, FieldValue(value=node.plain(), origin=node.origin, raw=node.raw)]


class _Validation:
    """One pass over the YAML tree; collects `problems` and `broken`."""

    def __init__(self, written: Node):
        self.registry, self.problems, self.invalid_parts = discover(), [], set()
        self.root = self.complete(Schema, written, "")
        self.references = Interpolation(self.root, self.problems)
        self.declared = {name: (kind, node) for name, kind, node in self._roles()}
        self.classes = {name: self.component(name, kind, node) for name, (kind, node) in self.declared.items()}
        self.references.fill_all(self.root, "")

    def problem(self, what: str, remedy: str, key: str, node: Node, kind: str) -> None:
        said = (kind == "type" and node.unread) or Problem(what=what, remedy=remedy, kind=kind)  # of a wrong type, for it is no YAML
        self.problems.append(dataclasses.replace(said, key=key, origin=node.origin))

    # -- every key of the schema

    def complete(self, cls: type, node: Node, key: str) -> Node:
        """A map with all fields of the dataclass, the YAML over the defaults; unknown keys are problems."""
        known, told = field_hints(cls), not node.is_map
        if told and not node.reported:
            remedy = f"write {{use: {node.plain()}}}" if cls is PartRef and isinstance(node.value, str) else f"write a map of {', '.join(known)}"
            self.problem(f"{_show(node)} is not a map", remedy, key, node, "type")
        if told:
            node = Node({}, node.origin)
        node = current_keys(cls, node)
        self.unknown_keys(known, node, key)
        children = {}
        for f in dataclasses.fields(cls):
            inner, below = holds_dataclasses(known[f.name])
            child, default = node.value.get(f.name), default_of(cls, f, node.origin)
            default.reported = told
            path = f"{key}.{f.name}" if key else f.name
            if inner == "leaf":
                children[f.name] = default if child is None else merge_leaf(default, as_text(child, known[f.name]))
                continue
            child = child or default
            if inner == "one" or (inner == "maybe" and child.value is not None):
                child = self.complete(below, child, path)
            elif inner == "map" and child.is_map:
                child = Node({n: self.complete(below, c, f"{path}.{n}") for n, c in child.value.items() if c.value is not None}, child.origin)
            elif inner == "list" and child.is_list:
                child = Node([self.complete(below, c, f"{path}.{i}") for i, c in enumerate(child.value)], child.origin)
            elif inner in ("map", "list") and child.value is not None:
                remedy = ("write a map of NAME: " if inner == "map" else "write a list of ") + f"{{{', '.join(field_hints(below))}}}"
                self.problem(f"{_show(child)} is not a {inner}", remedy, path, child, "type")
                self.invalid_parts.add(f.name)
                child = default
            children[f.name] = child
        return Node(children, node.origin, replaced_config=node.replaced_config)

    def unknown_keys(self, known, node: Node, key: str) -> None:
        for name, child in node.value.items():
            if name not in known:
                near = suggest(name, known, 1)
                remedy = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}" if known else "no keys are allowed here"
                self.problem("unknown key", remedy, f"{key}.{name}" if key else name, child, "unknown-key")

    # -- parts

    def _roles(self):
        parts = self.root.value["parts"].value
        for role in ROLES:
            node = parts[role]
            if role != "encoders":
                if node.value is not None:
                    yield role, role, node
                continue
            for name, encoder in (node.value or {}).items():
                if not ENCODER_NAME.fullmatch(name):
                    self.problem("encoder names consist of letters, digits, '_' and '-'", "rename it", f"parts.encoders.{name}", encoder, "name")
                yield f"encoders.{name}", "encoder", encoder
        if self.root.value["data"].value is not None:
            yield "data", "data", self.root.value["data"]

    def component(self, name: str, kind: str, node: Node) -> type | None:
        """The config class of a part (its config map is completed), or None."""
        key = _key(name)
        for leaf in ("use", "weights"):
            self.references.fill(node.value[leaf], f"{key}.{leaf}")
        use = node.value["use"]
        if not self.leaf(PartRef, "use", use, f"{key}.use")[0]:
            self.invalid_parts.add(name)
            return None
        component = self.registry.find(use.value)
        if component is None:
            what, remedy = self.registry.unknown(str(use.value), kind, recorded_versions(use.origin.source))
            self.problem(what, remedy, f"{key}.use", use, "unknown-component")
        elif component.kind != kind:
            there = ", ".join(c.id for c in self.registry.kind(kind)) or "none is installed"
            article = "an" if component.kind[0] in "aeio" else "a"
            self.problem(f"{component.id} is {article} {component.kind}, not {'an' if kind[0] in 'aeio' else 'a'} {kind}", f"choose one of {there}",
                         f"{key}.use", use, "kind")
        else:
            try:
                cls = self.registry.config_class(component.id)
                reason = why_unusable(cls)
                if reason is None:
                    node.value["config"] = self.complete_config(cls, name, node, key)
                    return cls
                provider = self.registry.provider(component.id)
                self.problem(f"the config of {component.id} cannot be imported: {reason}", f"repair or upgrade {provider.distribution}", f"{key}.use", use, "plugin")
            except RecipeError as error:
                self.problems += error.problems
            except MgzooError as error:
                self.problem(error.what, error.remedy, f"{key}.use", use, "plugin")
        self.invalid_parts.add(name)
        return None

    def complete_config(self, cls: type, name: str, node: Node, key: str) -> Node:
        """The config's fields: the YAML over tiny(), the config of the weights, or the defaults."""
        written, weights, key = node.value["config"], node.value["weights"].value, f"{key}.config"
        if not written.is_map:
            self.problem(f"{_show(written)} is not a map of settings", "write {key: value}", key, written, "type")
            written = Node({}, written.origin)
        known = {f.name for f in dataclasses.fields(cls)}
        children = {name: as_text(child, field_hints(cls).get(name)) for name, child in current_keys(cls, written).value.items()}
        base = Node({f.name: default_of(cls, f, node.origin) for f in dataclasses.fields(cls)}, Origin(source=f"default of {cls.__name__}"))
        if weights is None and node.replaced_config is not None:
            children = self.kept_settings(cls, node) | children
        if (size := children.get("size")) is not None:
            self.references.fill(size, f"{key}.size")
        if size is not None and (size.value == "tiny" or "size" not in known):
            del children["size"]
            if size.value != "tiny":
                self.problem(f"unknown size {_show(size)}", "the only size is `tiny`; for other sizes set the fields", f"{key}.size", size, "config")
            else:
                start, reason = run_guarded(lambda: plain_value(cls.tiny()))
                if reason:
                    raise MgzooError(f"{cls.__name__}.tiny() failed: {reason}", remedy="repair the plugin, or set the fields")
                tiny = {f: value for f, value in start.items() if value != base.value[f].plain()}
                base = merge_trees(base, node_of(tiny, Origin(source=f"{cls.__name__}.tiny()")))
        elif isinstance(weights, str) and (inherited := self.inherited(name, node, weights)):
            base = merge_trees(base, current_keys(cls, inherited))
        joined = merge_trees(base, Node(children, written.origin))
        self.unknown_keys(sorted(known), joined, key)
        for child in joined.value.values():
            child.overridden = [(origin, value) for origin, value in child.overridden if value != MISSING]
        return Node({f.name: joined.value[f.name] for f in dataclasses.fields(cls)}, written.origin)

    def kept_settings(self, cls: type, node: Node) -> dict[str, Node]:
        """What was written for the component that a later layer replaced, where this one has the same setting and can hold the value."""
        written = current_keys(cls, node.replaced_config)
        if not written.is_map:
            return {}
        known = {f.name for f in dataclasses.fields(cls)} | ({"size"} if hasattr(cls, "tiny") else set())
        kept = {name: child for name, child in written.value.items() if name in known and (name == "size" or _holds(cls, name, child))}
        if dropped := [name for name in written.value if name not in kept]:
            use = node.value["use"].value
            say_once(f"{use} does not take {', '.join(dropped)} of the component that it replaces: dropped" + (f"; kept {', '.join(kept)}" if kept else ""))
        return kept

    def inherited(self, name: str, node: Node, weights: str) -> Node | None:
        """The config saved with the weights, for a local artifact of the same component."""
        folder = find_local(weights)
        entry = folder and read_manifest(folder).parts.get(name)
        if not entry or current_id(entry.use) != current_id(node.value["use"].value):
            return None
        return node_of(read_part_config(folder, name), Origin(source=f"{weights}/{name}/config.json"))

    def parts(self) -> dict[str, Part]:
        """The valid parts, with typed configs."""
        found = {}
        for name, (kind, node) in self.declared.items():
            key, cls = _key(name), self.classes[name]
            values = {leaf: self.leaf(PartRef, leaf, node.value[leaf], f"{key}.{leaf}") for leaf in ("weights", "frozen")}
            adapter = None if node.value["adapter"].value is None else self.typed(Adapter, node.value["adapter"], f"{key}.adapter")
            if cls is None:
                continue
            config = self.typed(cls, node.value["config"], f"{key}.config", f"`mgzoo show {node.value['use'].value}` lists its options")
            if config is None or not all(good for good, _ in values.values()):
                self.invalid_parts.add(name)
                continue
            component = self.registry.get(node.value["use"].value)
            found[name] = Part(name=name, kind=kind, component=component, provider=self.registry.provider(component.id), config=config,
                               weights=values["weights"][1], frozen=values["frozen"][1], adapter=adapter)
        return found

    # -- types

    def typed(self, cls: type, node: Node, key: str, strict: str = ""):
        """An instance of the dataclass. A wrong leaf is a problem and is replaced by its default.

        strict: return None instead; the text is the remedy for inconsistent values.
        For the top of the schema, a dict of its fields without the parts.
        """
        values, good = {}, True
        for f in dataclasses.fields(cls):
            inner, below = holds_dataclasses(field_hints(cls)[f.name])
            child, path = node.value[f.name], f"{key}.{f.name}" if key else f.name
            if cls is Schema and f.name in ("parts", "data"):
                continue
            if inner == "leaf":
                fine, value = self.leaf(cls, f.name, child, path)
                good = good and fine
                values[f.name] = value if fine else raw_default(f)
            elif inner == "list":
                items = [self.typed(below, item, f"{path}.{i}", "change it") for i, item in enumerate(child.value or [])]
                values[f.name] = [item for item in items if item is not None]
            else:
                values[f.name] = self.typed(below, child, path)
        if cls is Schema:
            return values
        if strict and not good:
            return None
        try:
            return cls(**values)
        except ValueError as error:
            for sentence in str(error).splitlines():
                named = next((child for name, child in node.value.items() if re.search(rf"\b{name}\b", sentence)), node)
                self.problem(sentence, strict or "change it", key, named, "value")
            return None if strict else cls()

    def leaf(self, cls: type, name: str, node: Node, key: str) -> tuple[bool, Any]:
        """(True, the value as its type), or (False, None) and a problem."""
        if any(below.reported for _, below in leaves(node)) or any(item.reported for item in (node.value if node.is_list else ())):
            return False, None
        value = node.plain()
        if value == MISSING:
            self.problem("a value is missing", f"write it in the recipe, or add {key}=VALUE on the command line", key, node, "missing")
            return False, None
        fine, held = convert_value(cls, name, value)
        if not fine:
            says = next((f.metadata.get("help", "") for f in dataclasses.fields(cls) if f.name == name), "")
            self.problem(held, f"{name} takes {type_name(field_hints(cls)[name])}" + (f": {says}" if says else ""), key, node, "type")
            return False, None
        try:
            json.dumps(held, allow_nan=False)
        except ValueError:
            self.problem(f"{_show(node)} is not finite", "write a finite number", key, node, "value")
            return False, None
        return True, held

    # -- stages

    def check_stages(self) -> None:
        names = set()
        for i, node in enumerate(self.root.value["stages"].value or []):
            name = node.value["name"]
            if isinstance(name.value, str) and name.value in names and name.value != MISSING:
                self.problem(f"duplicate stage name {name.value!r}", "give each stage a unique name", f"stages.{i}.name", name, "stage")
            names |= {name.value} if isinstance(name.value, str) else set()
            for key, child in node.value["set"].value.items() if node.value["set"].is_map else ():
                if not STAGE_KEY.fullmatch(key):
                    self.problem("a stage cannot set this key", "allowed: dotted keys under train. and data., and parts.NAME.frozen",
                                 f"stages.{i}.set.{key}", child, "stage")


def _holds(cls: type, name: str, node: Node) -> bool:
    return "${" in str(node.value) or convert_value(cls, name, node.plain())[0]


def _key(name: str) -> str:
    return name if name == "data" else f"parts.{name}"


def _show(node: Node) -> str:
    text = "null" if node.value is None else repr(node.plain())
    return text if len(text) <= 60 else text[:57] + "..."
