"""Checks of an artifact's recipe.yaml against its mgzoo.json. No torch, no weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from mgzoo.artifact.integrity import check_files, check_plugins
from mgzoo.artifact.manifest import CONTRACT_KEYS, MANIFEST_NAME, MAX_RECIPE_BYTES, Manifest, read_manifest
from mgzoo.artifact.strict_json import problem, shorten
from mgzoo.contracts import contract_of
from mgzoo.discovery import current_id
from mgzoo.recipe.compose import compose
from mgzoo.recipe.recipe import Recipe
from mgzoo.spec import Problem, RecipeError


@dataclass(frozen=True, kw_only=True)
class OpenedArtifact:
    """An artifact's folder with its parsed manifest and its composed recipe, shared by all checks."""

    folder: Path
    manifest: Manifest
    recipe: Recipe


def open_artifact(folder: Path, manifest: Manifest | None = None) -> OpenedArtifact:
    """Read mgzoo.json (unless passed as ``manifest``) and compose recipe.yaml. Raises `ArtifactError` or `RecipeError`."""
    return OpenedArtifact(folder=folder, manifest=manifest or read_manifest(folder), recipe=compose(folder / "recipe.yaml"))


def check_requires(opened: OpenedArtifact) -> list[Problem]:
    """Check that the required distributions of the manifest are exactly those of its parts."""
    recipe, where = opened.recipe, opened.folder / MANIFEST_NAME
    supplied = {part.provider.distribution for part in (*recipe.parts.values(), recipe.data) if part is not None}
    listed = {one.distribution for one in opened.manifest.requires}
    remedy = "save the artifact again; the requirements follow from its parts"
    problems = [problem("requires", f"{name} is required, but supplies no part", remedy, where, "requires") for name in sorted(listed - supplied)]
    return problems + [problem("requires", f"{name} supplies a part, but is not required", remedy, where, "requires") for name in sorted(supplied - listed)]


def check_contract(folder: Path, manifest: Manifest) -> list[Problem]:
    """Problems of recipe.yaml, and its differences from the manifest: components of parts, contract. Needs no weights.
    Empty if a plugin (see `check_plugins`) or the recipe is missing."""
    entry, path = manifest.files.get("recipe.yaml"), folder / "recipe.yaml"
    if entry is None or check_plugins(manifest, folder):
        return []
    if entry.size > MAX_RECIPE_BYTES:
        return [problem("syntax", f"recipe.yaml has {entry.size:,} bytes, more than {MAX_RECIPE_BYTES:,}", "do not use this artifact", path)]
    if damaged := check_files(folder, manifest, ["recipe.yaml"]):
        return damaged
    try:
        opened = open_artifact(folder, manifest)
    except RecipeError as error:
        return list(error.problems)
    return check_parts(opened) + contract_differences(opened)


def contract_differences(opened: OpenedArtifact) -> list[Problem]:
    """Differences between the contract in the manifest and that of the recipe's parts."""
    made, built = opened.manifest.contract, contract_of(opened.recipe)
    return [
        problem("contract", f"is {_in_words(getattr(made, key))}, recipe.yaml and the plugins give {_in_words(getattr(built, key))}",
                "install the versions in `requires`, or save the artifact again", opened.folder / MANIFEST_NAME, f"contract.{CONTRACT_KEYS.get(key, key)}")
        for key in ("latent", "conditions", "concat_channels")
        if getattr(made, key) != getattr(built, key)
    ]  # fmt: skip


def _in_words(value) -> str:
    """A contract's field in words."""
    if isinstance(value, tuple):
        return ", ".join(map(_in_words, value)) or "none"
    fields = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else {}
    return " ".join(f"{key} {shorten(str(one))}" for key, one in fields.items()) or str(value)


def check_parts(opened: OpenedArtifact) -> list[Problem]:
    """Compare the components of the manifest's parts with those of its recipe."""
    problems, manifest, recipe = [], opened.manifest, opened.recipe
    for name in sorted(recipe.parts.keys() | manifest.parts.keys()):
        use = current_id(manifest.parts[name].use) if name in manifest.parts else "nothing"
        wanted = recipe.parts[name].component.id if name in recipe.parts else "nothing"
        if use != wanted:
            remedy = "save the artifact again; its manifest and its recipe.yaml differ"
            problems.append(problem("part", f"the part is {use}, recipe.yaml has {wanted}", remedy, opened.folder / MANIFEST_NAME, f"parts.{name}"))
    return problems
