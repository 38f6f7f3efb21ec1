"""An adapter in PEFT's file format: ``adapter_config.json`` and ``adapter_model.safetensors``, read and written without PEFT.

PEFT names the tensors of a layer ``base_model.model.PATH.lora_A.weight`` (R, I) and ``….lora_B.weight`` (O, R), and those of its
``modules_to_save`` ``base_model.model.`` and their names in the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from mgzoo import storage
from mgzoo.artifact.manifest import ADAPTER_FILE, MAX_MANIFEST_BYTES, WeightsReference
from mgzoo.artifact.strict_json import problem
from mgzoo.artifact.tensors import MappedFiles, require_finite, write_tensor_file
from mgzoo.model.lora import LORA_NAMES, adapted_layers, adapter_state_dict, add_adapter, detach_adapter, is_update
from mgzoo.recipe.artifact_check import OpenedArtifact
from mgzoo.recipe.schema import Adapter
from mgzoo.spec import MgzooError, Problem


def load_adapter(model, name: str, folder: str | Path) -> None:
    """Load an adapter in PEFT's format (``adapter_config.json``, ``adapter_model.safetensors``) into part ``name`` of a model.

    Raises MgzooError for a damaged file, another part, or anything but plain low-rank updates.
    """
    adapter, own = read_adapter(Path(folder))
    add_adapter(model, name, adapter)
    part = model.part(name)
    wanted = {key: tuple(value.shape) for key, value in adapter_state_dict(part).items()}
    if wanted != {key: tuple(value.shape) for key, value in own.items()}:
        detach_adapter(part)
        model.recipe = model.recipe.with_adapter(name, None)
        raise MgzooError(f"the adapter in {folder} does not match {type(part).__name__}: tensor names or shapes differ",
                         remedy="load it into the base model of its training")
    part.load_state_dict({**part.state_dict(), **own})


ADAPTER_CONFIG_NAME = "adapter_config.json"
PREFIX = "base_model.model."
WRITTEN = ("bias", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora")
PLAIN = {"bias": "none", "fan_in_fan_out": False, "rank_pattern": {}, "alpha_pattern": {}, "use_rslora": False,
         "use_dora": False, "lora_bias": False, "use_qalora": False, "target_parameters": None, "trainable_token_indices": None,
         "layer_replication": None, "alora_invocation_tokens": None}
"""Config values of a plain LoRA adapter in PEFT; other values are other methods. Older versions know only `WRITTEN`."""


def write_adapter(part: nn.Module, adapter: Adapter, tensors: Mapping[str, Tensor], folder: Path, base: WeightsReference) -> list[str]:
    """Write an adapter on ``part`` (its tensors by their names in the part) and return the weight files' names."""
    paths = list(adapted_layers(part))
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base.repo,
        "revision": base.commit,
        "inference_mode": True,
        "r": adapter.rank,
        "lora_alpha": int(adapter.alpha) if adapter.alpha == int(adapter.alpha) else adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": _targets(part, adapter, paths),
        "modules_to_save": list(adapter.modules) or None,
        "init_lora_weights": True,
        **{name: PLAIN[name] for name in WRITTEN},
    }
    storage.write_file(folder / ADAPTER_CONFIG_NAME, (json.dumps(config, indent=1, sort_keys=True) + "\n").encode())
    require_finite(tensors, folder)
    write_tensor_file({PREFIX + key: value for key, value in tensors.items()}, folder / ADAPTER_FILE)
    return [ADAPTER_FILE]


def _targets(part: nn.Module, adapter: Adapter, paths: list[str]) -> list[str]:
    """The shortest path suffixes with which PEFT matches the same layers."""
    own = {f"{path}.{name}" for path in paths for name in LORA_NAMES}
    modules = [path for path, _ in part.named_modules() if path and path not in own]
    for words in (adapter.targets, sorted({path.rpartition(".")[2] for path in paths})):
        if words and {path for path in modules if any(path == word or path.endswith(f".{word}") for word in words)} == set(paths):
            return sorted(words)
    return sorted(paths)


def read_adapter(folder: Path, files: MappedFiles | None = None) -> tuple[Adapter, dict[str, Tensor]]:
    """An adapter and its tensors, by their names in the part. Raises `MgzooError` for damaged files and other kinds of adapters.

    files: where its file is mapped, if its digest was compared."""
    adapter, known = read_adapter_config(folder), {}
    path = folder / ADAPTER_FILE
    for key, value in (files or MappedFiles()).tensors([path]).items():
        known[tensor_name(key, path, adapter)] = value
    updates = {key: value for key, value in known.items() if not adapter.is_saved_module(key)}
    layers = sorted({key.rpartition(".lora_")[0] for key in updates})
    pairs = {f"{layer}.{name}.weight" for layer in layers for name in LORA_NAMES}
    if not updates or updates.keys() != pairs:
        odd = sorted(updates.keys() ^ pairs) or ["nothing"]
        raise MgzooError(f"{path} is not a plain adapter: {odd[0]} lacks lora_A or lora_B", remedy="use another adapter")
    for key, value in updates.items():
        if value.ndim != 2 or value.shape[0 if ".lora_A." in key else 1] != adapter.rank:
            raise MgzooError(f"{path}: {key} has shape {list(value.shape)}, not of rank {adapter.rank}", remedy="pull or save the artifact again")
    # Paths and no patterns: what is stored says which layers are adapted.
    return Adapter(rank=adapter.rank, alpha=adapter.alpha, targets=layers, dropout=adapter.dropout, modules=adapter.modules), known


def tensor_name(key: str, path: Path, adapter: Adapter) -> str:
    """The name in the part of a tensor in the file."""
    name = key.removeprefix(PREFIX)
    if name == key or not (is_update(name) or adapter.is_saved_module(name)):
        raise MgzooError(f"{path} is not a plain adapter: it contains {key[:100]!r}", remedy=f"expected: {PREFIX}LAYER.lora_A.weight, or tensors of modules_to_save")
    return name


def check_adapters(opened: OpenedArtifact) -> list[Problem]:
    """Compare the ranks and scales of an artifact's adapters with its recipe."""
    folder, manifest, problems = opened.folder, opened.manifest, []
    for name, part in opened.recipe.parts.items():
        stored_here = name in manifest.parts and manifest.parts[name].is_adapter
        said = read_adapter_config(folder / name) if stored_here else None
        stands, wanted = ((one.rank, one.scale, sorted(one.modules)) if one else None for one in (said, part.adapter))
        if stands != wanted:
            made, built = (_in_words(one) if one else "none" for one in (said, part.adapter))
            problems.append(problem("adapter", f"the adapter is {made}, recipe.yaml has {built}", "save the artifact again", folder / name))
    return problems


def _in_words(adapter: Adapter) -> str:
    beside = f" with {', '.join(adapter.modules)} whole" if adapter.modules else ""
    return f"of rank {adapter.rank} and alpha {adapter.alpha:g}{beside}"


def read_adapter_config(folder: Path) -> Adapter:
    """Read ``adapter_config.json``. Raises `MgzooError` for damaged files and unsupported settings."""
    path = folder / ADAPTER_CONFIG_NAME
    try:
        said = json.loads(path.read_bytes()[: MAX_MANIFEST_BYTES])
        if said["peft_type"] != "LORA":
            raise MgzooError(f"{path} has the type {str(said['peft_type'])[:40]!r}; only LORA is supported", remedy="use another adapter")
        different = [name for name, value in PLAIN.items() if (said.get(name) or None) not in (value or None, None)]
        if different:
            raise MgzooError(f"{path} uses {', '.join(different)}; only PEFT supports this",
                             remedy="use a plain LoRA adapter, or merge this one with PEFT")
        targets, modules = said.get("target_modules"), said.get("modules_to_save")
        return Adapter(rank=int(said["r"]), alpha=float(said["lora_alpha"]), dropout=float(said.get("lora_dropout") or 0.0),
                       targets=[str(one) for one in targets] if isinstance(targets, list) else [],
                       modules=[str(one) for one in modules] if isinstance(modules, list) else [])
    except FileNotFoundError:
        raise MgzooError(f"{path} is missing", remedy="give the folder of an adapter") from None
    except MgzooError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MgzooError(f"{path} is not an adapter config: {type(error).__name__}: {error}", remedy="pull or save the artifact again") from None
