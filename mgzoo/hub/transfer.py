"""Push and pull: the same artifact, to and from a folder hub or an endpoint. Nothing half-written is ever visible."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mgzoo import storage
from mgzoo.hub import checking, leaks, refs, signing
from mgzoo.hub import folder as folders
from mgzoo.hub import manifest as manifests
from mgzoo.hub.manifest import Manifest, problem
from mgzoo.spec import MgzooError, Problem

Report = Callable[[str], None] | None


def push(source: str | Path, ref: str, *, parent: str | None = None, probe: bool = True, sign: str | Path | None = None, report: Report = None) -> str:
    """Publish an artifact's folder, or a run's, as ``HUB/NAME[@tag]`` (a folder hub) or ``org/name[@tag]``; returns the commit.

    Everything is checked first: digests, tensors, golden probe (unless ``probe`` is False), allowed names, requirements, secrets
    in texts. What the manifest does not list stays behind. parent: the commit this push was made on; another one there is
    refused. sign: a private key, see `mgzoo.hub.signing`. report: called with a line for each step. Raises `ArtifactError` or `MgzooError`; then nothing was published.
    """
    say = report or (lambda line: None)
    folder = None if refs.is_url(source) else refs.artifact_folder(source)
    if folder is None:
        raise MgzooError(f"{refs.shown(os.fspath(source))} holds no artifact", remedy="name the folder of a run or of a saved model")
    target = refs.parse_target(ref)
    say(f"checking {folder}")
    manifest = manifests.read(folder)
    before = _stamps(folder, manifest)
    problems = checking.verify(folder, probe=probe)
    left = [one for one in problems if one.kind == "unlisted"]
    problems = [one for one in problems if one.kind != "unlisted"]
    problems += leaks.find(folder, manifest) + ([] if problems else checking.check_requires(folder, manifest))
    checking.refuse(problems)
    for one in left:
        say(f"left behind: {one.origin} is not part of the artifact")
    if sign is not None:
        signing.sign(folder, sign)
    names = [manifests.NAME, *manifest.files, *_signature(folder)]
    say(f"pushing {len(names)} files, {manifest.size:,} bytes")
    if target.hub is not None:
        with storage.disk_errors(f"pushing to {target.text}"):
            return folders.publish(
                target.hub, target.name, lambda staging: _copy(folder, staging, manifest), tag=target.revision, parent=parent
            )
    from mgzoo.hub import endpoint

    def unchanged() -> None:
        if _stamps(folder, manifest) != before:
            raise MgzooError(f"{folder} changed while it was pushed", remedy="repeat when nothing writes to it")

    return endpoint.publish(folder, names, target.repo, tag=target.revision, parent=parent, check=unchanged)


def pull(ref: str, dest: str | Path | None = None, *, licenses: Sequence[str] = (), require_signature: str | Path | None = None, report: Report = None) -> Path:
    """Bring an artifact here and return its folder: ``dest``, or a cache.

    One commit is resolved first; then mgzoo.json is read, and recipe.yaml where its plugins are here, and every problem (schema,
    unsafe names, missing plugins, a licence outside ``licenses``, another contract, disk space, a signature that is not of the
    holder of the key ``require_signature``) is reported before any weight is fetched. Every digest and every value is checked before the artifact is in its place.
    Raises `ArtifactError` or `MgzooError`; then ``dest`` does not exist.
    """
    say = report or (lambda line: None)
    parsed = refs.parse(ref)
    if dest is not None:
        storage.refuse_address(dest)
    dest = Path(dest) if dest is not None else None
    if dest is not None and dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise MgzooError(f"{dest} exists", remedy="choose a new folder, or remove it first")
    if parsed.is_endpoint:
        return _pull_endpoint(parsed, dest, licenses, require_signature, say)
    source = parsed.folder if parsed.folder is not None else refs.find(parsed)
    manifest = manifests.read(source)
    place = dest if dest is not None else home() / "hub" / (parsed.name or source.name) / manifests.commit_of(source)
    problems = before_fetching(manifest, str(source), place, licenses) + _unsigned(source, require_signature)
    checking.refuse(problems + checking.check_contract(source, manifest))
    whole = dest is None and (place / manifests.NAME).is_file() and not checking.check_files(place, manifest)
    if whole and not _unsigned(place, require_signature):
        return place
    say(f"copying {source}: {manifest.size:,} bytes")
    checking.refuse(checking.check_files(source, manifest))
    _fetch_bases(manifest, licenses)
    checking.refuse(checking.check_tensors(source, manifest))
    with storage.disk_errors(f"pulling {ref}"), folders.staging_folder(place) as aside:
        _copy(source, aside, manifest)
        checking.refuse(_unsigned(aside, require_signature, source))
        _settle(aside, place)
    return place


def before_fetching(manifest: Manifest, origin: str, place: Path, licenses: Sequence[str] = ()) -> list[Problem]:
    """Everything that the manifest alone can tell: plugins, licence, parts kept elsewhere, disk space."""
    problems = checking.check_plugins(manifest, origin) + checking.check_license(manifest, licenses, f"{origin}/{manifests.NAME}")
    problems += checking.check_bases(manifest, origin, fetchable=False)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if manifest.size > free:
        what = f"it needs {manifest.size:,} bytes, {place} has {free:,} free"
        problems.append(problem("disk", what, "free some space, or pull to another disk", origin))
    return problems


def home() -> Path:
    """Where pulled copies of folder hubs go: ``$MGZOO_HOME``, default ``~/.cache/mgzoo``."""
    return storage.cache_home()


def _fetch_bases(manifest: Manifest, licenses: Sequence[str]) -> None:
    """Pull the artifacts that hold parts of this one; another one than was used, or of another licence, is refused."""
    from mgzoo.hub import artifact

    with refs.licensed(licenses):
        for part in manifest.parts.values():
            if part.needs:
                artifact.base_folder(part.needs)


def _signature(folder: Path) -> list[str]:
    """The name of the signature, where there is one."""
    return [manifests.SIGNATURE] if (folder / manifests.SIGNATURE).is_file() else []


def _unsigned(folder: Path, key: str | Path | None, origin: Path | str = "") -> list[Problem]:
    """What is wrong with the signature, where one is required."""
    return signing.check(folder, key, origin) if key is not None else []


def _copy(source: Path, dest: Path, manifest: Manifest) -> None:
    """Copy the artifact and check that what arrived is what is listed."""
    storage.copy_files(source, dest, [manifests.NAME, *manifest.files, *_signature(source)])
    if manifests.read(dest) != manifest:
        raise MgzooError(f"{source} changed while it was copied", remedy="repeat when nothing writes to it")
    checking.refuse(checking.check_files(dest, manifest))


def _settle(aside: Path, place: Path) -> None:
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    storage.replace_folder(aside, place)


def _stamps(folder: Path, manifest: Manifest) -> list[tuple[int, int, int]]:
    """What tells that a file was written to: its size, its time and its inode."""
    found = [os.stat(folder / name) for name in (manifests.NAME, *manifest.files) if (folder / name).is_file()]
    return [(one.st_size, one.st_mtime_ns, one.st_ino) for one in found]


def _pull_endpoint(parsed: refs.Ref, dest: Path | None, licenses: Sequence[str], key: str | Path | None, say: Callable[[str], None]) -> Path:
    from mgzoo.hub import endpoint

    if endpoint.is_offline():
        commit, folder = "", refs.resolve(parsed.text, offline=True)
        manifest = manifests.read(folder)
        checking.refuse(checking.check_license(manifest, licenses, f"{parsed.text}/{manifests.NAME}") + _unsigned(folder, key))
    else:
        say(f"resolving {parsed.text}")
        commit, folder = endpoint.fetch_manifest(parsed.repo, parsed.revision)
        manifest = manifests.read(folder)
        listed = endpoint.check_listing(parsed.repo, commit, manifest)
        if key is not None:
            endpoint.fetch_signature(parsed.repo, commit)
        listed += _unsigned(folder, key, f"{parsed.repo}@{commit}")
        listed += before_fetching(manifest, f"{parsed.repo}@{commit}", dest or folder, licenses)
        checking.refuse(listed + _contract_of(parsed.repo, commit, folder, manifest, listed))
    bad = _damaged(folder, manifest)
    if commit and bad:
        for name in bad:
            endpoint.discard(folder, name)
        size = sum(manifest.files[name].size for name in bad)
        say(f"fetching {len(bad)} files, {size:,} bytes of {parsed.repo}@{commit}")
        with storage.disk_errors(f"pulling {parsed.text}"):
            endpoint.fetch(parsed.repo, commit, list(bad))
        bad = _damaged(folder, manifest, bad)
        for name in bad:
            endpoint.discard(folder, name)
    checking.refuse([one for problems in bad.values() for one in problems])
    _fetch_bases(manifest, licenses)
    checking.refuse(checking.check_tensors(folder, manifest))
    if commit:
        endpoint.remember(parsed.repo, parsed.revision, commit)
    if dest is None:
        return folder
    with storage.disk_errors(f"pulling {parsed.text}"), folders.staging_folder(dest) as aside:
        _copy(folder, aside, manifest)
        _settle(aside, dest)
    return dest


def _contract_of(repo: str, commit: str, folder: Path, manifest: Manifest, known: Sequence[Problem]) -> list[Problem]:
    """What an artifact's recipe says against its manifest. Beside the manifest it alone is fetched before anything is decided, and
    only if it is small, its plugins are here and the hub is not found to lie about it."""
    from mgzoo.hub import endpoint
    entry = manifest.files.get("recipe.yaml")
    if entry and entry.size <= manifests.MAX_RECIPE_BYTES and not {one.kind for one in known} & {"plugin", "unsafe-name", "missing-file", "size", "signature"}:
        endpoint.fetch(repo, commit, ["recipe.yaml"])
        if any(one.origin.source == str(folder / "recipe.yaml") for one in checking.check_files(folder, manifest, ["recipe.yaml"])):
            endpoint.discard(folder, "recipe.yaml")
            endpoint.fetch(repo, commit, ["recipe.yaml"])
    elif entry and entry.size <= manifests.MAX_RECIPE_BYTES:
        return []
    return checking.check_contract(folder, manifest)


def _damaged(folder: Path, manifest: Manifest, names: Iterable[str] | None = None) -> dict[str, list[Problem]]:
    """The files that are missing or are not what the manifest lists, with what is wrong with each."""
    found = {name: checking.check_files(folder, manifest, [name]) for name in (manifest.files if names is None else names)}
    return {name: problems for name, problems in found.items() if problems}
