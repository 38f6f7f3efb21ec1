"""Named tensors <-> safetensors files, in shards above a size. Whatever is written is opened again and compared."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mgzoo.hub import folder as folders
from mgzoo.hub import headers as file_headers
from mgzoo.spec import MgzooError

SHARD_BYTES = 2_000_000_000


def write(tensors: Mapping[str, Tensor], folder: Path, *, shard_bytes: int = SHARD_BYTES) -> list[str]:
    """Write ``model.safetensors`` (or shards and their index) into ``folder`` and return the weight files' names.

    Every tensor must be finite, and is compared bit for bit with what is read back. Raises `MgzooError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_finite(tensors, folder)
    shards = _shards(tensors, shard_bytes)
    count = len(shards)
    names = ["model.safetensors"] if count == 1 else [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    for name, keys in zip(names, shards, strict=True):
        write_one({key: tensors[key] for key in keys}, folder / name)
    if count > 1:
        size = sum(tensor.nbytes for tensor in tensors.values())
        weight_map = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
        text = json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}, indent=1, sort_keys=True) + "\n"
        folders.write_file(folder / "model.safetensors.index.json", text.encode())
    return names


def check_finite(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Raise `MgzooError` that names the first of a part's tensors that holds a value that is not finite."""
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise MgzooError(
                f"{folder.name}: {name} holds values that are not finite",
                remedy="go back to a checkpoint before the loss became NaN or infinite",
            )


def write_one(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write one file durably, then compare every tensor in it with what it should hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A tensor of its own storage each: safetensors refuses to write memory that two names share.
    whole = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    try:
        save_file(whole, str(path), metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:
        raise MgzooError(f"{path} could not be written: {error}", remedy="check the disk's free space and repeat") from None
    os.chmod(path, 0o644)  # safetensors writes a private temporary file and renames it
    folders.sync(path)
    back = read([path])
    for key, tensor in whole.items():
        if key not in back or back[key].dtype != tensor.dtype or not torch.equal(back[key], tensor):
            raise MgzooError(f"{path}: {key} does not read back as it was written", remedy="the disk is faulty; use another")


def read(paths: Iterable[Path], *, finite: bool = True) -> dict[str, Tensor]:
    """All tensors of some files, on the CPU. Raises `MgzooError` that names a file that cannot be read, or, with ``finite``,
    one that holds NaN or infinity."""
    tensors: dict[str, Tensor] = {}
    for path in paths:
        with _opened(path) as file:
            _new_names(path, file.keys(), tensors)
            tensors |= {key: file.get_tensor(key) for key in file.keys()}
            if finite and (wrong := [key for key in file.keys() if not is_finite(tensors[key])]):
                raise MgzooError(f"{path}: {wrong[0]} holds values that are not finite", remedy="go back to an earlier commit")
    return tensors


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite; what is not of floating point always is."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    # The extremes carry a NaN along, and are found thirty times faster than by asking every value.
    wide = tensor if tensor.element_size() > 1 else tensor.float()
    return all(bool(torch.isfinite(one)) for one in torch.aminmax(wide))


def metadata(path: Path) -> dict[str, str]:
    """The text that stands beside the tensors of a file."""
    with _opened(path) as file:
        return file.metadata() or {}


def headers(paths: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of some files, reading their headers only."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        with _opened(path) as file:
            _new_names(path, file.keys(), shapes)
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    return shapes


def _new_names(path: Path, names: Iterable[str], known: Mapping) -> None:
    for key in names:
        if key in known:
            raise MgzooError(f"{path}: {key} is also in another shard", remedy="pull the artifact again")


def _opened(path: Path):
    file_headers.read(path)
    try:
        return safe_open(str(path), framework="pt")
    except FileNotFoundError:
        raise MgzooError(f"{path} is missing", remedy="pull or save the artifact again") from None
    except SafetensorError as error:
        raise MgzooError(f"{path} is damaged: {error}", remedy="pull or save the artifact again") from None


def _shards(tensors: Mapping[str, Tensor], limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards
