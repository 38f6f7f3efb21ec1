"""Every problem of an artifact, a run, a folder hub or a generated file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from mgzoo.artifact.integrity import check_file, check_files, check_plugins, check_unlisted
from mgzoo.artifact.manifest import read_manifest
from mgzoo.artifact.signing import required_signature
from mgzoo.artifact.strict_json import problem
from mgzoo.artifact.tensors import MappedFiles
from mgzoo.generation.record import check_generated_file
from mgzoo.hub.folder_hub import REFS_NAME, read_refs
from mgzoo.hub.lookup import check_bases, find_local, require_local
from mgzoo.hub.references import artifact_folder, is_url
from mgzoo.model.checks import check_tensors
from mgzoo.model.golden_outputs import compare_golden_outputs
from mgzoo.model.load import load_opened
from mgzoo.recipe.artifact_check import OpenedArtifact, open_artifact
from mgzoo.spec import MgzooError, Problem, RecipeError


def verify(path: str | Path, *, probe: bool = True, require_signature: str | Path | None = None) -> list[Problem]:
    """Every problem of an artifact's folder, a run's folder (its artifact and its checkpoints), a reference, a folder hub (every
    commit that it names), or a file that `mgzoo generate` wrote. require_signature: a public key, see `mgzoo.artifact.signing`.

    Raises `MgzooError` where there is nothing of the kind.
    """
    run = Path(os.devnull if is_url(path) else path)  # an address is no path
    if run.is_file():
        return check_generated_file(run)[1]
    if commits := _commits(run):
        return [one for commit in commits for one in verify(commit, probe=probe, require_signature=require_signature)]
    checkpoints = sorted(run.glob("checkpoints/*/manifest.json")) if run.is_dir() else []
    problems = [one for listing in checkpoints for one in _check_checkpoint(listing)]
    if checkpoints and artifact_folder(run) is None:
        return problems
    folder = find_local(path)
    if folder is None:
        folder = require_local(path)
    return problems + required_signature(folder, require_signature) + check_artifact(folder, probe=probe)[0]


def check_artifact(folder: Path, *, probe: bool = True) -> tuple[list[Problem], OpenedArtifact | None]:
    """Every problem of the artifact in a folder, and the artifact opened, where it could be: what is asked of it next need not open it again.
    probe: whether the golden outputs are computed, too."""
    problems, opened = [], None
    try:
        manifest = read_manifest(folder)
        problems += check_files(folder, manifest) + check_unlisted(folder, manifest) + check_plugins(manifest, folder) + check_bases(manifest, folder)
        if all(one.kind == "unlisted" for one in problems):
            opened = open_artifact(folder, manifest)
            problems += check_tensors(opened)
        if probe and opened and all(one.kind == "unlisted" for one in problems):
            problems += check_golden_outputs(opened)
    except RecipeError as error:
        problems += error.problems
    except MgzooError as error:
        problems.append(problem("artifact", error.what, error.remedy, error.origin or folder))
    return problems, opened


def check_golden_outputs(opened: OpenedArtifact) -> list[Problem]:
    """Load the model, whose files have been checked, and compare its answers with the stored ones; an artifact without golden outputs passes."""
    files = opened.manifest.files
    if "probe/inputs.safetensors" not in files or "probe/outputs.safetensors" not in files:
        return []
    return compare_golden_outputs(load_opened(opened, MappedFiles(), dtype=torch.float32), opened.manifest.contract, opened.folder)


def _commits(folder: Path) -> list[Path]:
    """The artifacts that a folder hub, or one name in it, names."""
    names = [found.parent for found in [folder / REFS_NAME, *folder.glob(f"*/{REFS_NAME}")] if found.is_file()]
    return [name / commit for name in names for commit in sorted(set(read_refs(name.parent, name.name).values()))]


def _check_checkpoint(listing: Path) -> list[Problem]:
    folder, remedy = listing.parent, "resume from another checkpoint; `mgzoo train … --resume` skips damaged ones"
    try:
        files = json.loads(listing.read_bytes())["files"]
        entries = [(name, entry["size"], entry["blake3"]) for name, entry in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [problem("manifest", f"the checkpoint's manifest cannot be read: {error}", remedy, listing)]
    return [problem for name, size, digest in entries for problem in check_file(folder, name, size, digest, remedy)]
