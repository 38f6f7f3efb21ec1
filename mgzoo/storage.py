"""Atomic files and folders, fsync, digests, and disk errors. No torch.

Temporary names are random: process ids are not unique between containers with a shared folder.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mgzoo.spec import MgzooError

LEFTOVER = re.compile(r"\.(?P<name>.+)\.mgzoo-[0-9a-f]{16}(\.part|\.old)?")
LEFTOVER_SECONDS = 24 * 3600
"""Age of temporary files of killed processes (our choice: no save takes a day)."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://|\A\s*(https?|hf|s3|gs|file|ssh|git|ftp):/", re.IGNORECASE)  # a Path has one slash
_cleaned: set[Path] = set()


def cache_home() -> Path:
    """``$MGZOO_HOME``, default ``~/.cache/mgzoo``: pulled artifacts, and the cache of outputs below it."""
    return Path(os.environ.get("MGZOO_HOME") or Path.home() / ".cache" / "mgzoo")


def output_cache() -> Path:
    """``$MGZOO_HOME/cache``, or ``~/.cache/mgzoo``: outputs of frozen parts."""
    return cache_home() / "cache" if os.environ.get("MGZOO_HOME") else cache_home()


def refuse_address(path: str | Path, remedy: str = "give a local path") -> None:
    """Raise `MgzooError` for a URL in place of a path: a write would create a folder of that name."""
    if found := _ADDRESS.search(os.fspath(path)):
        raise MgzooError(f"'{found[1] or found[2]}://…' is an address, not a path", remedy=remedy)  # what follows may hold a password


def digest_file(path: str | Path) -> str:
    """blake3 hex digest of a file's content."""
    from blake3 import blake3

    hasher, block = blake3(), memoryview(bytearray(1 << 20))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(block):
            hasher.update(block[:size])
    return hasher.hexdigest()


def aside_name(path: Path, suffix: str = "") -> Path:
    """A unique temporary name in the folder of ``path``, known to `clean_leftovers`."""
    name = os.fsdecode(os.fsencode(path.name)[:180])  # file systems end names at 255 bytes
    return path.with_name(f".{name}.mgzoo-{secrets.token_hex(8)}{suffix}")


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Context manager: a temporary file that replaces ``path`` on success.

    durable: fsync before. Links are followed; special files (``/dev/null``) are written directly, never replaced.
    An OSError has the filename ``path``. Raises MgzooError for a URL.
    """
    refuse_address(path)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.resolve()
        if target.exists() and not target.is_file():
            yield target
            return
        _clean_once(target.parent)
        aside = aside_name(target, ".part")
        try:
            yield aside
            if durable:
                fsync(aside)
            os.replace(aside, target)
            if durable:
                fsync(target.parent)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        if error.filename is None or LEFTOVER.fullmatch(Path(os.fsdecode(error.filename)).name):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def atomic_write(path: str | Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file atomically; text as UTF-8."""
    with atomic_path(path, durable=durable) as aside:
        aside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Context manager: a new hidden folder next to ``target``; removed at the end unless renamed. Raises
    MgzooError for a URL."""
    refuse_address(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clean_once(target.parent)
    aside = aside_name(target)
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def replace_folder(aside: Path, target: Path) -> None:
    """Rename a finished folder to ``target``; an existing folder is replaced, and restored on failure."""
    old = aside_name(target, ".old")
    try:
        if target.exists():
            os.rename(target, old)
        os.rename(aside, target)
        fsync(target.parent)
    except BaseException:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def fsync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes) -> None:
    """Write one file durably, in place: for unpublished folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def copy_files(source: Path, dest: Path, names: Iterable[str]) -> None:
    """Copy the named regular files (symbolic links are followed: a hub's cache is made of them) durably."""
    for name in names:
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        with open(source / name, "rb") as read, open(dest / name, "wb") as write:
            shutil.copyfileobj(read, write, 1 << 22)
            write.flush()
            os.fsync(write.fileno())


def clean_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes in ``folder`` older than a day; a replaced folder without a successor stays."""
    for path in folder.iterdir():
        found = LEFTOVER.fullmatch(path.name)
        if not found or (path.name.endswith(".old") and not path.with_name(found["name"]).exists()):
            continue
        try:
            newest = max(one.lstat().st_mtime for one in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())))
            if time.time() - newest < LEFTOVER_SECONDS:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except OSError:  # another process's, or being cleaned by one
            continue


def _clean_once(folder: Path) -> None:
    """`clean_leftovers`, once per folder and process."""
    if folder not in _cleaned:
        _cleaned.add(folder)
        try:
            clean_leftovers(folder)
        except OSError:  # a folder that may be written but not listed
            pass


def disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full; torch's and safetensors' writers raise no OSError for it."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return any(word in str(error) for word in ("PytorchStreamWriter", "No space left", "inline_container"))


def is_vanished(error: BaseException) -> bool:
    """Whether an error means that another process removed the folder during a write."""
    return isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ESTALE) or "No such file" in str(error)


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Context manager: turn a full or unwritable disk into a `MgzooError` with the current action."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            remedy = "free some space and try again; nothing was changed"
            raise MgzooError(f"disk full while {doing}", remedy=remedy) from error
        if error.errno in NO_RIGHT:
            remedy = "choose a writable folder"
            raise MgzooError(f"{error.filename or 'the folder'} is not writable while {doing}", remedy=remedy) from error
        raise
