"""Locks: pinned versions of plugins, commits and digests of weights and data. No torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgzoo import __version__, precision, storage
from mgzoo.artifact.manifest import COMMIT_LENGTH, MANIFEST_NAME
from mgzoo.hub.lookup import find_local
from mgzoo.hub.references import parse_reference
from mgzoo.recipe.renamed_keys import current_names
from mgzoo.spec import MgzooError, Origin, Problem

SCHEMA = 1
CONTENT_BYTES = 4_000_000_000
"""Maximum size of data pinned by content; larger data is pinned by names and sizes (our choice: a digest reads every byte)."""
FIELDS = {"schema": int, "recipe": str, "mgzoo": str, "plugins": dict, "weights": dict, "data": dict}


def lock_recipe(recipe) -> dict[str, Any]:
    """The lock of a recipe as plain JSON data; deterministic for the same recipe and machine.

    recipe: digest of the composed tree. plugins: distribution -> version, of the parts' plugins. weights: reference ->
    {commit, digest of mgzoo.json, or null where it is not on this machine}. data: path -> {files, bytes, of, digest} of
    the files and folders that the data config names (`data_places`), in the recipe or in a stage. precision: what the recipe trains in
    here, where torch need not be asked; a record, which `drift` does not compare.
    """
    parts = [*recipe.parts.values(), *([recipe.data] if recipe.data else [])]
    settled = recipe.train.precision if recipe.train.precision != "auto" else None if precision.has_gpu() else precision.preferred("cpu")
    references = sorted({part.weights for part in parts if part.weights})
    return {
        "schema": SCHEMA,
        "recipe": recipe.digest(),
        "mgzoo": __version__,
        "plugins": dict(sorted((part.provider.distribution, part.provider.version) for part in parts)),
        "weights": {ref: _artifact(ref) for ref in references},
        "data": _data(recipe),
        **({"precision": settled} if settled else {}),
    }


def _artifact(ref: str) -> dict[str, str] | None:
    folder = find_local(ref)
    if folder is None:
        return None
    digest = storage.digest_file(folder / MANIFEST_NAME)
    endpoint = parse_reference(ref).is_endpoint
    return {"commit": folder.name if endpoint else digest[: COMMIT_LENGTH], "digest": digest}


def _data(recipe) -> dict[str, dict[str, Any]]:
    """Pins of the local files and folders of the data part, in the recipe and its stages."""
    found = {name: place for config in _data_configs(recipe) for name, place in data_places(config).items()}
    return {name: _pin(place) for name, place in sorted(found.items())}


def _data_configs(recipe) -> list[Any]:
    """The data configs of the recipe and its stages."""
    changed = [i for i, stage in enumerate(recipe.stages) if any(key.startswith("data.config.") for key in stage.set)]
    parts = [recipe.data, *(recipe.at_stage(i).data for i in changed)]
    return [part.config for part in parts if part is not None]


def data_places(config) -> dict[str, Path]:
    """Name -> file or folder of what a data config reads and is on this machine: ``config.paths()``, else its ``path``; and its held-out lists."""
    from mgzoo.data.paths import find_data

    names = config.paths() if hasattr(config, "paths") else (getattr(config, "path", None),)
    held_out, found = getattr(config, "held_out", ()), {}
    beside = getattr(sys.modules.get(type(config).__module__), "__file__", None) or __file__
    for name in (name for name in names if isinstance(name, str) and name):
        try:
            found[name] = find_data(name, beside=beside)
        except MgzooError:  # the data part will say so
            continue
    inside = [place if place.is_dir() else place.parent for place in found.values()]
    for name in held_out if isinstance(held_out, list | tuple) else ():
        if isinstance(name, str) and not any((folder / name).is_file() for folder in inside):
            try:
                found[name] = find_data(name, beside=beside)
            except MgzooError:
                continue
    return found


def _pin(root: Path) -> dict[str, Any]:
    from blake3 import blake3

    from mgzoo.data.files import LeftOut, walk

    total = blake3()
    # What a desktop leaves in a folder that was looked at is no change of the data.
    found = {entry.name: entry.file for entry in walk(root, LeftOut())} if root.is_dir() else {".": root}
    sizes = {relative: (path, path.stat().st_size) for relative, path in found.items()}
    size = sum(size for _, size in sizes.values())
    whole = size <= CONTENT_BYTES
    for relative, (path, length) in sorted(sizes.items()):
        total.update(f"{relative}\0{storage.digest_file(path) if whole else length}\n".encode())
    return {"files": len(sizes), "bytes": size, "of": "content" if whole else "names and sizes", "digest": total.hexdigest()}


def write_lock(path: str | Path, locked: dict[str, Any]) -> Path:
    """Write a lock as JSON with sorted keys, so that equal locks are equal files."""
    storage.atomic_write(path, json.dumps(locked, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return Path(path)


def read_lock(path: str | Path) -> dict[str, Any]:
    """Read a lock. Raises `MgzooError` for other files, and for locks of a newer mgzoo."""
    try:
        locked = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MgzooError(f"no such lock file: {path}", remedy="create it: mgzoo lock RECIPE") from None
    except (OSError, ValueError) as error:
        raise MgzooError(f"{path} is not a lock: {error}", remedy="create it again: mgzoo lock RECIPE") from None
    good = isinstance(locked, dict) and all(isinstance(locked.get(name), kind) for name, kind in FIELDS.items())
    if not good or locked["schema"] != SCHEMA:
        raise MgzooError(f"{path} is not a lock of schema {SCHEMA}", remedy="create it again: mgzoo lock RECIPE")
    return locked


def lock_drift(recipe, locked: dict[str, Any], source: str = "") -> list[Problem]:
    """All differences between the recipe in the current environment and its lock. source: path of the lock."""
    now, origin, problems = lock_recipe(recipe), Origin(source=source) if source else None, []

    def differs(what: str, remedy: str, key: str) -> None:
        problems.append(Problem(what=what, remedy=remedy, key=key, origin=origin, kind="drift"))

    again = "or lock the recipe again: mgzoo lock RECIPE"
    if now["mgzoo"] != locked["mgzoo"]:
        differs(f"locked to mgzoo {locked['mgzoo']}, installed: {now['mgzoo']}", f"pip install mgzoo=={locked['mgzoo']}, {again}", "mgzoo")
    for name in sorted(now["plugins"].keys() | locked["plugins"].keys()):
        old, new = locked["plugins"].get(name), now["plugins"].get(name)
        if old is None or new is None:
            verb = "lacks" if old is None else "has"
            differs(f"the lock {verb} {name}; the recipe {'uses it' if old is None else 'no longer uses it'}", f"revert the change, {again}", f"plugins.{name}")
        elif old != new:
            differs(f"locked to {name} {old}, installed: {new}", f"pip install {name}=={old}, {again}", f"plugins.{name}")
    for section, thing in (("weights", "weights"), ("data", "data")):
        for name in sorted(now[section].keys() | locked[section].keys()):
            old, new = locked[section].get(name), now[section].get(name)
            key = f"{section}.{name}"
            if name in locked[section] and name in now[section] and old == new:
                continue
            if name not in locked[section]:
                differs(f"the {thing} are not in the lock", f"revert the change, {again}", key)
            elif new is None:
                gone = name in now[section] or (section == "data" and name == getattr(recipe.data and recipe.data.config, "path", None))
                what = f"the locked {thing} are not on this machine" if gone else f"the recipe no longer uses these {thing}"
                differs(what, f"mgzoo pull {name}, {again}" if section == "weights" and gone else f"restore them, {again}", key)
            else:
                differs(f"locked to {thing} {_short(old)}, found {_short(new)}", f"restore the locked version, {again}", key)
    if now["recipe"] != locked["recipe"]:
        differs(f"locked to recipe {locked['recipe'][:12]}, found {now['recipe'][:12]}", f"revert the change, {again}", "recipe")
    return problems


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between the start of a run and its resume. wanted: True for intended changes (settings, versions),
    False for other data or weights under an unchanged name."""

    what: str
    wanted: bool


def recipe_changes(recipe, then: dict[str, Any], now: dict[str, Any], tree: Mapping[str, Any] | None = None) -> list[Change]:
    """Changes since a run's state was saved, unintended ones first.

    then, now: locks. tree: the recipe's tree (`mgzoo.recipe.recipe.Recipe.tree`) of then, None where it was not kept.
    """
    found = []
    for section in ("data", "weights"):
        for name in sorted(then[section].keys() & now[section].keys()):
            old, new = then[section][name], now[section][name]
            if old and new and old != new:
                what = f"{name} is now at {_short(new)}; the run started with {name.partition('@')[0]}@{_short(old)}"
                if section == "data":
                    what = f"the data {name} have changed since the start of the run: {_files(old)} then, {_files(new)} now"
                found.append(Change(what=what, wanted=False))
        if section == "data":
            named = set(_leaves(recipe.tree.get("data") or {}).values())
            for name in (name for name in sorted(then["data"].keys() - now["data"].keys()) if json.dumps(name, ensure_ascii=False) in named):
                found.append(Change(what=f"the data {name} are no longer on this machine", wanted=False))
    if then["mgzoo"] != now["mgzoo"]:
        found.append(Change(what=f"mgzoo {then['mgzoo']} -> {now['mgzoo']}", wanted=True))
    for name in sorted(then["plugins"].keys() & now["plugins"].keys()):
        if then["plugins"][name] != now["plugins"][name]:
            found.append(Change(what=f"{name} {then['plugins'][name]} -> {now['plugins'][name]}", wanted=True))
    if tree is None:
        if then["recipe"] != now["recipe"]:
            found.append(Change(what=f"the recipe {then['recipe'][:12]} -> {now['recipe'][:12]}", wanted=True))
        return found
    before, after = _leaves(current_names(tree, recipe)), _leaves(recipe.tree)
    for key in [*after, *(key for key in before if key not in after)]:
        old, new = before.get(key, ABSENT), after.get(key, ABSENT)
        if old != new:
            origin = recipe.origin(key) if key in after else None
            found.append(Change(what=f"{key} {_value(old)} -> {_value(new)}" + (f"    ({origin})" if origin else ""), wanted=True))
    return found


ABSENT = object()


def _leaves(tree: Any, key: str = "") -> dict[str, Any]:
    """Dotted key -> value of everything in a tree; lists of maps are gone through, other lists are values."""
    if isinstance(tree, Mapping) and tree:
        pairs = [(str(name), value) for name, value in tree.items()]
    elif isinstance(tree, list | tuple) and any(isinstance(one, Mapping) for one in tree):
        pairs = [(str(index), value) for index, value in enumerate(tree)]
    else:
        return {key: json.dumps(tree, ensure_ascii=False, sort_keys=True, default=str)}
    return {name: value for end, below in pairs for name, value in _leaves(below, f"{key}.{end}" if key else end).items()}


def _value(text: Any) -> str:
    return "nothing" if text is ABSENT else text


def _files(pin: dict[str, Any]) -> str:
    return f"{pin['files']:,} file{'s' if pin['files'] != 1 else ''}, {pin['bytes']:,} bytes, digest {pin['digest'][:12]}"


def _short(pin: dict[str, Any] | None) -> str:
    return "nothing" if pin is None else pin.get("commit") or pin["digest"][:12]
