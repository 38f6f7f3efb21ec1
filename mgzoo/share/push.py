"""Publish an artifact on a folder hub or an endpoint, atomically."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mgzoo.artifact.integrity import raise_problems, signature_files
from mgzoo.artifact.manifest import MANIFEST_NAME, Manifest, read_manifest
from mgzoo.artifact.secrets import find_secrets
from mgzoo.artifact.signing import sign_artifact
from mgzoo.hub import addresses
from mgzoo.hub.publish import publish
from mgzoo.hub.references import artifact_folder, is_url, parse_target
from mgzoo.recipe.artifact_check import check_requires
from mgzoo.share.verify import check_artifact
from mgzoo.spec import MgzooError

Report = Callable[[str], None] | None


def push(source: str | Path, ref: str, *, parent: str | None = None, probe: bool = True, sign: str | Path | None = None, report: Report = None) -> str:
    """Publish an artifact's folder, or a run's, as ``HUB/NAME[@tag]`` (a folder hub) or ``org/name[@tag]``; returns the commit.

    Everything is checked first: digests, tensors, golden probe (unless ``probe`` is False), allowed names, requirements, secrets
    in texts. What the manifest does not list stays behind. parent: the commit this push was made on; another one there is
    refused. sign: a private key, see `mgzoo.artifact.signing`. report: called with a line for each step. Raises `ArtifactError` or `MgzooError`; then nothing was published.
    """
    say = report or (lambda line: None)
    folder = None if is_url(source) else artifact_folder(source)
    if folder is None:
        raise MgzooError(f"{addresses.shown(os.fspath(source))} holds no artifact", remedy="give the folder of a run or a saved model")
    target = parse_target(ref)
    say(f"checking {folder}")
    manifest = read_manifest(folder)
    before = _file_stamps(folder, manifest)
    problems, opened = check_artifact(folder, probe=probe)
    left = [one for one in problems if one.kind == "unlisted"]
    problems = [one for one in problems if one.kind != "unlisted"]
    problems += find_secrets(folder, manifest) + ([] if problems or opened is None else check_requires(opened))
    raise_problems(problems)
    for one in left:
        say(f"not pushed: {one.origin} is not part of the artifact")
    if sign is not None:
        sign_artifact(folder, sign)
    names = [MANIFEST_NAME, *manifest.files, *signature_files(folder)]
    say(f"pushing {len(names)} files, {manifest.size:,} bytes")

    def unchanged() -> None:
        if _file_stamps(folder, manifest) != before:
            raise MgzooError(f"{folder} changed while it was pushed", remedy="try again without concurrent writes")

    return publish(folder, manifest, names, target, parent=parent, check=unchanged)


def _file_stamps(folder: Path, manifest: Manifest) -> list[tuple[int, int, int]]:
    """What tells that a file was written to: its size, its time and its inode."""
    found = [os.stat(folder / name) for name in (MANIFEST_NAME, *manifest.files) if (folder / name).is_file()]
    return [(one.st_size, one.st_mtime_ns, one.st_ino) for one in found]
