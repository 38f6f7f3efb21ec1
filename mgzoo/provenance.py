"""Where a model's parts come from: distribution, version and source of the code, commit and digest of the weights. No torch.

Nothing here holds a path of this machine, a user name or a password: what it says is embedded in files and published.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mgzoo.discovery import discover, known_distributions
from mgzoo.hub import bases
from mgzoo.hub import manifest as manifests
from mgzoo.hub.manifest import Reference
from mgzoo.spec import MgzooError

KEYS = ("use", "distribution", "version", "source", "trained", "adapter", "repo", "commit", "digest", "from")
"""What is known of a part. use: component id. distribution, version, source: of the plugin that supplied it. trained: here.
adapter: whether an adapter is all that was trained. repo, commit, digest: of the artifact that holds its weights (digest: blake3
of its mgzoo.json; repo None: the artifact itself). from: what the weights came from, nearest first, each with repo, commit, part
and digest. None, or "", where it is not known."""


def source(distribution: str) -> str:
    """Where an installed distribution came from (PEP 610), "" where it is not installed: ``index``, ``local folder``,
    ``local folder, editable``, ``git+https://host/repo@COMMIT``, or an archive's address and hash."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import distribution as installed

    try:
        text = installed(distribution).read_text("direct_url.json")
    except (PackageNotFoundError, ValueError):
        return ""
    return "index" if text is None else _source(text)


def _source(text: str) -> str:
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


def of_artifact(folder: str | Path, *, deep: bool = True) -> dict[str, dict[str, Any]]:
    """Part name -> `KEYS`, of an artifact, as its mgzoo.json has it. deep: the lineage as far as artifacts on this machine tell,
    and not only what this one does."""
    folder = Path(folder)
    manifest, digest = manifests.read(folder), manifests.digest_file(folder / manifests.NAME)
    required = {one.distribution: one for one in manifest.requires}
    found = {}
    for name, entry in manifest.parts.items():
        distribution = _distribution(entry.use)
        made = required.get(distribution)
        here = {"repo": None, "commit": digest[: manifests.COMMIT_LENGTH], "digest": digest}
        held = entry.weights if isinstance(entry.weights, Reference) else None
        away = {"repo": held.repo, "commit": held.commit, "digest": held.digest} if held else dict.fromkeys(here)
        found[name] = {
            "use": entry.use,
            **_code(distribution, made.version if made else "", made.source if made else ""),
            "trained": entry.trained,
            "adapter": entry.is_adapter,
            **(away if held or not entry.weights else here),
            "from": [dataclasses.asdict(one) for one in bases.lineage(entry)[: None if deep else 1]],
        }
    return found


def of_run(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The same of a run that has written no artifact yet, from its recipe and its lock; {} where it has none."""
    from mgzoo import lock, recipe
    from mgzoo.hub import refs

    folder = Path(folder)
    try:
        locked = lock.read(folder / "recipe.lock.json")
        parts = recipe.read(folder / "recipe.yaml", []).plain()["parts"]
    except (MgzooError, KeyError):
        return {}
    found = {}
    for name, part in _parts(parts).items():
        pin = locked["weights"].get(part.get("weights")) or {}
        try:
            repo = refs.parse(part["weights"]).repo if part.get("weights") else None
        except MgzooError:
            repo = None
        start = [{"repo": repo, "commit": pin["commit"], "part": name, "digest": pin["digest"]}] if pin else []
        found[name] = {**_unknown(part["use"], locked["plugins"]), "adapter": part.get("adapter") is not None, "from": start}
    return found


def of_file(embedded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The same of what is embedded in a generated file; of one that tells no more than its recipe, the component ids."""
    rows, recipe = embedded.get("parts"), embedded.get("recipe")
    if isinstance(rows, dict):
        return {name: {key: row.get(key) for key in KEYS} | {"from": _starts(row)} for name, row in rows.items() if isinstance(row, dict)}
    parts, plugins = recipe.get("parts") if isinstance(recipe, dict) else None, embedded.get("plugins")
    plugins = plugins if isinstance(plugins, dict) else {}
    return {name: _unknown(part["use"], plugins) for name, part in _parts(parts).items()} if isinstance(parts, dict) else {}


def _starts(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    starts = row.get("from") if isinstance(row.get("from"), list) else []
    return [{key: one.get(key) for key in ("repo", "commit", "part", "digest")} for one in starts if isinstance(one, dict)]


def _parts(tree: Mapping[str, Any]) -> dict[str, dict]:
    """The parts of a recipe's tree by their names, encoders among them."""
    encoders = tree.get("encoders")
    named = {f"encoders.{name}": part for name, part in encoders.items()} if isinstance(encoders, dict) else {}
    named |= {role: part for role, part in tree.items() if role != "encoders"}
    return {name: part for name, part in named.items() if isinstance(part, dict) and isinstance(part.get("use"), str)}


def _unknown(use: str, plugins: Mapping[str, str]) -> dict[str, Any]:
    distribution = _distribution(use)
    return {**dict.fromkeys(KEYS), "use": use, **_code(distribution, plugins.get(distribution, "")), "from": []}


def _distribution(use: str) -> str:
    """The distribution that declares a component, installed or known; "" for a stranger's that is not here."""
    namespace = use.split(".", 1)[0]
    provider = discover().providers.get(namespace)
    return provider.distribution if provider else known_distributions().get(namespace, "")


def _code(distribution: str, version: str, recorded: str = "") -> dict[str, str]:
    """What was recorded of a distribution; where its source was not, what this machine has, said to be so, if it is of that version."""
    provider = next((one for one in discover().providers.values() if one.distribution == distribution), None)
    here = f"here: {source(distribution)}" if provider is not None and provider.version == version else ""
    return {"distribution": distribution, "version": version, "source": recorded or here}
