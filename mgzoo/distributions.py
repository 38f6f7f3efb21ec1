"""Installed distributions: entry points, versions and sources. No torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mgzoo.spec import MgzooError, one_line

GROUP = "mgzoo"
DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
VERSION = re.compile(r"[A-Za-z0-9.+!_-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class EntryPoint:
    """One line of a distribution's ``[mgzoo]`` section: ``namespace = module``."""

    namespace: str
    module: str
    distribution: str
    version: str


def entry_points(path: list[str]) -> Iterator[EntryPoint]:
    """Entry points of our group on a search path. Of a distribution found twice the first counts, as for imports.

    Our own reading of the metadata folders: `importlib.metadata` would cost more than everything else in `mgzoo list`.
    """
    seen = set()
    for folder in path:
        try:
            names = sorted(entry for entry in os.listdir(folder or ".") if entry.endswith((".dist-info", ".egg-info")))
        except OSError:
            continue
        for name in names:
            key = re.sub(r"[-_.]+", "-", name.rsplit(".", 1)[0].partition("-")[0]).lower()
            if key in seen:
                continue
            seen.add(key)
            text = _read(os.path.join(folder, name, "entry_points.txt"))
            lines = _section(text, GROUP) if f"[{GROUP}]" in text else []
            if lines:
                metadata = _read(os.path.join(folder, name, "METADATA")) or _read(os.path.join(folder, name, "PKG-INFO"))
                header = dict(line.split(": ", 1) for line in metadata.split("\n\n", 1)[0].splitlines() if ": " in line)
                for line in lines:
                    namespace, _, module = (one_line(side) for side in line.partition("="))
                    yield EntryPoint(namespace=namespace, module=module, distribution=one_line(header.get("Name", key)), version=one_line(header.get("Version", "?")))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _section(text: str, wanted: str) -> list[str]:
    lines, inside = [], False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{wanted}]"
        elif inside and line and not line.startswith(("#", ";")):
            lines.append(line)
    return lines


def data_folder(name: str) -> Path:
    """``recipes`` or ``registry``: in the source tree for an editable install, else inside the installed package."""
    package = Path(__file__).parent
    tree = package.parent / name
    return tree if (package.parent / "pyproject.toml").exists() and tree.is_dir() else package / name


def known_distributions() -> dict[str, str]:
    """Namespace -> pip distribution, of plugins that are known whether or not they are installed.

    Our own `registry/plugins.json` counts, then that of a folder hub ./registry, which can only add to it.
    """
    return {**_listed(Path("registry")), **_listed(data_folder("registry"))}


def listed_owner(namespace: str) -> str | None:
    """The distribution that our own `registry/plugins.json` lists for a namespace."""
    return _listed(data_folder("registry")).get(namespace)


def same_distribution(one: str, other: str) -> bool:
    """Whether two names are those of one distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()


def pip_line(namespace: str, versions: Mapping[str, str] | None = None) -> str | None:
    """The command that installs a known plugin, and where it comes from if not from us; None for a plugin that nobody lists.

    versions: distribution -> version that is wanted, as a manifest, a lock or a generated file records it.
    """
    if name := _listed(data_folder("registry")).get(namespace):
        return f"pip install {pinned(name, (versions or {}).get(name, ''))}"
    name = _listed(Path("registry")).get(namespace)
    return f"pip install {pinned(name, (versions or {}).get(name, ''))} (according to ./registry/plugins.json; check that you trust it)" if name else None


def pinned(distribution: str, version: str) -> str:
    """``mgzoo-acme==1.2``; without the version if it is not a valid version for pip."""
    return f"{distribution}=={version}" if VERSION.fullmatch(version) and version != "?" else distribution


def _listed(registry: Path) -> dict[str, str]:
    """What a registry's plugins.json says; only names that pip could take for nothing but a distribution."""
    path = registry / "plugins.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise MgzooError(f"{path} cannot be read: {error}", remedy="write a JSON object of namespace: distribution") from None
    known = said.items() if isinstance(said, dict) else ()
    return {namespace: name for namespace, name in known if isinstance(name, str) and DISTRIBUTION.fullmatch(name)}


def distribution_source(distribution: str) -> str:
    """Where an installed distribution came from (PEP 610), "" where it is not installed: ``index``, ``local folder``,
    ``local folder, editable``, ``git+https://host/repo@COMMIT``, or an archive's address and hash."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import distribution as installed

    try:
        text = installed(distribution).read_text("direct_url.json")
    except (PackageNotFoundError, ValueError):
        return ""
    return "index" if text is None else _source_of(text)


def _source_of(text: str) -> str:
    try:
        said = json.loads(text)
        parts = urlsplit(said["url"])
        public = parts.scheme in ("http", "https", "ssh", "git")
        address = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        if "vcs_info" in said:
            vcs, commit = said["vcs_info"]["vcs"], said["vcs_info"]["commit_id"]
            return f"{vcs}+{address}@{commit}" if public else f"local {vcs} repository@{commit}"
        if "dir_info" in said:
            return "local folder, editable" if said["dir_info"].get("editable") else "local folder"
        hashes = said["archive_info"].get("hashes") or {}
        named = "".join(f"#{name}={value}" for name, value in sorted(hashes.items())[:1])
        return (address if public else "local archive") + named
    except (ValueError, KeyError, TypeError, AttributeError):
        return "unknown"
