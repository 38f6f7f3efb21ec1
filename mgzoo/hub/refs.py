"""What a person may write to name an artifact, and where it lies. Never imports torch; opens no socket unless it must pull.

    runs/first, ./some/folder          a folder that holds an artifact, or a run's folder
    registry/NAME[@tag]                the folder hub ./registry, or the one beside mgzoo
    PATH/NAME[@tag]                    any other folder hub; PATH exists, starts with . / ~, or has a slash of its own
    org/name[@revision]                an endpoint that speaks the Hugging Face protocol
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from mgzoo.discovery import data_folder
from mgzoo.hub import folder as folders
from mgzoo.hub import manifest as manifests
from mgzoo.spec import MgzooError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,95}")


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


_licenses: ContextVar[tuple[str, ...]] = ContextVar("licenses", default=())


@contextmanager
def licensed(licenses: Sequence[str]) -> Iterator[None]:
    """Within it, every artifact that a reference leads to, bases included, must be under one of ``licenses`` (empty: any); of
    another nothing but its mgzoo.json is fetched."""
    token = _licenses.set(tuple(licenses))
    try:
        yield
    finally:
        _licenses.reset(token)


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A parsed reference: exactly one of an artifact's ``folder``, a folder ``hub`` + ``name``, or an endpoint's ``repo``.

    revision: tag, branch or commit, None for the newest. repo: ``org/name``, or ``registry/NAME`` for the shared folder
    hub; None for hubs and folders that only this machine knows, so that no artifact ever points to one.
    """

    text: str
    folder: Path | None = None
    hub: Path | None = None
    name: str = ""
    revision: str | None = None
    repo: str | None = None

    @property
    def is_endpoint(self) -> bool:
        """Whether it is on a network hub."""
        return self.folder is None and self.hub is None


def parse(ref: str | Path) -> Ref:
    """Read a reference. Raises `MgzooError` for one that cannot be any of the forms."""
    text = os.fspath(ref)
    here = artifact_folder(text)
    if here is not None:
        return Ref(text=text, folder=here)
    if isinstance(ref, Path):
        raise MgzooError(f"{text} is not an artifact: it has no {manifests.NAME}", remedy="name a folder that mgzoo saved")
    return _parse_named(text)


def _parse_named(text: str) -> Ref:
    head, at, revision = text.rpartition("@") if "@" in text else (text, "", "")
    first, slash, _ = head.partition("/")
    name = head.rpartition("/")[2]
    if not slash or not NAME.fullmatch(name) or (at and not REVISION.fullmatch(revision)) or ".." in name + revision:
        raise MgzooError(
            f"{text!r} names no artifact", remedy="use a folder, registry/NAME[@tag], PATH/NAME[@tag] or org/name[@revision]"
        )
    if first == "registry" and head.count("/") == 1:
        return Ref(text=text, hub=registry(name), name=name, revision=revision or None, repo=head)
    path = Path(head).expanduser()
    if head[0] in "./~" or head.count("/") > 1 or Path(first).is_dir():
        return Ref(text=text, hub=path.parent, name=name, revision=revision or None)
    if not NAME.fullmatch(first):
        raise MgzooError(f"{text!r} names no artifact", remedy="org/name holds letters, digits, '.', '_' and '-'")
    return Ref(text=text, name=name, revision=revision or None, repo=head)


def parse_target(ref: str) -> Ref:
    """Read where to push: ``registry/NAME[@tag]``, ``PATH/NAME[@tag]`` or ``org/name[@tag]``."""
    return _parse_named(ref)


def artifact_folder(path: str | Path) -> Path | None:
    """The artifact in a folder: the folder itself, or its ``artifact`` when it is a run's; None where there is none."""
    path = Path(path).expanduser()
    for folder in (path, path / "artifact"):
        if (folder / manifests.NAME).is_file():
            return folder
    return None


def registry(name: str = "") -> Path:
    """The shared folder hub: ./registry, else the one beside the installed core; the first that has ``name`` wins."""
    candidates = [path for path in (Path("registry"), data_folder("registry")) if path.is_dir()]
    for path in candidates:
        if name and (path / name / folders.REFS).is_file():
            return path
    return candidates[0] if candidates else Path("registry")


def local(ref: str | Path) -> Path | None:
    """The artifact's folder if it is on this machine, complete, without opening a socket; else None."""
    try:
        parsed = parse(ref)
    except MgzooError:
        return None
    if parsed.folder is not None:
        return parsed.folder
    if parsed.hub is not None:
        try:
            return folders.find(parsed.hub, parsed.name, parsed.revision)
        except MgzooError:
            return None
    from mgzoo.hub import endpoint

    return endpoint.cached(parsed.repo, parsed.revision)


def resolve(ref: str | Path, *, offline: bool = False) -> Path:
    """The artifact's folder, pulled first where it is on an endpoint and not here yet.

    Raises `MgzooError` that says what is missing; with ``offline`` nothing is fetched. See `licensed`.
    """
    folder = _resolved(ref, offline)
    if licenses := _licenses.get():
        from mgzoo.hub import checking

        checking.refuse(checking.check_license(manifests.read(folder), licenses, f"{ref}/{manifests.NAME}"))
    return folder


def _resolved(ref: str | Path, offline: bool) -> Path:
    parsed = parse(ref)
    if parsed.folder is not None:
        return parsed.folder
    if parsed.hub is not None:
        return folders.find(parsed.hub, parsed.name, parsed.revision)
    from mgzoo.hub import endpoint

    here, lacks = endpoint.find(parsed.repo, parsed.revision)
    offline = offline or _without_network.get() or endpoint.is_offline()
    if not lacks and (offline or endpoint.is_commit(parsed.revision)):
        return here
    if offline:
        raise MgzooError(f"{parsed.text} {lacks}", remedy=f"go online and run: mgzoo pull {parsed.text}")
    from mgzoo.hub import transfer

    return transfer.pull(parsed.text, licenses=_licenses.get())
