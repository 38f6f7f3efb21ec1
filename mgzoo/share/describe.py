"""Write the card of a saved artifact again, weights untouched."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.integrity import check_files, raise_problems
from mgzoo.artifact.manifest import read_manifest, write_manifest
from mgzoo.model.card import EVALUATION_NAME, copy_pictures, license_text, parse_evaluation, write_card, write_evaluation
from mgzoo.model.save import artifact_title, flat_metrics, write_texts
from mgzoo.recipe.compose import compose
from mgzoo.recipe.lock import read_lock


def describe(
    folder: str | Path,
    *,
    metrics: Mapping[str, float | int | str] | None = None,
    curve: str | Path | None = None,
    samples: str | Path | Sequence[str | Path] = (),
    license: str | None = None,
    data_note: str = "",
    evaluation: str | Path | Sequence[Mapping] | None = None,
    overrides: Sequence[str] = (),
) -> Path:
    """Rewrite the card of a saved artifact without changing its weights: metrics are added, pictures are added
    or replaced, and the arguments of `save` apply; an existing evaluation is kept unless replaced. overrides: ``a.b=value``
    for recipe.yaml and its lock, e.g. to replace a local path. The commit of the artifact changes."""
    from mgzoo.model.build import build

    folder = Path(folder)
    manifest = read_manifest(folder)
    raise_problems(check_files(folder, manifest))
    manifest = dataclasses.replace(
        manifest, metrics={**manifest.metrics, **flat_metrics(metrics or {})}, license=license or manifest.license
    )
    model = build(compose(folder / "recipe.yaml", overrides), device="meta", weights=False)
    kept = folder / EVALUATION_NAME
    figures = parse_evaluation(evaluation if evaluation is not None else kept if kept.is_file() else ())
    with storage.disk_errors(f"describing {folder}"), storage.staging_folder(folder) as aside:
        storage.copy_files(folder, aside, manifest.files)
        copy_pictures(aside, curve, samples)
        pictures = [path.name for path in aside.iterdir() if path.suffix in (".png", ".mp4")]
        readme = write_card(manifest, model, data_note=data_note, pictures=pictures, name=artifact_title(folder), figures=figures)
        storage.write_file(aside / "README.md", readme.encode())
        storage.write_file(aside / "LICENSE", license_text(manifest.license).encode())
        write_evaluation(aside, figures) if figures else (aside / EVALUATION_NAME).unlink(missing_ok=True)
        if overrides:
            write_texts(model.recipe, aside, manifest.license)
            _keep_data_pin(folder, aside, model.recipe)
        write_manifest(manifest, aside)
        storage.replace_folder(aside, folder)
    return folder


def _keep_data_pin(old: Path, new: Path, recipe) -> None:
    """In the lock of a recipe whose data is called otherwise now, the digest of the data it was trained on."""
    pinned, path = read_lock(old / "recipe.lock.json")["data"], getattr(recipe.data and recipe.data.config, "path", None)
    if len(pinned) == 1 and path:
        told = read_lock(new / "recipe.lock.json") | {"data": {path: next(iter(pinned.values()))}}
        storage.write_file(new / "recipe.lock.json", (json.dumps(told, indent=1, sort_keys=True) + "\n").encode())
