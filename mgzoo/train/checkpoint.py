"""Atomic checkpoints.

A checkpoint is written to ``checkpoints/.tmp-<step>-<random>``, flushed to disk, listed with sizes and blake3 digests in its
``manifest.json``, renamed to ``checkpoints/step-<step>``, and only then named by ``checkpoints/latest``.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from mgzoo import storage
from mgzoo.spec import MgzooError

MANIFEST = "manifest.json"


def begin_checkpoint(checkpoints: Path, step: int) -> Path:
    """A temporary folder for the checkpoint of `step`; leftovers of interrupted saves are removed."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    for leftover in checkpoints.glob(".tmp-*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    aside = checkpoints / f".tmp-{step:06d}-{secrets.token_hex(4)}"
    aside.mkdir()
    return aside


def commit_checkpoint(aside: Path, step: int, keep: int) -> Path:
    """Write the manifest, flush, rename the temporary folder and update ``latest``; only the newest `keep` checkpoints are kept."""
    files = sorted(path for path in aside.rglob("*") if path.is_file())
    listed = {str(path.relative_to(aside)): {"size": path.stat().st_size, "blake3": storage.digest_file(path)} for path in files}
    (aside / MANIFEST).write_text(json.dumps({"step": step, "files": listed}, indent=1))
    for path in [*files, aside / MANIFEST, *(p for p in aside.rglob("*") if p.is_dir()), aside]:
        storage.fsync(path)
    final = aside.parent / f"step-{step:06d}"
    if final.exists():
        shutil.rmtree(final)
    os.rename(aside, final)
    storage.fsync(final.parent)
    storage.atomic_write(final.parent / "latest", final.name + "\n")
    older = [folder for folder in all_checkpoints(final.parent) if step_of(folder) <= step]
    for old in {*all_checkpoints(final.parent)} - {*older[-max(1, keep) :]}:
        shutil.rmtree(old)
    return final


def step_of(folder: Path) -> int:
    """The step of a checkpoint folder."""
    return int(folder.name.removeprefix("step-"))


def all_checkpoints(checkpoints: Path) -> list[Path]:
    """The checkpoint folders, oldest step first, whole or not."""
    return sorted(checkpoints.glob("step-*"), key=step_of)


@contextlib.contextmanager
def disk_full_guard(checkpoints: Path, aside: Path, step: int) -> Iterator[None]:
    """Context manager for a save: on failure the temporary folder is removed, and a full disk is reported."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if storage.disk_full(error):
            raise disk_full_error(checkpoints, step) from error
        raise


def disk_full_error(checkpoints: Path, step: int) -> MgzooError:
    left = latest(checkpoints)
    return MgzooError(
        f"the disk is full: the checkpoint of step {step} was not saved",
        remedy=f"free some space and continue with --resume; {left.name + ' is intact' if left else 'there is no earlier checkpoint'}",
        origin=str(checkpoints),
    )


def find_damage(folder: Path) -> str | None:
    """Damage of a checkpoint in a few words, or None."""
    try:
        listed = json.loads((folder / MANIFEST).read_text())["files"]
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError):
        return f"{MANIFEST} cannot be read"
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {entry['size']}"
        if storage.digest_file(path) != entry["blake3"]:
            return f"{name} does not match its digest"
    return None


def latest(checkpoints: Path) -> Path | None:
    """The checkpoint in ``latest``, unchecked, or None."""
    pointer = checkpoints / "latest"
    folder = checkpoints / pointer.read_text(errors="replace").strip() if pointer.exists() else None
    return folder if folder is not None and folder.is_dir() else None


def latest_intact(checkpoints: Path) -> Path | None:
    """The newest intact checkpoint; damaged ones are skipped with a warning."""
    pointed = latest(checkpoints)
    for folder in reversed(all_checkpoints(checkpoints)):
        if pointed is not None and step_of(folder) > step_of(pointed):
            continue
        wrong = find_damage(folder)
        if wrong is None:
            return folder
        print(f"! checkpoint {folder.name} is damaged ({wrong}): using the previous one", file=sys.stderr, flush=True)
    return None
