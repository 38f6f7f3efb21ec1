"""The plain mean of several models' weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from mgzoo.spec import MgzooError


def average_checkpoints(folders: Sequence[str | Path]) -> dict[str, dict[str, Tensor]]:
    """Mean in float32 of several models' weights (as Movie Gen averages its fine-tuned models).

    folders: artifacts of one recipe, with their weights in ``<part>/*.safetensors``. Returns part name -> state, as
    ``mgzoo.model.save(state=)`` takes it. Raises MgzooError where names or shapes differ, or where there are no weights.
    """
    total: dict[str, dict[str, Tensor]] = {}
    for folder in map(Path, folders):
        here: dict[str, dict[str, Tensor]] = {}
        for file in sorted(folder.glob("*/*.safetensors")):
            if file.parent.name != "probe":
                here.setdefault(file.parent.name, {}).update(load_file(file))
        if not here:
            raise MgzooError("no weights to average", remedy="name artifact folders", origin=str(folder))
        if total and shapes(here) != shapes(total):
            name = sorted(shapes(here) ^ shapes(total))[0][0]
            raise MgzooError(f"{name} is not the same tensor in every model", remedy="average models of one recipe", origin=str(folder))
        for part, state in here.items():
            sums = total.setdefault(part, {})
            for key, value in state.items():
                sums[key] = sums[key] + value.float() if key in sums else value.float()
    return {part: {key: value / len(folders) for key, value in state.items()} for part, state in total.items()}


def shapes(parts: Mapping[str, Mapping[str, Tensor]]) -> set[tuple[str, tuple[int, ...]]]:
    """Every tensor's name and shape."""
    return {(f"{part}/{key}", tuple(value.shape)) for part, state in parts.items() for key, value in state.items()}
