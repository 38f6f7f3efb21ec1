"""Checks of a built model against an artifact or a recipe: names, shapes, configs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from mgzoo.artifact.manifest import MANIFEST_NAME, read_part_config
from mgzoo.artifact.strict_json import problem
from mgzoo.artifact.tensors import check_values, tensor_shapes
from mgzoo.hub.lookup import find_local, stored_shapes
from mgzoo.model.build import build, empty_model
from mgzoo.model.lora import ranks_too_large, tensors_missing_from_base, unmatched_targets
from mgzoo.model.model import Model
from mgzoo.model.part_weights import adapted_shapes
from mgzoo.recipe.artifact_check import OpenedArtifact, check_parts, contract_differences
from mgzoo.spec import MgzooError, Problem


def meta_problems(recipe) -> list[Problem]:
    """Problems found by a build on the meta device: adapters without a target layer, weights with other names or shapes."""
    plain = recipe
    for name in [name for name, part in recipe.parts.items() if part.adapter]:
        plain = plain.with_adapter(name, None)
    model, problems = build(plain, device="meta", weights=False), []

    def found(what: str, remedy: str, key: str, kind: str) -> None:
        problems.append(Problem(what=what, remedy=remedy, key=key, origin=recipe.origin(key), kind=kind))

    for name, part in recipe.parts.items():
        for what, remedy in unmatched_targets(model.part(name), part.adapter) if part.adapter else ():
            found(what, remedy, f"parts.{name}.adapter.targets", "adapter")
        for what, remedy in ranks_too_large(model.part(name), part.adapter) if part.adapter else ():
            found(what, remedy, f"parts.{name}.adapter.rank", "adapter")
        folder = find_local(part.weights) if part.weights else None
        if folder is None:
            continue
        try:
            shapes = stored_shapes(folder, name)
        except MgzooError as error:
            found(error.what, error.remedy, f"parts.{name}.weights", "weights")
            continue
        if hasattr(model.part(name), "expand_state_dict"):
            state, new = model.part(name).expand_state_dict({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
            shapes = {key: tuple(value.shape) for key, value in state.items()}
            for what, remedy in tensors_missing_from_base(part.adapter, new, state) if part.adapter else ():
                found(f"{what} in {part.weights}", remedy, f"parts.{name}.adapter", "adapter")
        for one in check_shapes(part.weights, shapes, model.part(name)):
            found(f"in {part.weights}, {one.what}", "use the config of the weights (remove `config`)",
                  f"parts.{name}.weights", "shape")
    return problems


def check_shapes(origin: str, shapes: Mapping[str, tuple[int, ...]], part) -> list[Problem]:
    """Compare stored names and shapes with those of a built part."""
    problems = []

    def differs(what: str) -> None:
        remedy = "the code of the plugin has changed: install the versions in `requires` of the artifact"
        problems.append(problem("shape", what, remedy, origin))

    wanted = {key: tuple(value.shape) for key, value in part.state_dict().items()}
    for key in sorted(wanted.keys() - shapes.keys()):
        differs(f"missing tensor {key} {list(wanted[key])}")
    for key in sorted(shapes.keys() - wanted.keys()):
        differs(f"unexpected tensor {key} {list(shapes[key])}")
    for key in sorted(shapes.keys() & wanted.keys()):
        if shapes[key] != wanted[key]:
            differs(f"{key} has shape {list(shapes[key])}, the part has {list(wanted[key])}")
    return problems


def check_config(folder: Path, name: str, config) -> list[Problem]:
    """Compare config.json of a part (inherited by recipes with these weights) with the config in recipe.yaml."""
    stored, built = read_part_config(folder, name), json.loads(json.dumps(dataclasses.asdict(config)))
    return [
        problem("config", f"is {stored[key]!r}, recipe.yaml has {built[key]!r}", "save the artifact again", folder / name / "config.json", key)
        for key in sorted(stored.keys() & built.keys())
        if stored[key] != built[key]
    ]


def check_model(opened: OpenedArtifact, model: Model, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]) -> list[Problem]:
    """Compare the parts of the manifest, and their tensor shapes, with the model built from the recipe."""
    folder, manifest, problems = opened.folder, opened.manifest, check_parts(opened)
    other, with_weights = {one.key for one in problems}, model.part_names()
    remedy = "save the artifact again; its manifest and its recipe.yaml differ"
    for name, part in sorted(model.recipe.parts.items()):
        if f"parts.{name}" in other:
            continue
        if name in shapes:
            problems += check_config(folder, name, part.config) if f"{name}/config.json" in manifest.files else []
            problems += check_shapes(f"{folder / name}", shapes[name], model.part(name))
        elif name in with_weights and not manifest.parts[name].weights:
            problems.append(problem("part", "the part has no weights", remedy, folder / MANIFEST_NAME, f"parts.{name}"))
    return problems


def check_headers(opened: OpenedArtifact) -> list[Problem]:
    """Compare names and shapes in the headers of the weights with an empty model; no tensor is read."""
    folder, manifest = opened.folder, opened.manifest
    files = {name: [folder / file for file in part.weights] for name, part in manifest.parts.items() if isinstance(part.weights, tuple)}
    shapes = {name: tensor_shapes(paths) for name, paths in files.items() if paths}
    shapes |= {name: adapted_shapes(folder, name) for name, part in manifest.parts.items() if part.is_adapter}
    return contract_differences(opened) + check_model(opened, empty_model(opened.recipe), shapes)


def check_tensors(opened: OpenedArtifact) -> list[Problem]:
    """`check_headers`, and check that every stored value is finite."""
    return check_headers(opened) + check_values(opened.folder, opened.manifest)
