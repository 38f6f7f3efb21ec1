"""Integrity checks of artifacts: missing, changed and unlisted files, plugins, licences.

Never imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest, read_manifest
from mgzoo.artifact.strict_json import problem
from mgzoo.discovery import discover
from mgzoo.distributions import known_distributions, pinned
from mgzoo.errors import ArtifactError
from mgzoo.spec import MgzooError, Problem

AGAIN = "pull or save the artifact again"


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise `ArtifactError` if there is any problem."""
    if problems:
        raise ArtifactError(problems)


def check_files(
    folder: Path, manifest: Manifest, names: Iterable[str] | None = None, digest_of: Callable[[Path], str] = storage.digest_file
) -> list[Problem]:
    """Compare files (default all that the manifest lists) with their size and digest. digest_of: takes the digest of a file."""
    problems = []
    for name in manifest.files if names is None else names:
        entry = manifest.files.get(name)
        if entry is None:
            problems.append(problem("unlisted", f"{name} is not listed in {MANIFEST_NAME}", AGAIN, folder))
        else:
            problems += check_file(folder, name, entry.size, entry.blake3, digest_of=digest_of)
    return problems


def check_file(
    folder: Path, name: str, size: int, digest: str, remedy: str = AGAIN, digest_of: Callable[[Path], str] = storage.digest_file
) -> list[Problem]:
    """Check size and digest of one file; links are followed only inside a hub's cache."""
    path = folder / name
    if not path.is_file():
        return [problem("missing-file", "the file is missing", remedy, path)]
    if not any(path.resolve().is_relative_to(place) for place in _holding(folder.resolve())):
        return [problem("link", "the file is a link to a place outside the artifact", "do not use this artifact", path)]
    actual = path.stat().st_size
    if actual != size:
        return [problem("size", f"the file has {actual:,} bytes, expected {size:,}", remedy, path)]
    actual = digest_of(path)
    if actual != digest:
        return [problem("digest", f"the file has blake3 {actual}, expected {digest}", remedy, path)]
    return []


def _holding(folder: Path) -> list[Path]:
    """Allowed locations of the files of an artifact: its folder; in the Hugging Face cache, also the blobs of the repository and the shared ones."""
    if folder.parent.name != "snapshots":
        return [folder]
    return [folder.parents[1], folder.parents[2] / "blobs"]


def check_plugins(manifest: Manifest, folder: str | Path) -> list[Problem]:
    """Parts with a missing plugin, with the pip command, version included, if our own list has the plugin."""
    registry, known, problems = discover(), known_distributions(), {}
    versions = {requirement.distribution: requirement.version for requirement in manifest.requires}
    for name, part in sorted(manifest.parts.items()):
        namespace = part.use.split(".", 1)[0]
        if registry.find(part.use):
            continue
        what, remedy = registry.unknown(part.use, versions=versions)
        if namespace not in registry.providers and namespace not in known:
            # The manifest may name any distribution: its word alone is no reason to tell a person to install it.
            named = registry.not_installed(versions) or ", ".join(starmap(pinned, versions.items()))
            what = f"no installed plugin declares {part.use!r}"
            remedy = f"identify the plugin and check that you trust it; distributions in the manifest: {named or 'none'}"
        problems[part.use] = problem("plugin", what, remedy, Path(folder) / MANIFEST_NAME, f"parts.{name}.use")
    return list(problems.values())


def check_license(manifest: Manifest, licenses: Sequence[str], origin: str) -> list[Problem]:
    """Check the licence against the policy; an empty policy allows all."""
    if not licenses or manifest.license.lower() in {name.lower() for name in licenses}:
        return []
    remedy = f"add it to policy.licenses ({', '.join(licenses)}), or choose another artifact"
    return [problem("license", f"the licence {manifest.license!r} is not allowed", remedy, origin, "license")]


def check_unlisted(folder: Path, manifest: Manifest) -> list[Problem]:
    """Unlisted files and links in the artifact's folder."""
    problems = []
    for root, names, files in os.walk(folder):
        for name in [*files, *(name for name in names if (Path(root) / name).is_symlink())]:
            relative = (Path(root) / name).relative_to(folder).as_posix()
            if relative not in (MANIFEST_NAME, SIGNATURE_NAME) and relative not in manifest.files:
                what = f"the file is not listed in {MANIFEST_NAME}"
                problems.append(problem("unlisted", what, "move it out of the folder; it is never pushed", folder / relative))
    return problems


def signature_files(folder: Path) -> list[str]:
    """The name of the signature, where there is one."""
    return [SIGNATURE_NAME] if (folder / SIGNATURE_NAME).is_file() else []


def copy_artifact(source: Path, dest: Path, manifest: Manifest) -> None:
    """Copy the artifact and check the copy against the manifest."""
    storage.copy_files(source, dest, [MANIFEST_NAME, *manifest.files, *signature_files(source)])
    if read_manifest(dest) != manifest:
        raise MgzooError(f"{source} changed while it was copied", remedy="try again without concurrent writes")
    raise_problems(check_files(dest, manifest))
