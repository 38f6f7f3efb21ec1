"""A lock names what a recipe was run with: versions of the plugins, commits and digests of weights and data. No torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mgzoo import __version__, precision
from mgzoo.spec import MgzooError, Origin, Problem

SCHEMA = 1
CONTENT_BYTES = 4_000_000_000
"""Data up to this size is pinned by its content, larger data by names and sizes (our choice: a digest reads every byte)."""
FIELDS = {"schema": int, "recipe": str, "mgzoo": str, "plugins": dict, "weights": dict, "data": dict}


def lock(recipe) -> dict[str, Any]:
    """What pins a recipe, as plain JSON data; the same recipe on the same machine gives the same lock.

    recipe: digest of the composed tree. plugins: distribution -> version, of the parts' plugins. weights: reference ->
    {commit, digest of mgzoo.json, or null where it is not on this machine}. data: path -> {files, bytes, of, digest} of
    the file or folder that the data config names by `path`. precision: what the recipe trains in here, where torch need not be asked;
    a record, which `drift` does not compare.
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
    from mgzoo.hub import manifest, refs

    folder = refs.local(ref)
    if folder is None:
        return None
    digest = manifest.digest_file(folder / manifest.NAME)
    endpoint = refs.parse(ref).is_endpoint
    return {"commit": folder.name if endpoint else digest[: manifest.COMMIT_LENGTH], "digest": digest}


def _data(recipe) -> dict[str, dict[str, Any]]:
    name = getattr(recipe.data.config, "path", None) if recipe.data else None
    if not isinstance(name, str) or not name or not Path(name).exists():
        return {}
    from blake3 import blake3

    from mgzoo.hub.manifest import digest_file

    root, total = Path(name), blake3()
    found = [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]
    sizes = {path.relative_to(root).as_posix(): (path, path.stat().st_size) for path in found}
    size = sum(size for _, size in sizes.values())
    whole = size <= CONTENT_BYTES
    for relative, (path, length) in sorted(sizes.items()):
        total.update(f"{relative}\0{digest_file(path) if whole else length}\n".encode())
    return {name: {"files": len(sizes), "bytes": size, "of": "content" if whole else "names and sizes", "digest": total.hexdigest()}}


def write(path: str | Path, locked: dict[str, Any]) -> Path:
    """Write a lock as JSON with sorted keys, so that equal locks are equal files."""
    write_text(Path(path), json.dumps(locked, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return Path(path)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all: where the disk is full, what was there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # /dev/null is written to, never replaced
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:  # named after what was asked for
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        aside.unlink(missing_ok=True)


def read(path: str | Path) -> dict[str, Any]:
    """Read a lock back. Raises `MgzooError` for a file that is none, or of a newer mgzoo."""
    try:
        locked = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MgzooError(f"there is no lock {path}", remedy="write one: mgzoo lock RECIPE") from None
    except (OSError, ValueError) as error:
        raise MgzooError(f"{path} is no lock: {error}", remedy="write it again: mgzoo lock RECIPE") from None
    good = isinstance(locked, dict) and all(isinstance(locked.get(name), kind) for name, kind in FIELDS.items())
    if not good or locked["schema"] != SCHEMA:
        raise MgzooError(f"{path} is no lock of schema {SCHEMA}", remedy="write it again: mgzoo lock RECIPE")
    return locked


def drift(recipe, locked: dict[str, Any], source: str = "") -> list[Problem]:
    """Everything in which the recipe, as it would run here and now, differs from its lock. source: the lock's file."""
    now, origin, problems = lock(recipe), Origin(source=source) if source else None, []

    def differs(what: str, remedy: str, key: str) -> None:
        problems.append(Problem(what=what, remedy=remedy, key=key, origin=origin, kind="drift"))

    again = "or lock the recipe again: mgzoo lock RECIPE"
    if now["mgzoo"] != locked["mgzoo"]:
        differs(f"locked to mgzoo {locked['mgzoo']}, this is {now['mgzoo']}", f"pip install mgzoo=={locked['mgzoo']}, {again}", "mgzoo")
    for name in sorted(now["plugins"].keys() | locked["plugins"].keys()):
        old, new = locked["plugins"].get(name), now["plugins"].get(name)
        if old is None or new is None:
            verb = "does not know" if old is None else "has"
            differs(f"the lock {verb} {name}, which the recipe {'uses' if old is None else 'no longer uses'}", f"take the change back, {again}", f"plugins.{name}")
        elif old != new:
            differs(f"locked to {name} {old}, installed is {new}", f"pip install {name}=={old}, {again}", f"plugins.{name}")
    for section, thing in (("weights", "weights"), ("data", "data")):
        for name in sorted(now[section].keys() | locked[section].keys()):
            old, new = locked[section].get(name), now[section].get(name)
            key = f"{section}.{name}"
            if name in locked[section] and name in now[section] and old == new:
                continue
            if name not in locked[section]:
                differs(f"the {thing} are not in the lock", f"take the change back, {again}", key)
            elif new is None:
                gone = name in now[section] or (section == "data" and name == getattr(recipe.data and recipe.data.config, "path", None))
                what = f"the locked {thing} are not on this machine" if gone else f"the recipe no longer uses these {thing}"
                differs(what, f"mgzoo pull {name}, {again}" if section == "weights" and gone else f"bring them back, {again}", key)
            else:
                differs(f"locked to {thing} {_short(old)}, here is {_short(new)}", f"bring back what was locked, {again}", key)
    if now["recipe"] != locked["recipe"]:
        differs(f"locked to recipe {locked['recipe'][:12]}, this is {now['recipe'][:12]}", f"take the change back, {again}", "recipe")
    return problems


def same_weights(recipe, path: Path) -> None:
    """Raise `MgzooError` where a name that the recipe takes weights from means others than when the lock at ``path`` was written."""
    held = read(path)["weights"] if path.is_file() else {}
    for ref, pin in lock(recipe)["weights"].items() if held else ():
        if held.get(ref) and pin and pin != held[ref]:
            raise MgzooError(f"{ref} is at {_short(pin)} now, the run was started with {_short(held[ref])}", origin=str(path),
                             remedy=f"bring that back, name its commit in the recipe ({ref.partition('@')[0]}@{_short(held[ref])}), or start a new run")


def _short(pin: dict[str, Any] | None) -> str:
    return "nothing" if pin is None else pin.get("commit") or pin["digest"][:12]
