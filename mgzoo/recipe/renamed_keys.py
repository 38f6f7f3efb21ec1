"""Renamed recipe keys: ``option(…, formerly=("old",))`` lists the old names of a field. No torch.

Recipes use the current names. Digests use the first names, so that locks stay valid after a renaming.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from mgzoo.recipe.schema import RENAMED, SECTIONS
from mgzoo.recipe.yaml_tree import Node, current_keys


def current_written(written: Node) -> Node:
    """What was written, with the sections of the schema, and what stages set in them, under the names of now."""
    children = dict(written.value)
    for section, cls in SECTIONS.items():
        if section in children:
            children[section] = current_keys(cls, children[section])
    if "stages" in children and children["stages"].is_list:
        children["stages"] = replace(children["stages"], value=[_current_stage(stage) for stage in children["stages"].value])
    return replace(written, value=children)


def _current_stage(stage: Node) -> Node:
    changes = stage.value.get("set") if stage.is_map else None
    if changes is None or not changes.is_map or not RENAMED.keys() & changes.value.keys():
        return stage
    return replace(stage, value={**stage.value, "set": replace(changes, value={RENAMED.get(key, key): node for key, node in changes.value.items()})})


def first_names(recipe) -> dict[str, Any]:
    """The tree of a recipe with every key under the first name that it had."""
    def names(cls: type) -> dict[str, str]:
        return {f.name: f.metadata["formerly"][0] for f in dataclasses.fields(cls) if f.metadata.get("formerly")}

    def values(cls: type) -> dict[str, dict]:
        return {names(cls).get(f.name, f.name): f.metadata["former_values"] for f in dataclasses.fields(cls) if f.metadata.get("former_values")}

    return _renamed(recipe.tree, recipe, names, values)


def current_names(tree: Mapping[str, Any], recipe) -> dict[str, Any]:
    """The tree of an older recipe under the names that its keys have in `recipe`."""
    def names(cls: type) -> dict[str, str]:
        return {old: f.name for f in dataclasses.fields(cls) for old in f.metadata.get("formerly", ())}

    def values(cls: type) -> dict[str, dict]:
        former = {f.name: f.metadata["former_values"] for f in dataclasses.fields(cls) if f.metadata.get("former_values")}
        return {name: {old: now for now, old in one.items()} for name, one in former.items()}

    return _renamed(tree, recipe, names, values)


def _classes(recipe) -> Iterator[tuple[str, type]]:
    """(dotted key of a map, dataclass of its keys)."""
    yield from SECTIONS.items()
    for name, part in recipe.parts.items():
        yield f"parts.{name}.config", type(part.config)
    if recipe.data is not None:
        yield "data.config", type(recipe.data.config)


def _renamed(tree: Mapping[str, Any], recipe, names_of: Callable[[type], dict[str, str]], values_of: Callable[[type], dict[str, dict]]) -> dict[str, Any]:
    """names_of: class -> name of a key -> its other name. values_of: class -> other name of a key -> value -> its other name."""
    renamed, dotted = dict(tree), {}
    for place, cls in _classes(recipe):
        if dataclasses.is_dataclass(cls) and (names_of(cls) or values_of(cls)):
            names = names_of(cls)
            renamed = _at(renamed, place.split("."), names, values_of(cls))
            dotted |= {f"{place}.{name}": f"{place}.{other}" for name, other in names.items()}
    if stages := tree.get("stages"):
        renamed["stages"] = [{**stage, "set": {dotted.get(key, key): value for key, value in stage["set"].items()}} for stage in stages]
    return renamed


def _at(tree: Any, path: list[str], names: Mapping[str, str], values: Mapping[str, Mapping]) -> Any:
    """A copy of the tree whose map at `path`, where there is one, has the keys that `names` gives, and the values that `values` gives."""
    if not isinstance(tree, Mapping):
        return tree
    if not path:
        named = {names.get(key, key): value for key, value in tree.items()}
        return {key: values[key].get(value, value) if key in values and isinstance(value, str) else value for key, value in named.items()}
    return {**tree, path[0]: _at(tree[path[0]], path[1:], names, values)} if path[0] in tree else tree
