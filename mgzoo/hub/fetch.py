"""From a reference to a folder, downloaded first where it is on an endpoint and not here yet. Never imports torch."""

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
"""Asked once the manifest and recipe.yaml are here and before any weight is: the problems for which no weight is to be fetched. This floor
knows no recipe; those above pass `mgzoo.recipe.artifact_check.check_contract`."""


def fetch_base(reference: WeightsReference, *, before_weights: BeforeWeights) -> Path:
    """The artifact a reference points to, with its digest compared. Raises `MgzooError` where it is another."""
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
    """Within it, no reference is asked about on a network hub: what is on this machine is used, and an error says what is not.

    For what a lock has been compared with: a tag that could have moved needs no second look.
    """
    token = _without_network.set(True)
    try:
        yield
    finally:
        _without_network.reset(token)


def fetch(ref: str | Path, *, before_weights: BeforeWeights) -> Path:
    """The artifact's folder, downloaded first where it is on an endpoint and not here yet.

    Raises `MgzooError` that says what is missing. See `without_network` and `mgzoo.hub.lookup.only_licenses`.
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
    """Everything that the manifest alone can tell: plugins, licence, parts kept elsewhere, disk space."""
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
    """Fetch the artifacts that hold parts of this one; another one than was used, or of another licence, is refused."""
    with only_licenses(licenses):
        for part in manifest.parts.values():
            if part.requires:
                fetch_base(part.requires, before_weights=before_weights)


def fetch_from_endpoint(parsed: ArtifactRef, *, licenses: Sequence[str] = (), key: str | Path | None = None, before_weights: BeforeWeights,
                        place: Path | None = None, say: Callable[[str], None] = lambda line: None) -> Path:
    """The folder of one commit in the cache, with every file of it checked and its bases here.

    The manifest decides first, then recipe.yaml (``before_weights``), and only then are weights fetched. key: the public key of a signature
    that must be there. place: where it will be copied, for its free space. say: called with a line for each step.
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
    """The files that are missing or are not what the manifest lists, with what is wrong with each."""
    found = {name: check_files(folder, manifest, [name]) for name in (manifest.files if names is None else names)}
    return {name: problems for name, problems in found.items() if problems}
