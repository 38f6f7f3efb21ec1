"""Named tensors <-> safetensors files, sharded above a size. Written files are read back and compared."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from blake3 import blake3
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mgzoo import storage
from mgzoo.artifact.manifest import Manifest
from mgzoo.artifact.safetensors_header import SCALE_SUFFIX, file_errors, parse_header, read_header
from mgzoo.artifact.strict_json import problem
from mgzoo.spec import MgzooError, Problem

SHARD_BYTES = 2_000_000_000
DTYPES = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
           "U16": torch.uint16, "I16": torch.int16, "F16": torch.float16, "BF16": torch.bfloat16, "U32": torch.uint32, "I32": torch.int32,
           "F32": torch.float32, "U64": torch.uint64, "I64": torch.int64, "F64": torch.float64, "C64": torch.complex64}  # fmt: skip
"""The format's word for a type -> the type; `mgzoo.artifact.safetensors_header.DTYPE_BYTES` has their sizes."""


def write_shards(tensors: Mapping[str, Tensor], folder: Path, *, shard_bytes: int = SHARD_BYTES) -> list[str]:
    """Write ``model.safetensors`` (or shards and their index) into ``folder`` and return the weight files' names.

    Every tensor must be finite, and is compared bit for bit with what is read back. Raises `MgzooError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    require_finite(tensors, folder)
    shards = _shards(tensors, shard_bytes)
    count = len(shards)
    names = ["model.safetensors"] if count == 1 else [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    for name, keys in zip(names, shards, strict=True):
        write_tensor_file({key: tensors[key] for key in keys}, folder / name)
    if count > 1:
        size = sum(tensor.nbytes for tensor in tensors.values())
        weight_map = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
        text = json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}, indent=1, sort_keys=True) + "\n"
        storage.write_file(folder / "model.safetensors.index.json", text.encode())
    return names


def require_finite(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Raise `MgzooError` that names the first of a part's tensors that holds a value that is not finite."""
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise MgzooError(
                f"{folder.name}: {name} has non-finite values",
                remedy="use a checkpoint from before the loss became NaN or infinite",
            )


def write_tensor_file(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write one file durably, then compare every tensor in it with what it should hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A tensor of its own storage each: safetensors refuses to write memory that two names share.
    whole = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    try:
        save_file(whole, str(path), metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:
        raise MgzooError(f"{path} could not be written: {error}", remedy="check the free disk space and try again") from None
    os.chmod(path, 0o644)  # safetensors writes a private temporary file and renames it
    storage.fsync(path)
    back = read_tensors([path])
    for key, tensor in whole.items():
        if key not in back or back[key].dtype != tensor.dtype or not torch.equal(back[key], tensor):
            raise MgzooError(f"{path}: {key} reads back with other values than written", remedy="the disk is faulty; use another one")


class MappedFiles:
    """Weight files as this process sees them. Each is mapped into memory once and not copied, so what is read of it is what was
    digested; its pages come from the disk when they are first touched, and writing to a tensor does not change the file.
    """

    def __init__(self):
        self._files: dict[Path, torch.UntypedStorage] = {}

    def digest(self, path: Path) -> str:
        """The blake3 digest of a file; one of weights is kept for `tensors`."""
        if path.suffix != ".safetensors":
            return storage.digest_file(path)
        return blake3(_view(self._mapped(path)), max_threads=blake3.AUTO).hexdigest()

    def tensors(self, paths: Iterable[Path], *, finite: bool = True) -> dict[str, Tensor]:
        """See `read`; a file is let go when the last tensor of it is."""
        found: dict[str, Tensor] = {}
        for path in paths:
            data = self._mapped(path)
            start, entries = parse_header(_view(data), path)
            del self._files[path]
            _new_names(path, entries, found)
            for key, entry in entries.items():
                found[key] = _tensor(data, start, entry)
                if finite and not is_finite(found[key]):
                    raise MgzooError(f"{path}: {key} has non-finite values", remedy="go back to an earlier commit")
        return found

    def _mapped(self, path: Path) -> torch.UntypedStorage:
        if path not in self._files:
            with file_errors(path):
                if not (size := path.stat().st_size):
                    raise ValueError("it is empty")
                try:
                    self._files[path] = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)
                except RuntimeError as error:
                    raise ValueError(str(error).partition("\n")[0]) from None
        return self._files[path]


def _view(data: torch.UntypedStorage) -> memoryview:
    return memoryview(torch.empty(0, dtype=torch.uint8).set_(data).numpy())


def _tensor(data: torch.UntypedStorage, start: int, entry: Mapping) -> Tensor:
    """One tensor of a file, with a storage of its own in the file's memory; a copy where its type cannot begin at that address."""
    dtype = DTYPES[entry["dtype"]]
    first, last = (start + offset for offset in entry["data_offsets"])
    if first == last:
        return torch.empty(entry["shape"], dtype=dtype)
    own = data[first:last]
    if first % dtype.itemsize:
        return torch.empty(0, dtype=torch.uint8).set_(own).clone().view(dtype).view(entry["shape"])
    return torch.empty(0, dtype=dtype).set_(own, 0, entry["shape"])


def read_tensors(paths: Iterable[Path], *, finite: bool = True) -> dict[str, Tensor]:
    """All tensors of some files, on the CPU, see `Mapped`. Raises `MgzooError` that names a file that cannot be read, or, with
    ``finite``, one that holds NaN or infinity."""
    return MappedFiles().tensors(paths, finite=finite)


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite; what is not of floating point always is."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    # The extremes carry a NaN along, and are found thirty times faster than by asking every value.
    wide = tensor if tensor.element_size() > 1 else tensor.float()
    return all(bool(torch.isfinite(one)) for one in torch.aminmax(wide))


def check_values(folder: Path, manifest: Manifest) -> list[Problem]:
    """Every stored value of an artifact's own weights finite, and every file of them readable."""
    problems = []
    own = [part.weights for part in manifest.parts.values() if isinstance(part.weights, tuple)]
    for path in (folder / name for names in own for name in names):
        for key, value in read_tensors([path], finite=False).items():
            if not is_finite(value):
                problems.append(problem("not-finite", f"{key} has non-finite values", "go back to an earlier commit", path))
    return problems


def tensor_shapes(paths: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight of some files, reading their headers only; scales (`eight_bit`) are none."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        entries = read_header(path)
        _new_names(path, entries, shapes)
        shapes |= {key: tuple(entry["shape"]) for key, entry in entries.items()}
    return {key: shape for key, shape in shapes.items() if not key.endswith(SCALE_SUFFIX)}


def _new_names(path: Path, names: Iterable[str], known: Mapping) -> None:
    for key in names:
        if key in known:
            raise MgzooError(f"{path}: {key} is also in another shard", remedy="pull the artifact again")


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
