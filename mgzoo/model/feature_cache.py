"""Cache for outputs of frozen parts, keyed by everything they depend on."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from blake3 import blake3
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mgzoo import storage

log = logging.getLogger("mgzoo")


def default_root() -> Path:
    """``$MGZOO_HOME/cache``, or ``~/.cache/mgzoo``."""
    return storage.output_cache()


def cache_key(component_id: str, version: str, config: str, weights_digest: str, input_digest: str) -> str:
    """Hex key of one output; depends on the part, the plugin version, the config, the weights and the input."""
    return blake3(json.dumps([component_id, version, config, weights_digest, input_digest]).encode()).hexdigest()


class Cache:
    """Tensors by key, on disk and in memory.

    root: folder of the entries, default `default_root()`; created at the first write. disk: False: memory only.
    memory: size limit in bytes of the in-memory LRU cache; 0: none. Entries are shared: do not modify them in place.
    """

    def __init__(self, root: str | Path | None = None, *, memory: int = 2**30, disk: bool = True):
        self.root = (Path(root) if root is not None else default_root()) if disk else None
        self.memory = memory
        self._held: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> Tensor | None:
        """The tensor, or None. A damaged entry gives None and a warning."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        if self.root is None or not (path := self._path(key)).is_file():
            return None
        try:
            with safe_open(path, "pt") as opened:
                value, digest = opened.get_tensor("value"), (opened.metadata() or {}).get("blake3")
        except FileNotFoundError:  # cleaned away by somebody meanwhile
            return None
        except (OSError, SafetensorError) as error:
            value, digest = None, str(error)
        if value is None or digest != _digest(value):  # a flipped bit loads without an error
            log.warning("cache entry %s is damaged and will be computed again", path)
            return None
        self._hold(key, value)
        return value

    def put(self, key: str, value: Tensor) -> None:
        """Store a tensor; writes to disk are atomic. An unwritable disk disables the disk cache with a warning.

        Several processes and machines may share the folder: equal keys have equal content.
        """
        value = value.detach().cpu().contiguous()
        self._hold(key, value)
        if self.root is None:
            return
        path = self._path(key)
        for last in (False, True):
            try:
                with storage.atomic_path(path) as aside:
                    save_file({"value": value}, aside, metadata={"blake3": _digest(value)})
                return
            except (OSError, SafetensorError) as error:
                if path.is_file():  # another's, as good as ours; what is damaged is found when it is read
                    return
                if last or not storage.is_vanished(error):
                    log.warning("cannot write the cache at %s (%s): continuing without it; set MGZOO_HOME to a folder with free space", self.root, error)
                    self.root = None
                    return

    def get_or_compute(self, identity: Sequence[str], clips: Sequence, compute: Callable[[list], Sequence[Tensor]]) -> list[Tensor]:
        """One output per clip (or other object with a `digest`); missing ones are computed in one call.

        identity: (component id, version, config, weights digest) of the frozen part. compute: clips -> one tensor each.
        """
        keys = [cache_key(*identity, clip.digest) for clip in clips]
        found = {name: value for name in set(keys) if (value := self.get(name)) is not None}
        missing = {name: clip for name, clip in zip(keys, clips, strict=True) if name not in found}
        if missing:
            made = compute(list(missing.values()))
            assert len(made) == len(missing), f"{identity[0]} returned {len(made)} outputs for {len(missing)} clips"
            for name, value in zip(missing, made, strict=True):
                found[name] = value.detach().cpu().contiguous()
                self.put(name, found[name])
        return [found[name] for name in keys]

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / key[2:4] / f"{key}.safetensors"

    def _hold(self, key: str, value: Tensor) -> None:
        if key in self._held:
            self._bytes -= self._held.pop(key).nbytes
        if value.nbytes > self.memory:
            return
        # A view would keep the whole batch it was cut from alive.
        self._held[key] = value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
        self._bytes += value.nbytes
        while self._bytes > self.memory:
            self._bytes -= self._held.popitem(last=False)[1].nbytes


def _digest(value: Tensor) -> str:
    from torch import uint8

    header = f"{value.dtype} {tuple(value.shape)}".encode()
    return blake3(header + value.reshape(-1).view(uint8).numpy().tobytes()).hexdigest()
