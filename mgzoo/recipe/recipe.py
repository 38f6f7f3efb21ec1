"""`Recipe`: a composed recipe, typed, complete, with the origin of every value."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from mgzoo.errors import suggest
from mgzoo.recipe.renamed_keys import current_written, first_names
from mgzoo.recipe.schema import RENAMED, Policy, Stage, Train, Zero
from mgzoo.recipe.validation import STAGE_KEY, FieldValue, Part, validate
from mgzoo.recipe.yaml_tree import Node, assign, find_node, node_of
from mgzoo.recipe.yaml_writer import dump_yaml
from mgzoo.spec import MgzooError, Origin, Problem, RecipeError

NO_ENTRY = ("the list has no such entry", "count from 0, or replace the whole list")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A composed recipe.

    source: the file or shipped name. tree: all keys with values, plain and complete. origins: dotted key -> all its
    values, the valid one last. parts: by part name, in the order autoencoder, encoders, backbone, objective,
    sampler, task; empty roles are absent. invalid_parts: names of invalid parts; empty in the result of `compose`.
    """

    source: str
    description: str
    seed: int
    parts: dict[str, Part]
    data: Part | None
    train: Train
    zero: Zero
    stages: tuple[Stage, ...]
    policy: Policy
    tree: dict[str, Any]
    origins: dict[str, list[FieldValue]] = field(repr=False)
    invalid_parts: frozenset[str] = field(repr=False)
    yaml_tree: Node = field(repr=False, compare=False)

    def at_stage(self, index: int) -> Recipe:
        """The recipe of ``stages[index]``, with its `set` applied. Negative indices count from the end."""
        index = range(len(self.stages))[index]
        recipe, problems = validated_recipe(stage_tree(self.yaml_tree, index, []), self.source)
        if problems:
            raise RecipeError(problems)
        return recipe

    def with_adapter(self, name: str, adapter: dict | None) -> Recipe:
        """The recipe with another adapter (keys of `mgzoo.recipe.schema.Adapter`) on part ``name``, or with None."""
        key = f"parts.{name}.adapter"
        written = assign(self.yaml_tree, key.split("."), node_of(adapter, Origin(source="adapter")))
        recipe, problems = validated_recipe(Node(written.value, self.yaml_tree.origin), self.source)
        if problems:
            raise RecipeError(problems)
        return recipe

    def origin(self, key: str) -> Origin | None:
        """Origin of the value at ``key``: the key itself, else its part's `use`, else the nearest enclosing map."""
        part = re.match(r"parts\.(encoders\.)?[^.]+|data", key)
        for near in (key, f"{part[0]}.use" if part else key):
            node = find_node(self.yaml_tree, near)
            if node:
                return node.origin
        while key and not (node := find_node(self.yaml_tree, key)):
            key = key.rpartition(".")[0]
        return node.origin if key else self.yaml_tree.origin

    def to_yaml(self) -> str:
        """The complete recipe as one YAML file."""
        return dump_yaml(self.tree)

    def digest(self) -> str:
        """blake3 hex digest of the tree as canonical JSON, with renamed keys under their first names: locks outlive a renaming."""
        from blake3 import blake3

        return blake3(json.dumps(first_names(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def validated_recipe(written: Node, source: str) -> tuple[Recipe, list[Problem]]:
    written = current_written(written)
    values, problems = validate(written)
    return Recipe(source=source, yaml_tree=written, **values), problems


def stage_tree(written: Node, index: int, problems: list[Problem]) -> Node:
    """The YAML tree with the `set` of a stage merged in."""
    changes = find_node(written, f"stages.{index}.set")
    for key, node in (changes.value if changes and changes.is_map else {}).items():
        if STAGE_KEY.fullmatch(key):
            try:
                written = Node(assign(written, key.split("."), node).value, written.origin)
            except IndexError:
                problems.append(Problem(what=NO_ENTRY[0], remedy=NO_ENTRY[1], key=f"stages.{index}.set.{key}", origin=node.origin, kind="stage"))
    return written


def explain(recipe: Recipe, key: str) -> str:
    """Value, origin and overridden values of a key, or of all keys below it."""
    key = RENAMED.get(key, key)
    keys = [k for k in recipe.origins if k == key or k.startswith(key + ".")]
    if not keys:
        near = suggest(key, recipe.origins)
        raise MgzooError(f"the recipe has no key {key!r}", origin=recipe.source,
                         remedy=f"did you mean {' or '.join(near)}?" if near else "`mgzoo explain RECIPE parts` shows a part of the tree")
    lines = []
    for name in keys:
        *past, held = recipe.origins[name]
        lines.append(f"{name} = {_text(held.value)}" + (f"    (from {held.raw})" if held.raw else ""))
        lines.append(f"    {held.origin}")
        lines += [f"    overrides {_text(old.value)}    {old.origin}" for old in reversed(past)]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
