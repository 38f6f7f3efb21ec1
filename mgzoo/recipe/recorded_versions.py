"""The versions of plugins that a file beside a recipe records: the lock, or the manifest of the artifact that holds it. No torch."""

from __future__ import annotations

import json
from pathlib import Path

from mgzoo.artifact.manifest import MANIFEST_NAME
from mgzoo.distributions import DISTRIBUTION, VERSION

LONGEST = 1_000_000
"""Bytes of the longest file that is read (our choice; a manifest may have no more)."""


def recorded_versions(recipe: str | Path) -> dict[str, str]:
    """Distribution -> version, as ``NAME.lock.json`` or ``mgzoo.json`` beside the recipe's file has them; {} where neither can be read.

    Read only where a component is missing. Names and versions that pip could take for anything else are left out.
    """
    path, found = Path(recipe), {}
    manifest, lock = _content(path.parent / MANIFEST_NAME).get("requires"), _content(path.with_suffix(".lock.json")).get("plugins")
    for one in manifest if isinstance(manifest, list) else ():
        if isinstance(one, dict):
            found[one.get("distribution")] = one.get("version")
    found |= lock if isinstance(lock, dict) else {}
    return {name: version for name, version in found.items() if _fits(name, DISTRIBUTION) and _fits(version, VERSION)}


def _content(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes()) if path.is_file() and path.stat().st_size <= LONGEST else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _fits(value, pattern) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
