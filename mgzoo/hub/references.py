"""Artifact references and their parsing. No torch, no network.

    runs/first, ./some/folder          a folder of an artifact or a run
    registry/NAME[@tag]                the folder hub ./registry, or the one of the mgzoo installation
    PATH/NAME[@tag]                    any other folder hub; PATH exists, starts with . / ~, or has a slash of its own
    org/name[@revision]                an endpoint with the Hugging Face protocol
    hf://org/name, https://HUB/…       the same, as a URL (`mgzoo.hub.addresses`); never a folder
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mgzoo.artifact.manifest import MANIFEST_NAME
from mgzoo.discovery import say_once
from mgzoo.distributions import data_folder
from mgzoo.hub import addresses
from mgzoo.hub.addresses import FORMS, NAME, REVISION, shown
from mgzoo.hub.folder_hub import REFS_NAME, commit_of_revision
from mgzoo.spec import MgzooError


@dataclass(frozen=True, kw_only=True)
class ArtifactRef:
    """A parsed reference: exactly one of an artifact's ``folder``, a folder ``hub`` + ``name``, or an endpoint's ``repo``.

    revision: tag, branch or commit, None: the newest. repo: ``org/name``, or ``registry/NAME`` for the shared folder
    hub; None for local hubs and folders, so that no artifact refers to them.
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
        """Whether ``org/name`` is parsed as a folder hub because of a local folder ``org``."""
        return self.hub is not None and self.repo is None and self.text[0] not in "./~" and self.base.count("/") == 1

    @property
    def base(self) -> str:
        """The reference without its revision."""
        return self.text.removesuffix(f"@{self.revision}")


def parse_reference(ref: str | Path) -> ArtifactRef:
    """Parse a reference. Raises `MgzooError` for invalid ones."""
    text = os.fspath(ref)
    if is_url(text):
        return _parse_name(text)
    here = artifact_folder(text) if text else None
    if here is not None:
        return ArtifactRef(text=text, folder=here)
    if isinstance(ref, Path):
        raise MgzooError(f"{text} is not an artifact: it has no {MANIFEST_NAME}", remedy="give the folder of a saved model")
    return _parse_name(text)


def is_url(ref: str | Path) -> bool:
    """Whether a reference has a URL scheme and is therefore never a path."""
    return "://" in os.fspath(ref)


def _parse_name(text: str) -> ArtifactRef:
    if (address := addresses.read(text)) is not None:
        return ArtifactRef(text=str(address), name=address.repo.partition("/")[2], revision=address.revision, repo=address.repo)
    whole = text.rstrip("/") if text.strip("./~") else text
    head, at, revision = _split_revision(whole)
    first, slash, _ = head.partition("/")
    name = head.rpartition("/")[2]
    if not slash or not NAME.fullmatch(name) or (at and not REVISION.fullmatch(revision)) or ".." in name + revision:
        raise MgzooError(f"{shown(text)!r} is not an artifact reference", remedy=FORMS)
    if first == "registry" and head.count("/") == 1:
        return ArtifactRef(text=whole, hub=registry_folder(name, revision or None), name=name, revision=revision or None, repo=head)
    if head[0] in "./~" or head.count("/") > 1 or Path(first).is_dir():
        return ArtifactRef(text=whole, hub=expand_home(head).parent, name=name, revision=revision or None)
    if not NAME.fullmatch(first):
        raise MgzooError(f"{shown(text)!r} is not an artifact reference", remedy="org/name holds letters, digits, '.', '_' and '-'")
    return ArtifactRef(text=whole, name=name, revision=revision or None, repo=head)


def _split_revision(text: str) -> tuple[str, str, str]:
    """(what stands before the ``@`` of a revision, ``@``, the revision): a path's folders may have one in their names, and the
    revision of a network hub's may have slashes."""
    last = text.rpartition("@")
    folder = "/" in last[2] and expand_home(text).parent.is_dir()
    return (text, "", "") if "@" not in text or folder else last


def expand_home(text: str) -> Path:
    """Expand ``~`` in a path. Raises `MgzooError` for an unknown user."""
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:  # nobody of that name; a NUL
        raise MgzooError(f"{text!r} is not a folder: {error}", remedy="write the full path; './~…' for a folder name with a leading ~") from None


def parse_target(ref: str) -> ArtifactRef:
    """Parse the target of a push: ``registry/NAME[@tag]``, ``PATH/NAME[@tag]`` or ``org/name[@tag]``."""
    address = addresses.read(os.fspath(ref))
    if address is not None and address.file:
        raise MgzooError(f"{shown(ref)!r} is a file of {address.repo}", remedy=f"push to the model: {address}")
    return _parse_name(os.fspath(ref))


def artifact_folder(path: str | Path) -> Path | None:
    """The artifact of a folder: the folder itself, or ``artifact`` inside a run's folder; or None."""
    path = expand_home(os.fspath(path))
    for folder in (path, path / "artifact"):
        if (folder / MANIFEST_NAME).is_file():
            return folder
    return None


def registry_folder(name: str = "", revision: str | None = None) -> Path:
    """The shared folder hub: ./registry, else that of the mgzoo installation; the first with ``name`` and the revision, else the first
    with ``name``. One warning if the other has a different model of this name."""
    candidates = [path for path in (Path("registry"), data_folder("registry")) if path.is_dir()]
    holding = [path for path in candidates if name and (path / name / REFS_NAME).is_file()]
    commits = {path: commit_of_revision(path, name, revision) for path in holding} if len(holding) > 1 else {}
    having = [path for path in holding if commits.get(path)] or holding or candidates
    if len({commits[path] for path in having if path in commits}) > 1:
        say_once(f"registry/{name} is {having[0].absolute() / name}, not the different model {having[1] / name}")
    return having[0] if having else Path("registry")
