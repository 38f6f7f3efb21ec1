"""Resolve a reference to a local folder, with a download if needed. Never imports torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.integrity import check_files, check_license, check_plugins, raise_problems
from mgzoo.artifact.manifest import (
    MANIFEST_NAME,
    MAX_RECIPE_BYTES,
    Manifest,
    WeightsReference,
    read_manifest,
)
from mgzoo.artifact.signing import required_signature
from mgzoo.artifact.strict_json import problem
from mgzoo.hub.lookup import allowed_licenses, check_bases, only_licenses, require_local
from mgzoo.hub.references import ArtifactRef, parse_reference
from mgzoo.spec import MgzooError, Problem

BeforeWeights = Callable[[Path, Manifest], list[Problem]]
"""Callback between the download of the manifest and recipe.yaml and that of the weights: problems that stop the download. This layer
does not know recipes; callers pass `mgzoo.recipe.artifact_check.check_contract`."""


def fetch_base(reference: WeightsReference, *, before_weights: BeforeWeights) -> Path:
    """The artifact of a reference, with its digest checked. Raises `MgzooError` for another digest."""
    folder = fetch(str(reference), before_weights=before_weights)
    digest = storage.digest_file(folder / MANIFEST_NAME)
    if digest != reference.digest:
        raise MgzooError(
            f"{reference} is another artifact than the one used: its {MANIFEST_NAME} has digest {digest}, expected {reference.digest}",
            remedy="pull the right artifact, or check the origin of this one",
        )
    return folder


_without_network: ContextVar[bool] = ContextVar("without_network", default=False)


@contextmanager
def without_network() -> Iterator[None]:
    """Context manager: local artifacts only, no requests to network hubs; missing artifacts are errors.

    For locked recipes: their tags need no second lookup.
    """
    token = _without_network.set(True)
    try:
        yield
    finally:
        _without_network.reset(token)


def fetch(ref: str | Path, *, before_weights: BeforeWeights) -> Path:
    """The local folder of an artifact, downloaded from an endpoint if needed.

    Raises `MgzooError` for missing artifacts. See `without_network` and `mgzoo.hub.lookup.only_licenses`.
    """
    parsed = parse_reference(ref)
    if not parsed.is_endpoint:
        return require_local(ref)
    from mgzoo.hub import huggingface

    here, lacks = huggingface.find_cached(parsed.repo, parsed.revision)
    if _without_network.get() or huggingface.is_offline() or not lacks and huggingface.is_commit(parsed.revision):
        return require_local(ref)
    return fetch_from_endpoint(parsed, licenses=allowed_licenses(), before_weights=before_weights)


def check_before_fetching(manifest: Manifest, origin: str, place: Path, licenses: Sequence[str] = ()) -> list[Problem]:
    """Checks with the manifest alone: plugins, licence, referenced parts, disk space."""
    problems = check_plugins(manifest, origin) + check_license(manifest, licenses, f"{origin}/{MANIFEST_NAME}")
    problems += check_bases(manifest, origin, fetchable=False)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if manifest.size > free:
        what = f"the artifact needs {manifest.size:,} bytes; {place} has {free:,} free"
        problems.append(problem("disk", what, "free some space, or pull to another disk", origin))
    return problems


def fetch_bases(manifest: Manifest, licenses: Sequence[str], *, before_weights: BeforeWeights) -> None:
    """Fetch the referenced artifacts of this one; other digests or licences are rejected."""
    with only_licenses(licenses):
        for part in manifest.parts.values():
            if part.requires:
                fetch_base(part.requires, before_weights=before_weights)


def fetch_from_endpoint(parsed: ArtifactRef, *, licenses: Sequence[str] = (), key: str | Path | None = None, before_weights: BeforeWeights,
                        place: Path | None = None, say: Callable[[str], None] = lambda line: None) -> Path:
    """The cache folder of one commit, with all files checked and all bases local.

    First the manifest is checked, then recipe.yaml (``before_weights``), then the weights are fetched. key: public key of a required
    signature. place: target of a later copy, for its free space. say: called with a line for each step.
    Raises `ArtifactError` with every problem, or `MgzooError`.
    """
    from mgzoo.hub import huggingface

    if huggingface.is_offline():
        commit, folder = "", require_local(parsed.text)
        manifest = read_manifest(folder)
        raise_problems(check_license(manifest, licenses, f"{parsed.text}/{MANIFEST_NAME}") + required_signature(folder, key))
    else:
        say(f"resolving {parsed.text}")
        commit, folder = huggingface.fetch_manifest(parsed.repo, parsed.revision)
        manifest = read_manifest(folder)
        listed = huggingface.check_listing(parsed.repo, commit, manifest)
        if key is not None:
            huggingface.fetch_signature(parsed.repo, commit)
        listed += required_signature(folder, key, f"{parsed.repo}@{commit}")
        listed += check_before_fetching(manifest, f"{parsed.repo}@{commit}", place or folder, licenses)
        raise_problems(listed + _check_recipe(parsed.repo, commit, folder, manifest, listed, before_weights))
    bad = _damaged(folder, manifest)
    if commit and bad:
        for name in bad:
            huggingface.discard(folder, name)
        size = sum(manifest.files[name].size for name in bad)
        say(f"fetching {len(bad)} files, {size:,} bytes of {parsed.repo}@{commit}")
        with storage.disk_errors(f"pulling {parsed.text}"):
            huggingface.fetch(parsed.repo, commit, list(bad))
        bad = _damaged(folder, manifest, bad)
        for name in bad:
            huggingface.discard(folder, name)
    raise_problems([one for problems in bad.values() for one in problems])
    fetch_bases(manifest, licenses, before_weights=before_weights)
    from mgzoo.artifact.tensors import check_values  # torch, where there are weights to look at

    raise_problems(check_values(folder, manifest))
    if commit:
        huggingface.remember(parsed.repo, parsed.revision, commit)
    return folder


def _check_recipe(repo: str, commit: str, folder: Path, manifest: Manifest, known: Sequence[Problem], before_weights: BeforeWeights) -> list[Problem]:
    """What an artifact's recipe says against its manifest. Beside the manifest it alone is fetched before anything is decided, and
    only if it is small, its plugins are here and the hub is not found to lie about it."""
    from mgzoo.hub import huggingface

    entry = manifest.files.get("recipe.yaml")
    if entry and entry.size <= MAX_RECIPE_BYTES and not {one.kind for one in known} & {"plugin", "unsafe-name", "missing-file", "size", "signature"}:
        huggingface.fetch(repo, commit, ["recipe.yaml"])
        if any(one.origin.source == str(folder / "recipe.yaml") for one in check_files(folder, manifest, ["recipe.yaml"])):
            huggingface.discard(folder, "recipe.yaml")
            huggingface.fetch(repo, commit, ["recipe.yaml"])
    elif entry and entry.size <= MAX_RECIPE_BYTES:
        return []
    return before_weights(folder, manifest)


def _damaged(folder: Path, manifest: Manifest, names: Iterable[str] | None = None) -> dict[str, list[Problem]]:
    """Missing and damaged files, with the problem of each."""
    found = {name: check_files(folder, manifest, [name]) for name in (manifest.files if names is None else names)}
    return {name: problems for name, problems in found.items() if problems}
