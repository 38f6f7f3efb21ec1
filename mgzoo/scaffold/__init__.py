"""`mgzoo new`: create a plugin with one working part from `templates/`.

A template is a plugin called ``acme``. Writing one replaces, in names of files and in their text, ``mgzoo-acme`` (the
distribution), ``Acme`` and ``acme`` (the namespace), and ``KIND``. Never imports torch.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
from pathlib import Path

from mgzoo import storage
from mgzoo.discovery import discover
from mgzoo.distributions import known_distributions
from mgzoo.spec import KINDS, MgzooError

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def new(kind: str, name: str, out: str | Path | None = None) -> Path:
    """Write a plugin with one part of this kind and return its folder, ``mgzoo-NAME`` unless `out` says otherwise.

    name: the plugin's namespace, with which its ids begin. Raises `MgzooError` for a kind or a name that will not do and for a
    folder that exists; then, and when it is interrupted, nothing is left behind.
    """
    require_kind(kind)
    check_name(name)
    folder = Path(out) if out is not None else Path(distribution(name))
    if folder.exists() or folder.is_symlink():
        raise MgzooError(f"{folder} exists", remedy="choose another folder with --out, or remove it first")
    with storage.staging_folder(folder) as aside:
        for source in files(kind):
            path = aside / filled(source.relative_to(source_root(source)).as_posix(), kind, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(filled(source.read_text(encoding="utf-8"), kind, name), encoding="utf-8")
        os.rename(aside, folder)
    return folder


def require_kind(kind: str) -> None:
    """Raise `MgzooError` for a kind that does not exist."""
    if kind not in KINDS:
        raise MgzooError(f"unknown kind {kind!r}", remedy=f"kinds are {', '.join(KINDS)}")


def require_word(name: str, of: str) -> None:
    """Raise `MgzooError` for a name that cannot be part of an id and of a module's name. of: what it would name, for the message."""
    if not NAME.fullmatch(name):
        near = re.sub(r"[^a-z0-9]+", "_", re.sub(r"^mgzoo[-_]", "", name.lower())).strip("_0123456789")[:40]
        remedy = "lower-case letters, digits and '_', a letter first, at most 40" + (f"; for example {near}" if NAME.fullmatch(near) else "")
        raise MgzooError(f"{name!r} is not a valid {of} name", remedy=remedy)
    if keyword.iskeyword(name):
        raise MgzooError(f"{name!r} is a Python keyword", remedy=f"choose another name, for example my_{name}")


def check_name(name: str) -> None:
    """Raise `MgzooError` for a name that cannot be a plugin's namespace, or that is taken."""
    require_word(name, "plugin")
    if name == "mgzoo":
        raise MgzooError("'mgzoo' is reserved for the core", remedy="choose another name")
    registry = discover()
    if name in registry.providers:
        raise MgzooError(f"the namespace {name!r} is taken by {registry.providers[name]}", remedy="choose another name")
    for bad in registry.disabled:
        if bad.name == name:
            raise MgzooError(f"the namespace {name!r} is taken by {bad.distribution or bad.name}, a disabled plugin", remedy="choose another name, or uninstall it")
    if known := known_distributions().get(name):
        raise MgzooError(f"the namespace {name!r} belongs to {known}", remedy="choose another name")
    if importlib.util.find_spec(f"mgzoo_{name}"):
        raise MgzooError(f"a module mgzoo_{name} is installed already", remedy="choose another name")


def distribution(name: str) -> str:
    """The pip distribution of a generated plugin."""
    return f"mgzoo-{name.replace('_', '-')}"


def files(kind: str) -> list[Path]:
    """The template's files: those of every kind, then the kind's own."""
    found = [path for folder in ("common", kind) for path in sorted((TEMPLATES / folder).rglob("*")) if path.is_file()]
    return [path for path in found if "__pycache__" not in path.parts]


def source_root(source: Path) -> Path:
    """The folder of `templates` that a file lies in."""
    return TEMPLATES / source.relative_to(TEMPLATES).parts[0]


def filled(text: str, kind: str, name: str) -> str:
    """A template's text, or the name of one of its files, for a plugin of this kind and name."""
    words = {"mgzoo-acme": distribution(name), "Acme": "".join(map(str.capitalize, name.split("_"))), "acme": name, "KIND": kind}
    return re.sub("|".join(words), lambda found: words[found[0]], text)
