"""A hub that is a folder: ``HUB/NAME/refs.json`` and immutable ``HUB/NAME/<commit>/`` artifacts. Never imports torch.

A commit is the first 12 hex digits of the blake3 digest of its mgzoo.json, which lists the digest of every other file, so
a commit names its content. ``refs.json`` maps ``main`` and tags to commits.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.integrity import check_files
from mgzoo.artifact.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SIGNATURE_NAME, commit_of, read_manifest
from mgzoo.spec import MgzooError

REFS_NAME = "refs.json"
LOCK_NAME = ".lock"
_COMMIT = re.compile(r"[0-9a-f]{12}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def read_refs(hub: str | Path, name: str) -> dict[str, str]:
    """Tag -> commit of ``HUB/NAME``; empty before the first push. Raises `MgzooError` for a damaged file."""
    path = Path(hub) / name / REFS_NAME
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_MANIFEST_BYTES)
        refs = json.loads(data)
        if not isinstance(refs, dict):
            raise ValueError("it is not an object")
        for tag, commit in refs.items():
            if not _TAG.fullmatch(tag) or not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
                raise ValueError(f"{tag!r} does not name a commit")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:
        raise MgzooError(f"{path} is damaged: {error}", remedy="restore the file, e.g. from version control") from None
    return refs


def commit_of_revision(hub: str | Path, name: str, revision: str | None = None) -> str | None:
    """The commit that a revision (a tag or a commit; default main) names in ``HUB/NAME``; None if missing, or with damaged refs."""
    try:
        refs = read_refs(hub, name)
    except MgzooError:
        return None
    there = (Path(hub) / name / str(revision) / MANIFEST_NAME).is_file()
    return refs.get(revision or "main", revision if there and _COMMIT.fullmatch(revision) else None)


def find_in_hub(hub: str | Path, name: str, revision: str | None = None) -> Path:
    """The folder of ``HUB/NAME@revision`` (a tag or a commit; default main). Raises `MgzooError` with the available ones."""
    base, refs = Path(hub) / name, read_refs(hub, name)
    if not refs:
        there = sorted(path.parent.name for path in Path(hub).glob(f"*/{REFS_NAME}"))
        raise MgzooError(
            f"{Path(hub)} has no artifact {name!r}",
            remedy=f"it has {', '.join(there)}" if there else "push it first: mgzoo push FOLDER HUB/NAME",
        )
    commit = refs.get(revision or "main", revision if _COMMIT.fullmatch(revision or "") else None)
    if commit is None:
        raise MgzooError(f"{base} has no revision {revision or 'main'!r}", remedy=f"it has {', '.join(sorted(refs))}")
    if not (base / commit / MANIFEST_NAME).is_file():
        raise MgzooError(f"{base} has no commit {commit}", remedy=f"it has {', '.join(sorted(set(refs.values())))}")
    return base / commit


def check_tag(tag: str | None) -> None:
    """Raise `MgzooError` for an invalid tag; None (no tag) is valid."""
    if tag is not None and (not _TAG.fullmatch(tag) or tag == "main"):
        raise MgzooError(f"{tag!r} is not a valid tag", remedy="use letters, digits, '.', '_' and '-'; main is reserved for the newest commit")


def publish_to_hub(
    hub: str | Path, name: str, fill: Callable[[Path], None], *, tag: str | None = None, parent: str | None = None
) -> str:
    """Publish what ``fill(folder)`` writes as a new commit of ``HUB/NAME`` and return the commit.

    parent: the expected commit of main at the end; default: the current one. Concurrent pushes are rejected, and tags
    are never moved. A damaged copy of the same commit is repaired. No files remain after a failure. Pushes to ``HUB/NAME``
    are serialised, also between machines with a shared hub.
    """
    from filelock import FileLock  # slow to import

    check_tag(tag)
    storage.refuse_address(hub)
    base = Path(hub) / name
    expected = parent if parent is not None else read_refs(hub, name).get("main")
    base.mkdir(parents=True, exist_ok=True)
    try:
        with storage.staging_folder(base / "new") as staging:
            fill(staging)
            commit = commit_of(staging)
            with FileLock(base / LOCK_NAME, mode=0o666):  # by anybody who may push
                refs = read_refs(hub, name)
                if refs.get("main") != expected:
                    raise MgzooError(
                        f"{base} has changed: main is {refs.get('main')}, this push is based on {expected}",
                        remedy="check the new commits, then push again",
                    )
                if tag is not None and refs.get(tag, commit) != commit:
                    what = f"{base} already has a tag {tag!r}, at {refs[tag]}"
                    raise MgzooError(what, remedy="tags cannot be moved: choose another tag")
                new = not (base / commit).exists()
                try:
                    if new or check_files(base / commit, read_manifest(staging)):
                        storage.replace_folder(staging, base / commit)
                    elif (staging / SIGNATURE_NAME).is_file():  # the same content, signed later
                        os.replace(staging / SIGNATURE_NAME, base / commit / SIGNATURE_NAME)
                    _write_refs(base, {**refs, "main": commit, **({tag: commit} if tag else {})})
                except BaseException:
                    if new and commit not in read_refs(hub, name).values():
                        shutil.rmtree(base / commit, ignore_errors=True)
                    raise
        return commit
    finally:
        if {path.name for path in base.iterdir()} <= {LOCK_NAME}:
            shutil.rmtree(base)


def _write_refs(base: Path, refs: dict[str, str]) -> None:
    storage.atomic_write(base / REFS_NAME, json.dumps(refs, indent=1, sort_keys=True) + "\n")
