"""Local lookup of artifacts and the artifacts they refer to. No network, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.integrity import check_files, check_license, raise_problems
from mgzoo.artifact.manifest import (
    MANIFEST_NAME,
    Manifest,
    PartEntry,
    WeightsReference,
    part_entry,
    read_manifest,
)
from mgzoo.artifact.safetensors_header import SCALE_SUFFIX, read_header
from mgzoo.artifact.strict_json import problem
from mgzoo.hub.folder_hub import find_in_hub
from mgzoo.hub.references import ArtifactRef, parse_reference
from mgzoo.spec import MgzooError, Problem


def weights_holder(folder: Path, part: str) -> tuple[Path, PartEntry]:
    """The local artifact with a part's plain weights: references, and adapters to their bases, are followed.

    Raises `MgzooError` for a missing artifact.
    """
    entry = part_entry(read_manifest(folder), part, str(folder))
    while reference := entry.requires:
        folder = require_local(str(reference))
        entry = part_entry(read_manifest(folder), reference.part, str(reference))
    return folder, entry


def stored_shapes(folder: Path, part: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a part's plain weights, from headers alone."""
    folder, entry = weights_holder(folder, part)
    entries = ((key, value) for name in entry.weights for key, value in read_header(folder / name).items())
    return {key: tuple(value["shape"]) for key, value in entries if not key.endswith(SCALE_SUFFIX)}


def lineage(entry: PartEntry) -> list[WeightsReference]:
    """The lineage of a part's weights, nearest first: referenced artifacts and base models, as far
    as local artifacts tell. Artifacts with another digest are ignored."""
    found: list[WeightsReference] = []
    while reference := (entry.weights if isinstance(entry.weights, WeightsReference) else entry.base):
        found.append(reference)
        try:
            folder = find_local(str(reference))
            if folder is None or storage.digest_file(folder / MANIFEST_NAME) != reference.digest:
                break
            entry = part_entry(read_manifest(folder), reference.part, str(reference))
        except MgzooError:
            break
    return found


def check_bases(manifest: Manifest, origin: Path | str, *, fetchable: bool = True) -> list[Problem]:
    """Problems of references: missing, different or damaged artifacts.

    fetchable: also report missing artifacts that could be pulled from an endpoint.
    """
    problems = []
    for name, part in manifest.parts.items():
        if part.requires is None:
            continue
        reference, key = part.requires, f"parts.{name}.{'base' if part.is_adapter else 'weights'}"
        base = find_local(str(reference))
        where = f"{origin}/{MANIFEST_NAME}"
        if base is None and not fetchable and parse_reference(str(reference)).is_endpoint:
            continue
        if base is None:
            problems.append(problem("base", f"{reference} is not on this machine", f"mgzoo pull {reference}", where, key))
        elif (digest := storage.digest_file(base / MANIFEST_NAME)) != reference.digest:
            what = f"{reference} is another artifact than the one used: its {MANIFEST_NAME} has blake3 {digest}, expected {reference.digest}"
            problems.append(problem("base", what, "pull the right artifact, or check the origin of this one", where, key))
        else:
            problems += check_files(base, read_manifest(base))
    return problems


_allowed_licenses: ContextVar[tuple[str, ...]] = ContextVar("licenses", default=())


@contextmanager
def only_licenses(licenses: Sequence[str]) -> Iterator[None]:
    """Context manager: all resolved artifacts, bases included, must have one of ``licenses`` (empty: any); for
    others only mgzoo.json is fetched."""
    token = _allowed_licenses.set(tuple(licenses))
    try:
        yield
    finally:
        _allowed_licenses.reset(token)


def allowed_licenses() -> tuple[str, ...]:
    """The licences of the innermost `only_licenses`; empty: any."""
    return _allowed_licenses.get()


def find_local(ref: str | Path) -> Path | None:
    """The local folder of a complete artifact, or None; no network."""
    try:
        parsed = parse_reference(ref)
    except MgzooError:
        return None
    if parsed.folder is not None:
        return parsed.folder
    if parsed.hub is not None:
        try:
            return find_in_hub(parsed.hub, parsed.name, parsed.revision)
        except MgzooError:
            return None
    from mgzoo.hub import huggingface

    return huggingface.cached_folder(parsed.repo, parsed.revision)


def require_local(ref: str | Path) -> Path:
    """The local folder of an artifact. Raises `MgzooError` for missing files or a licence that is not allowed
    (`only_licenses`)."""
    parsed = parse_reference(ref)
    if parsed.folder is not None:
        folder = parsed.folder
    elif parsed.hub is not None:
        folder = find_commit(parsed)
    else:
        from mgzoo.hub import huggingface

        folder, lacks = huggingface.find_cached(parsed.repo, parsed.revision)
        if lacks:
            raise MgzooError(f"{parsed.text} {lacks}", remedy=f"go online and run: mgzoo pull {parsed.text}")
    if licenses := allowed_licenses():
        raise_problems(check_license(read_manifest(folder), licenses, f"{ref}/{MANIFEST_NAME}"))
    return folder


def find_commit(parsed: ArtifactRef) -> Path:
    """The commit in a folder hub. Errors mention an ambiguous reference to a local folder."""
    try:
        return find_in_hub(parsed.hub, parsed.name, parsed.revision)
    except MgzooError as error:
        if not parsed.is_ambiguous:
            raise
        remedy = f"{error.remedy}; {parsed.hub} is a local folder; write hf://{parsed.text} for the model on the network hub"
        raise MgzooError(error.what, remedy=remedy, origin=error.origin) from None
