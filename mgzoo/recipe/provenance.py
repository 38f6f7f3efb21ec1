"""Provenance of a model's parts: distribution, version and source of the code, commit and digest of the weights. No torch.

It contains no local paths, user names or passwords, since it is embedded in files and published.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgzoo import storage
from mgzoo.artifact.manifest import COMMIT_LENGTH, MANIFEST_NAME, WeightsReference, read_manifest
from mgzoo.discovery import discover
from mgzoo.distributions import distribution_source, known_distributions
from mgzoo.hub.lookup import lineage
from mgzoo.hub.references import parse_reference
from mgzoo.recipe.compose import read_layers
from mgzoo.recipe.lock import read_lock
from mgzoo.spec import MgzooError

KEYS = ("use", "distribution", "version", "source", "trained", "adapter", "repo", "commit", "digest", "from")
"""What is known of a part. use: component id. distribution, version, source: of the plugin that supplied it. trained: here.
adapter: whether an adapter is all that was trained. repo, commit, digest: of the artifact that holds its weights (digest: blake3
of its mgzoo.json; repo None: the artifact itself). from: what the weights came from, nearest first, each with repo, commit, part
and digest. None, or "", where it is not known."""


def artifact_provenance(folder: str | Path, *, deep: bool = True) -> dict[str, dict[str, Any]]:
    """Part name -> `KEYS`, of an artifact, as its mgzoo.json has it. deep: the lineage as far as artifacts on this machine tell,
    and not only what this one does."""
    folder = Path(folder)
    manifest, digest = read_manifest(folder), storage.digest_file(folder / MANIFEST_NAME)
    required = {one.distribution: one for one in manifest.requires}
    found = {}
    for name, entry in manifest.parts.items():
        distribution = _distribution(entry.use)
        made = required.get(distribution)
        here = {"repo": None, "commit": digest[: COMMIT_LENGTH], "digest": digest}
        held = entry.weights if isinstance(entry.weights, WeightsReference) else None
        away = {"repo": held.repo, "commit": held.commit, "digest": held.digest} if held else dict.fromkeys(here)
        found[name] = {
            "use": entry.use,
            **_code(distribution, made.version if made else "", made.source if made else ""),
            "trained": entry.trained,
            "adapter": entry.is_adapter,
            **(away if held or not entry.weights else here),
            "from": [dataclasses.asdict(one) for one in lineage(entry)[: None if deep else 1]],
        }
    return found


def run_provenance(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The same of a run that has written no artifact yet, from its recipe and its lock; {} where it has none."""
    folder = Path(folder)
    try:
        locked = read_lock(folder / "recipe.lock.json")
        parts = read_layers(folder / "recipe.yaml", []).plain()["parts"]
    except (MgzooError, KeyError):
        return {}
    found = {}
    for name, part in _parts(parts).items():
        pin = locked["weights"].get(part.get("weights")) or {}
        try:
            repo = parse_reference(part["weights"]).repo if part.get("weights") else None
        except MgzooError:
            repo = None
        start = [{"repo": repo, "commit": pin["commit"], "part": name, "digest": pin["digest"]}] if pin else []
        found[name] = {**_unknown(part["use"], locked["plugins"]), "adapter": part.get("adapter") is not None, "from": start}
    return found


def file_provenance(embedded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
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
    here = f"here: {distribution_source(distribution)}" if provider is not None and provider.version == version else ""
    return {"distribution": distribution, "version": version, "source": recorded or here}
