"""Recipes by name: where files of recipes are looked for. No YAML is read."""

from __future__ import annotations

from pathlib import Path

from mgzoo import storage
from mgzoo.discovery import discover, say_once
from mgzoo.distributions import data_folder
from mgzoo.errors import suggest
from mgzoo.spec import MgzooError

SUFFIXES = (".yaml", ".yml")


def recipe_folders() -> list[Path]:
    """Folders of shipped recipes: ./recipes, the core's, then those of plugins."""
    folders = [Path("recipes"), data_folder("recipes"), *discover().recipe_folders.values()]
    return list({folder.resolve(): folder for folder in reversed(folders) if folder.is_dir()}.values())[::-1]


def recipe_names() -> dict[str, Path]:
    """Every shipped recipe by name, e.g. ``tiny/emoji_t2v``."""
    names: dict[str, Path] = {}
    for folder in recipe_folders():
        for path in sorted(folder.rglob("*.yaml")):
            names.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return names


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe, from a path or a shipped name. If two files have the same name, equal files are no problem; otherwise
    the one in the working folder is used, with one warning; other conflicts are an error."""
    storage.refuse_address(source, "give a file or a shipped recipe; the recipe of a model is recipe.yaml in the folder printed by `mgzoo pull`")
    path = Path(source)
    if path.suffix in SUFFIXES or isinstance(source, Path):
        if not path.is_file():
            shipped = path.with_suffix("").as_posix()
            meant = f"did you mean {shipped}?" if shipped in recipe_names() else "check the path; `mgzoo list recipes` shows the shipped names"
            raise MgzooError(f"no such recipe file: {path}", remedy=meant)
        return path
    found = {file.resolve(): file for folder in recipe_folders() if (file := folder / f"{source}.yaml").is_file()}
    if len({file.read_bytes() for file in found.values()}) > 1:
        near, *others = found.values()
        if near.parts[0] != "recipes":
            raise MgzooError(f"the recipe name {source!r} is ambiguous: {' and '.join(map(str, found.values()))}", remedy="give the path of the file")
        say_once(f"{source} is {near}, not {' or '.join(map(str, others))} (different content): give the file to choose")
    if not found:
        near = suggest(str(source), recipe_names())
        raise MgzooError(f"unknown recipe {source!r}", remedy=f"did you mean {' or '.join(near)}?" if near else "`mgzoo list recipes` shows them")
    return next(iter(found.values()))


def display_path(path: Path) -> str:
    """A path for messages: relative to the working folder if inside it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
