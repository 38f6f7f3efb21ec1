"""The old name of `mgzoo.model.lora` and `mgzoo.model.lora_files`, for one release: what third parties were told to import from here."""

from __future__ import annotations

import warnings

from mgzoo.model import lora, lora_files

_PLACES = {
    "adapt": lora.add_adapter, "attach": lora.attach_adapter, "detach": lora.detach_adapter, "layers": lora.adapted_layers,
    "linear_layers": lora.linear_layers, "load": lora_files.load_adapter, "merge": lora.merge_adapters, "merged": lora.merge_state_dict,
    "state": lora.adapter_state_dict,
}  # fmt: skip


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'mgzoo.adapters' has no attribute {name!r}")
    new = _PLACES[name]
    warnings.warn(f"mgzoo.adapters.{name} is {new.__module__}.{new.__name__} now; the next release removes the old name", DeprecationWarning, stacklevel=2)
    return new
