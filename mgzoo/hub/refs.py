"""What a person may write to name an artifact, and where it lies. Never imports torch; opens no socket unless it must pull.

    runs/first, ./some/folder          a folder that holds an artifact, or a run's folder
    registry/NAME[@tag]                the folder hub ./registry, or the one beside mgzoo
    PATH/NAME[@tag]                    any other folder hub; PATH exists, starts with . / ~, or has a slash of its own
    org/name[@revision]                an endpoint that speaks the Hugging Face protocol
    hf://org/name, https://HUB/…       the same, as an address (`mgzoo.hub.addresses`); never a folder, nor made into one
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from mgzoo.discovery import data_folder, say_once
from mgzoo.hub import addresses
from mgzoo.hub import folder as folders
from mgzoo.hub import manifest as manifests
from mgzoo.hub.addresses import FORMS, NAME, REVISION, shown
from mgzoo.spec import MgzooError

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

    @property
    def is_ambiguous(self) -> bool:
        """Whether ``org/name`` is read as a folder hub because a folder ``org`` is here."""
        return self.hub is not None and self.repo is None and self.text[0] not in "./~" and self.base.count("/") == 1

    @property
    def base(self) -> str:
        """How it is called without its revision."""
        return self.text.removesuffix(f"@{self.revision}")


def parse(ref: str | Path) -> Ref:
    """Read a reference. Raises `MgzooError` for one that cannot be any of the forms."""
    text = os.fspath(ref)
    if is_url(text):
        return _parse_named(text)
    here = artifact_folder(text) if text else None
    if here is not None:
        return Ref(text=text, folder=here)
    if isinstance(ref, Path):
        raise MgzooError(f"{text} is not an artifact: it has no {manifests.NAME}", remedy="name a folder that mgzoo saved")
    return _parse_named(text)


def is_url(ref: str | Path) -> bool:
    """Whether a reference has a scheme, and so is no path even where a folder has that name."""
    return "://" in os.fspath(ref)


def _parse_named(text: str) -> Ref:
    if (address := addresses.read(text)) is not None:
        return Ref(text=str(address), name=address.repo.partition("/")[2], revision=address.revision, repo=address.repo)
    whole = text.rstrip("/") if text.strip("./~") else text
    head, at, revision = _cut(whole)
    first, slash, _ = head.partition("/")
    name = head.rpartition("/")[2]
    if not slash or not NAME.fullmatch(name) or (at and not REVISION.fullmatch(revision)) or ".." in name + revision:
        raise MgzooError(f"{shown(text)!r} names no artifact", remedy=FORMS)
    if first == "registry" and head.count("/") == 1:
        return Ref(text=whole, hub=registry(name, revision or None), name=name, revision=revision or None, repo=head)
    if head[0] in "./~" or head.count("/") > 1 or Path(first).is_dir():
        return Ref(text=whole, hub=expanded(head).parent, name=name, revision=revision or None)
    if not NAME.fullmatch(first):
        raise MgzooError(f"{shown(text)!r} names no artifact", remedy="org/name holds letters, digits, '.', '_' and '-'")
    return Ref(text=whole, name=name, revision=revision or None, repo=head)


def _cut(text: str) -> tuple[str, str, str]:
    """(what stands before the ``@`` of a revision, ``@``, the revision): a path's folders may have one in their names, and the
    revision of a network hub's may have slashes."""
    last = text.rpartition("@")
    folder = "/" in last[2] and expanded(text).parent.is_dir()
    return (text, "", "") if "@" not in text or folder else last


def expanded(text: str) -> Path:
    """A path with the home folder in place of ``~``. Raises `MgzooError` where nobody has it."""
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:  # nobody of that name; a NUL
        raise MgzooError(f"{text!r} names no folder: {error}", remedy="write the path itself; './~…' for a folder whose name begins with ~") from None


def parse_target(ref: str) -> Ref:
    """Read where to push: ``registry/NAME[@tag]``, ``PATH/NAME[@tag]`` or ``org/name[@tag]``."""
    address = addresses.read(os.fspath(ref))
    if address is not None and address.file:
        raise MgzooError(f"{shown(ref)!r} is a file of {address.repo}", remedy=f"push to the model: {address}")
    return _parse_named(os.fspath(ref))


def artifact_folder(path: str | Path) -> Path | None:
    """The artifact in a folder: the folder itself, or its ``artifact`` when it is a run's; None where there is none."""
    path = expanded(os.fspath(path))
    for folder in (path, path / "artifact"):
        if (folder / manifests.NAME).is_file():
            return folder
    return None


def registry(name: str = "", revision: str | None = None) -> Path:
    """The shared folder hub: ./registry, else the one beside the installed core; the first that has ``name`` wins, and before it one that
    has the revision too. Where the other's is another model, that is said once."""
    candidates = [path for path in (Path("registry"), data_folder("registry")) if path.is_dir()]
    holding = [path for path in candidates if name and (path / name / folders.REFS).is_file()]
    commits = {path: folders.commit_of(path, name, revision) for path in holding} if len(holding) > 1 else {}
    having = [path for path in holding if commits.get(path)] or holding or candidates
    if len({commits[path] for path in having if path in commits}) > 1:
        say_once(f"registry/{name} is {having[0].absolute() / name}, not {having[1] / name}, which holds another model")
    return having[0] if having else Path("registry")


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


def find(parsed: Ref) -> Path:
    """The commit of a folder hub. Where the hub is a folder only because one of that name is here, an error says so."""
    try:
        return folders.find(parsed.hub, parsed.name, parsed.revision)
    except MgzooError as error:
        if not parsed.is_ambiguous:
            raise
        remedy = f"{error.remedy}; {parsed.hub} is a folder here: hf://{parsed.text} is the model on the network hub"
        raise MgzooError(error.what, remedy=remedy, origin=error.origin) from None


def _resolved(ref: str | Path, offline: bool) -> Path:
    parsed = parse(ref)
    if parsed.folder is not None:
        return parsed.folder
    if parsed.hub is not None:
        return find(parsed)
    from mgzoo.hub import endpoint

    here, lacks = endpoint.find(parsed.repo, parsed.revision)
    offline = offline or _without_network.get() or endpoint.is_offline()
    if not lacks and (offline or endpoint.is_commit(parsed.revision)):
        return here
    if offline:
        raise MgzooError(f"{parsed.text} {lacks}", remedy=f"go online and run: mgzoo pull {parsed.text}")
    from mgzoo.hub import transfer

    return transfer.pull(parsed.text, licenses=_licenses.get())
