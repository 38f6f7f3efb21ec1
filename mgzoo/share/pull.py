"""Download an artifact; it is checked before it appears at its destination."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.integrity import check_files, copy_artifact, raise_problems
from mgzoo.artifact.manifest import MANIFEST_NAME, commit_of, read_manifest
from mgzoo.artifact.signing import required_signature
from mgzoo.hub.fetch import check_before_fetching, fetch_bases, fetch_from_endpoint
from mgzoo.hub.lookup import find_commit
from mgzoo.hub.references import parse_reference
from mgzoo.model.checks import check_headers, check_tensors
from mgzoo.recipe.artifact_check import check_contract, open_artifact
from mgzoo.share.push import Report
from mgzoo.spec import MgzooError
from mgzoo.storage import cache_home


def pull(ref: str, dest: str | Path | None = None, *, licenses: Sequence[str] = (), require_signature: str | Path | None = None, report: Report = None) -> Path:
    """Download an artifact and return its folder: ``dest``, or a cache.

    One commit is resolved first; then mgzoo.json is read, and recipe.yaml where its plugins are here, and every problem (schema,
    unsafe names, missing plugins, a licence outside ``licenses``, another contract, disk space, a signature that is not of the
    holder of the key ``require_signature``) is reported before any weight is fetched. Every digest and every value is checked before the artifact is in its place.
    Raises `ArtifactError` or `MgzooError`; then ``dest`` does not exist.
    """
    say = report or (lambda line: None)
    parsed = parse_reference(ref)
    if dest is not None:
        storage.refuse_address(dest)
    dest = Path(dest) if dest is not None else None
    if dest is not None and dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise MgzooError(f"{dest} exists", remedy="choose a new folder, or remove it first")
    if parsed.is_endpoint:
        folder = fetch_from_endpoint(parsed, licenses=licenses, key=require_signature, before_weights=check_contract, place=dest, say=say)
        raise_problems(check_headers(open_artifact(folder)))
        if dest is None:
            return folder
        with storage.disk_errors(f"pulling {parsed.text}"), storage.staging_folder(dest) as aside:
            copy_artifact(folder, aside, read_manifest(folder))
            _move_into_place(aside, dest)
        return dest
    source = parsed.folder if parsed.folder is not None else find_commit(parsed)
    manifest = read_manifest(source)
    place = dest if dest is not None else cache_home() / "hub" / (parsed.name or source.name) / commit_of(source)
    problems = check_before_fetching(manifest, str(source), place, licenses) + required_signature(source, require_signature)
    raise_problems(problems + check_contract(source, manifest))
    whole = dest is None and (place / MANIFEST_NAME).is_file() and not check_files(place, manifest)
    if whole and not required_signature(place, require_signature):
        return place
    say(f"copying {source}: {manifest.size:,} bytes")
    raise_problems(check_files(source, manifest))
    fetch_bases(manifest, licenses, before_weights=check_contract)
    raise_problems(check_tensors(open_artifact(source, manifest)))
    with storage.disk_errors(f"pulling {ref}"), storage.staging_folder(place) as aside:
        copy_artifact(source, aside, manifest)
        raise_problems(required_signature(aside, require_signature, source))
        _move_into_place(aside, place)
    return place


def _move_into_place(aside: Path, place: Path) -> None:
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    storage.replace_folder(aside, place)
