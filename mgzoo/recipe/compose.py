"""Compose a `Recipe` from YAML files: typed, complete, with the origin of every value.

All problems are reported together. No torch, no downloads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.manifest import MAX_RECIPE_BYTES
from mgzoo.contracts import adapter_problems, adapter_rank_problems, contract_problems, missing_weights
from mgzoo.recipe.overrides import parse_override_value
from mgzoo.recipe.recipe import NO_ENTRY, Recipe, stage_tree, validated_recipe
from mgzoo.recipe.renamed_keys import current_written
from mgzoo.recipe.schema import RENAMED
from mgzoo.recipe.settings import setting_problems
from mgzoo.recipe.shipped import SUFFIXES, display_path, find_recipe, recipe_folders
from mgzoo.recipe.yaml_tree import COMMAND_LINE, Node, assign, find_node, merge_trees, parse_yaml
from mgzoo.spec import MgzooError, Origin, Problem, RecipeError


def compose(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Compose a recipe from a YAML file or a shipped name, and ``a.b=value`` overrides: text for text fields,
    otherwise YAML.

    Raises `RecipeError` with all problems, contracts between the parts included.
    """
    path, problems = find_recipe(source), []
    written = read_layers(path, problems)
    if any(problem.kind == "syntax" for problem in problems):
        raise RecipeError(problems)  # every key of an unreadable layer would be missing
    for text in overrides:
        written = apply_override(written, text, problems)
    recipe, found = validated_recipe(written, os.fspath(source))
    problems += found + contract_problems(recipe) + adapter_problems(recipe)
    if not (path.parent / "mgzoo.json").exists():  # an artifact's own recipe tells where its weights once came from
        problems += missing_weights(recipe)
        problems += adapter_rank_problems(recipe)
    stages, each, told = find_node(written, "stages"), [], {(problem.key, problem.what) for problem in problems}
    for index in range(len(stages.value) if stages and stages.is_list else 0):
        staged, found = validated_recipe(stage_tree(written, index, problems), recipe.source)
        problems += [problem for problem in found + contract_problems(staged) if (problem.key, problem.what) not in told]
        each.append(staged)
    problems += setting_problems(each or [recipe])
    if problems:
        raise RecipeError(sorted(dict.fromkeys(problems), key=_position))
    return recipe


def _position(problem: Problem) -> tuple:
    origin = problem.origin or Origin(source="")
    return (origin == COMMAND_LINE, origin.source, origin.line or 0)


# ---------------------------------------------------------------------------------------------------- files


def read_layers(path: Path, problems: list[Problem], chain: tuple[Path, ...] = ()) -> Node:
    """A recipe file merged over its `defaults`, in order."""
    source, empty = display_path(path), Node({}, Origin(source=display_path(path)))
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise OSError(f"it has more than {MAX_RECIPE_BYTES:,} bytes")
        root = parse_yaml(path.read_text(encoding="utf-8-sig"), source, problems)
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(what=f"the file cannot be read: {error}", remedy="save it as UTF-8 text", origin=empty.origin, kind="syntax"))
        return empty
    if root is None or not root.is_map:
        if root is not None:
            problems.append(Problem(what="a recipe is a map of keys and values", remedy="start with `schema: 1`", origin=root.origin, kind="syntax"))
        return empty
    listed = root.value.pop("defaults", None) or Node([], root.origin)
    if not listed.is_list:
        problems.append(Problem(what="`defaults` is a list of recipe files", remedy=f"write [{listed.plain()}]", key="defaults",
                                origin=listed.origin, kind="type"))
        listed = Node([], root.origin)
    if listed.value and (path.parent / "mgzoo.json").exists():
        problems.append(Problem(what="the recipe of an artifact must not have `defaults`: it would read local files", key="defaults",
                                remedy="do not use this artifact; saved recipes are always complete", origin=listed.origin, kind="defaults"))
        return root
    base = empty
    for entry in listed.value:
        name, where = str(entry.plain()), dict(key="defaults", origin=entry.origin, kind="defaults")
        below = path.parent / name
        if Path(name).suffix not in SUFFIXES:
            try:
                below = find_recipe(name)
            except MgzooError as error:
                problems.append(Problem(what=error.what, remedy=error.remedy, **where))
                continue
        if Path(name).is_absolute() or not below.is_file():
            problems.append(Problem(what=f"no file {name!r} next to this one", remedy="give a path relative to this file, or a shipped name", **where))
        elif below.resolve() in (*chain, path.resolve()):
            circle = " -> ".join(file.name for file in (*chain, path.resolve(), below.resolve()))
            problems.append(Problem(what=f"circular defaults: {circle}", remedy="remove one of them", **where))
        else:
            base = merge_trees(base, read_layers(below, problems, (*chain, path.resolve())))
    return merge_trees(base, current_written(root))


def apply_override(written: Node, text: str, problems: list[Problem]) -> Node:
    """One ``a.b=value``, split at the first ``=``; see `mgzoo.recipe.overrides.parse_override_value` for the value."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        problems.append(Problem(what=f"the override {text!r} is not of the form a.b=value", remedy="for example train.lr=1e-4",
                                origin=COMMAND_LINE, kind="override"))
        return written
    unread: list[Problem] = []
    node = parse_override_value(value, unread)
    problems += [replace(problem, key=f"{key}.{problem.key}".rstrip(".")) for problem in unread]
    try:
        return current_written(Node(assign(written, RENAMED.get(key, key).split("."), node).value, written.origin))
    except IndexError:
        problems.append(Problem(what=NO_ENTRY[0], remedy=NO_ENTRY[1], key=key, origin=COMMAND_LINE, kind="override"))
        return written


def copy_recipe(name: str, dest: str | Path) -> Path:
    """Copy a recipe's text to ``dest`` (a file or a folder); its defaults become shipped names."""
    path, dest = find_recipe(name), Path(dest)
    target = dest / path.name if dest.is_dir() or not dest.suffix else dest
    if target.exists():
        raise MgzooError(f"{target} exists", remedy="choose another name, or remove it first")
    problems: list[Problem] = []
    text = path.read_text(encoding="utf-8")
    root = parse_yaml(text, display_path(path), problems)
    listed = root.value.get("defaults") if root and root.is_map else None
    for entry in listed.value if listed and listed.is_list else ():
        file = (path.parent / str(entry.value)).resolve()
        for folder in recipe_folders():
            if file.suffix in SUFFIXES and file.is_relative_to(folder.resolve()):
                text = text.replace(str(entry.value), file.relative_to(folder.resolve()).with_suffix("").as_posix(), 1)
                break
    storage.atomic_write(target, text)
    return target
