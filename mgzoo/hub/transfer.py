"""Push and pull: the same artifact, to and from a folder hub or an endpoint. Nothing half-written is ever visible."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mgzoo.hub import checking, refs
from mgzoo.hub import folder as folders
from mgzoo.hub import manifest as manifests
from mgzoo.hub.manifest import Manifest, Reference, problem
from mgzoo.spec import MgzooError, Problem

Report = Callable[[str], None] | None

_SECRETS = (
    ("a Hugging Face token", re.compile(rb"\bhf_[A-Za-z0-9]{20,}")),
    ("a GitHub token", re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{40,}")),
    ("an AWS key", re.compile(rb"\b(AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("an API key", re.compile(rb"\bsk-[A-Za-z0-9_-]{20,}|\bAIza[A-Za-z0-9_-]{35}")),
    ("a Slack token", re.compile(rb"\bxox[abposr]-[A-Za-z0-9-]{10,}")),
    ("a private key", re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a password", re.compile(rb"(?i)\b(api[_-]?key|secret|token|passw(or)?d)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9/+_.-]{16,}")),
)
_TEXTS = (".md", ".json", ".yaml", "LICENSE")


def push(source: str | Path, ref: str, *, parent: str | None = None, probe: bool = True, report: Report = None) -> str:
    """Publish an artifact's folder, or a run's, as ``HUB/NAME[@tag]`` (a folder hub) or ``org/name[@tag]``; returns the commit.

    Everything is checked first: digests, tensors, golden probe (unless ``probe`` is False), allowed names, secrets in
    texts. What the manifest does not list stays behind. parent: the commit this push was made on; another one there is
    refused. report: called with a line for each step. Raises `ArtifactError` or `MgzooError`; then nothing was published.
    """
    say = report or (lambda line: None)
    folder = refs.artifact_folder(source)
    if folder is None:
        raise MgzooError(f"{source} holds no artifact", remedy="name the folder of a run or of a saved model")
    target = refs.parse_target(ref)
    say(f"checking {folder}")
    manifest = manifests.read(folder)
    problems = checking.verify(folder, probe=probe)
    left = [one for one in problems if one.kind == "unlisted"]
    checking.refuse([one for one in problems if one.kind != "unlisted"] + find_secrets(folder, manifest))
    for one in left:
        say(f"left behind: {one.origin} is not part of the artifact")
    names = [manifests.NAME, *manifest.files]
    say(f"pushing {len(names)} files, {manifest.size:,} bytes")
    if target.hub is not None:
        with folders.disk_errors(f"pushing to {target.text}"):
            return folders.publish(
                target.hub, target.name, lambda staging: _copy(folder, staging, manifest), tag=target.revision, parent=parent
            )
    from mgzoo.hub import endpoint

    return endpoint.publish(folder, names, target.repo, tag=target.revision, parent=parent)


def pull(ref: str, dest: str | Path | None = None, *, licenses: Sequence[str] = (), report: Report = None) -> Path:
    """Bring an artifact here and return its folder: ``dest``, or a cache.

    One commit is resolved first; then mgzoo.json alone is read, and every problem (schema, unsafe names, missing plugins,
    a licence outside ``licenses``, disk space) is reported before any weight is fetched. Every digest is checked.
    Raises `ArtifactError` or `MgzooError`; then ``dest`` does not exist.
    """
    say = report or (lambda line: None)
    parsed = refs.parse(ref)
    dest = Path(dest) if dest is not None else None
    if dest is not None and dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise MgzooError(f"{dest} exists", remedy="choose a new folder, or remove it first")
    if parsed.is_endpoint:
        return _pull_endpoint(parsed, dest, licenses, say)
    source = parsed.folder if parsed.folder is not None else folders.find(parsed.hub, parsed.name, parsed.revision)
    manifest = manifests.read(source)
    place = dest if dest is not None else home() / "hub" / (parsed.name or source.name) / manifests.commit_of(source)
    checking.refuse(before_fetching(manifest, str(source), place, licenses))
    if dest is None and (place / manifests.NAME).is_file() and not checking.check_files(place, manifest):
        return place
    say(f"copying {source}: {manifest.size:,} bytes")
    checking.refuse(checking.check_files(source, manifest))
    with folders.disk_errors(f"pulling {ref}"), folders.written_aside(place) as aside:
        _copy(source, aside, manifest)
        _settle(aside, place)
    _fetch_bases(manifest)
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


def find_secrets(folder: Path, manifest: Manifest) -> list[Problem]:
    """Texts of the artifact that hold what looks like a token, a key or a password; the secret itself is not repeated."""
    problems = []
    for name in [manifests.NAME, *manifest.files]:
        if not name.endswith(_TEXTS):
            continue
        for number, line in enumerate((folder / name).read_bytes().splitlines(), 1):
            problems += [
                problem("secret", f"the line looks like {what}", "take it out, save again, and revoke it", folder / name, line=number)
                for what, pattern in _SECRETS
                if pattern.search(line)
            ]
    return problems


def home() -> Path:
    """Where pulled copies of folder hubs go: ``$MGZOO_HOME``, default ``~/.cache/mgzoo``."""
    return Path(os.environ.get("MGZOO_HOME") or Path.home() / ".cache" / "mgzoo")


def _fetch_bases(manifest: Manifest) -> None:
    """Pull the artifacts that hold parts of this one."""
    for part in manifest.parts.values():
        if isinstance(part.weights, Reference):
            refs.resolve(str(part.weights))


def _copy(source: Path, dest: Path, manifest: Manifest) -> None:
    """Copy the artifact and check that what arrived is what is listed."""
    folders.copy_files(source, dest, [manifests.NAME, *manifest.files])
    if manifests.read(dest) != manifest:
        raise MgzooError(f"{source} changed while it was copied", remedy="repeat when nothing writes to it")
    checking.refuse(checking.check_files(dest, manifest))


def _settle(aside: Path, place: Path) -> None:
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    folders.put_in_place(aside, place)


def _pull_endpoint(parsed: refs.Ref, dest: Path | None, licenses: Sequence[str], say: Callable[[str], None]) -> Path:
    from mgzoo.hub import endpoint

    say(f"resolving {parsed.text}")
    commit, folder = endpoint.fetch_manifest(parsed.repo, parsed.revision)
    manifest = manifests.read(folder)
    checking.refuse(before_fetching(manifest, f"{parsed.repo}@{commit}", dest or folder, licenses))
    say(f"fetching {manifest.size:,} bytes of {parsed.repo}@{commit}")
    endpoint.fetch(parsed.repo, commit, list(manifest.files))
    checking.refuse(checking.check_files(folder, manifest))
    _fetch_bases(manifest)
    if dest is None:
        return folder
    with folders.disk_errors(f"pulling {parsed.text}"), folders.written_aside(dest) as aside:
        _copy(folder, aside, manifest)
        _settle(aside, dest)
    return dest
