"""From an artifact to those that it refers to: where a part's weights lie, and what they came from. Never imports torch."""

from __future__ import annotations

from pathlib import Path

from mgzoo.hub import headers, refs
from mgzoo.hub import manifest as manifests
from mgzoo.hub.manifest import PartEntry, Reference
from mgzoo.spec import MgzooError


def holder(folder: Path, part: str) -> tuple[Path, PartEntry]:
    """The artifact on this machine that holds a part's plain weights: references, and adapters to their bases, are followed.

    Raises `MgzooError` where one is not here.
    """
    entry = manifests.entry_of(manifests.read(folder), part, str(folder))
    while reference := entry.needs:
        folder = refs.resolve(str(reference), offline=True)
        entry = manifests.entry_of(manifests.read(folder), reference.part, str(reference))
    return folder, entry


def shapes_of(folder: Path, part: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a part's plain weights, from headers alone."""
    folder, entry = holder(folder, part)
    entries = ((key, value) for name in entry.weights for key, value in headers.read(folder / name).items())
    return {key: tuple(value["shape"]) for key, value in entries if not key.endswith(headers.SCALE)}


def lineage(entry: PartEntry) -> list[Reference]:
    """What a part's weights came from, the nearest first: those they are kept in, those they were trained from, and so on, as far
    as artifacts on this machine tell. One that is another than was used tells nothing."""
    found: list[Reference] = []
    while reference := (entry.weights if isinstance(entry.weights, Reference) else entry.base):
        found.append(reference)
        try:
            folder = refs.local(str(reference))
            if folder is None or manifests.digest_file(folder / manifests.NAME) != reference.digest:
                break
            entry = manifests.entry_of(manifests.read(folder), reference.part, str(reference))
        except MgzooError:
            break
    return found
