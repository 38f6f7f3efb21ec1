"""An artifact: a folder that holds a model. Saved whole or not at all, checked before it is used.

    README.md LICENSE mgzoo.json recipe.yaml recipe.lock.json
    <part>/config.json  <part>/model*.safetensors           parts with weights of their own; others are references
    <part>/adapter_config.json  <part>/adapter_model.safetensors      an adapter, in PEFT's format; its base is a reference
    probe/inputs.safetensors  probe/outputs.safetensors      a golden probe
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mgzoo import storage
from mgzoo.artifact.manifest import BF16_FROM, MANIFEST_NAME, Manifest, PartEntry, Requirement, WeightsReference, write_manifest
from mgzoo.artifact.quantization import quantize_rows
from mgzoo.artifact.tensors import SHARD_BYTES, write_shards
from mgzoo.contracts import contract_of
from mgzoo.distributions import distribution_source
from mgzoo.hub.lookup import find_local
from mgzoo.model.card import copy_pictures, license_text, parse_evaluation, write_card, write_evaluation
from mgzoo.model.golden_outputs import write_golden_outputs
from mgzoo.model.load import load
from mgzoo.model.lora import adapter_state_dict, cast_to_base
from mgzoo.model.lora_files import write_adapter
from mgzoo.model.part_weights import base_tensors
from mgzoo.recipe.lock import lock_recipe
from mgzoo.spec import MgzooError


def save(
    model,
    folder: str | Path,
    *,
    state: Mapping[str, Mapping[str, Tensor]] | None = None,
    metrics: Mapping[str, float | int | str] | None = None,
    curve: str | Path | None = None,
    samples: str | Path | Sequence[str | Path] = (),
    license: str = "apache-2.0",
    data_note: str = "",
    evaluation: str | Path | Sequence[Mapping] = (),
    dtype: torch.dtype | None = None,
    golden: bool = True,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write ``model`` as an artifact and return its folder; an artifact that stands there is replaced.

    state: weights that go before the model's own, part name -> tensor name -> tensor, e.g. the EMA's or those gathered from
        ZeRO ranks. metrics: training figures for the card and the manifest. curve: a PNG of the training curve.
    samples: a PNG and/or an MP4 that the model made. data_note: Markdown on the data and its licence. evaluation: figures as
        data, see `mgzoo.model.card.parse_evaluation`.
    dtype: of the stored parameters; default bfloat16 for parts of `BF16_FROM` parameters or more, else float32. int8 stores
        matrices in eight bits with a scale for each row (`mgzoo.artifact.quantization.quantize_rows`) and loads as bfloat16.
        Buffers keep their own. golden: run and store the golden probe. shard_bytes: larger weights are split into several files.
    A part whose weights still equal those of the hub artifact it came from is stored as a reference to it; of an adapted part
    the adapter alone is stored, and its base is a reference.
    Raises `MgzooError` (a tensor that is not finite, a full disk …); then, and when interrupted, nothing is left behind.
    """
    folder, recipe, figures = Path(folder), model.recipe, parse_evaluation(evaluation)
    if folder.exists() and not (folder / MANIFEST_NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise MgzooError(f"{folder} exists and is not an artifact", remedy="choose a new folder")
    state = {(name, key): value for name, tensors in (state or {}).items() for key, value in tensors.items()}
    with storage.disk_errors(f"saving {folder}"), storage.staging_folder(folder) as aside:
        entries = {name: _store_part(model, name, state, aside, dtype, shard_bytes) for name in recipe.parts}
        for name, key in sorted(state):
            raise MgzooError(f"the state to save has an unknown tensor {key!r} of {name}", remedy="use the tensor names of the part")
        write_texts(recipe, aside, license)
        pictures = copy_pictures(aside, curve, samples)
        manifest = Manifest(
            mgzoo=_version(),
            description=recipe.description,
            license=license,
            parts=entries,
            contract=contract_of(recipe),
            requires=_requirements(recipe),
            metrics=flat_metrics(metrics or {}),
            files={},
        )
        if figures:
            write_evaluation(aside, figures)
        readme = write_card(manifest, model, data_note=data_note, pictures=pictures, name=artifact_title(folder), figures=figures)
        storage.write_file(aside / "README.md", readme.encode())
        write_manifest(manifest, aside)
        if golden:
            # The probe answers for what is stored, so it runs on a model loaded from it: that proves it loads, too.
            own = [name for name, entry in entries.items() if entry.weights and isinstance(entry.weights, tuple)]
            write_golden_outputs(load(aside, dtype=torch.float32), own, manifest.contract, aside)
            write_manifest(manifest, aside)
        storage.replace_folder(aside, folder)
    return folder


def _store_part(model, name: str, state: dict, folder: Path, dtype: torch.dtype | None, shard_bytes: int) -> PartEntry:
    """Write one part's config and weights, those in ``state`` (which loses them) before the model's own, and return its entry in the manifest."""
    part, component = model.recipe.parts[name], model.recipe.parts[name].component.id
    if name not in model.part_names():
        return PartEntry(use=component)
    storage.write_file(folder / name / "config.json", _config_json(part.config))
    tensors, base = _given_tensors(model.part(name), name, state), model.base_models.get(name)
    if not part.adapter and (same := _same_as_base(base, tensors)) is not None:
        return PartEntry(use=component, weights=same)
    eight_bit = dtype is torch.int8
    if part.adapter:
        files = _write_adapter(model, name, tensors, folder / name, None if eight_bit else dtype)
    else:
        cast = _cast(tensors, model.part(name), torch.bfloat16 if eight_bit else dtype)
        files = write_shards(quantize_rows(cast) if eight_bit else cast, folder / name, shard_bytes=shard_bytes)
    trained = model.task is not None and name in model.task.trained(model)
    expanded = model.expanded_tensors.get(name, ()) if base else ()
    return PartEntry(use=component, trained=trained, weights=tuple(f"{name}/{file}" for file in files), base=base, widened=expanded)


def _write_adapter(model, name: str, tensors: Mapping[str, Tensor], folder: Path, dtype: torch.dtype | None) -> list[str]:
    """Write the adapter on a part, whose other tensors must be those of its base; returns the weight files' names."""
    part, adapter, base = model.part(name), model.recipe.parts[name].adapter, model.base_models.get(name)
    merge = "merge the adapter before saving: mgzoo.model.lora.merge_adapters(model)"
    if base is None:
        raise MgzooError(f"the base of the adapter on {name} is not on a hub", remedy=f"start from `weights: registry/NAME` or org/name, or {merge}")
    own = {key: tensors[key] for key in adapter_state_dict(part)}
    rest = {key: value for key, value in tensors.items() if key not in own}
    stored_base = base_tensors(base)
    if not _equal({key: value for key, value in stored_base.items() if key not in own}, rest):
        raise MgzooError(f"the base weights of {name} differ from {base}; an adapter artifact cannot store them", remedy=merge)
    return write_adapter(part, adapter, cast_to_base(stored_base, _cast(own, part, dtype)), folder, base)


def _given_tensors(part: nn.Module, name: str, state: dict) -> dict[str, Tensor]:
    """The part's tensors, those in ``state`` (which loses them) before its own."""
    tensors = {}
    for key, value in part.state_dict().items():
        tensors[key] = state.pop((name, key), value).detach()
        if tensors[key].shape != value.shape:
            raise MgzooError(
                f"{name}.{key} to save has shape {tuple(tensors[key].shape)}, the part has {tuple(value.shape)}",
                remedy="gather the weights of all ranks before saving",
            )
    return tensors


def _cast(tensors: Mapping[str, Tensor], part: nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Parameters in their stored dtype, buffers in the part's."""
    parameters, own = {key for key, _ in part.named_parameters()}, part.state_dict()
    count = sum(tensors[key].numel() for key in parameters if key in tensors)
    kept = dtype or (torch.bfloat16 if count >= BF16_FROM else torch.float32)
    floating = {key for key in parameters if own[key].is_floating_point()}
    return {key: value.to(kept if key in floating else own[key].dtype) for key, value in tensors.items()}


def _same_as_base(base: WeightsReference | None, tensors: Mapping[str, Tensor]) -> WeightsReference | None:
    """The hub artifact that the part came from, if it is here and every weight in it is still what is in ``tensors``."""
    folder = find_local(str(base)) if base else None
    if folder is None or storage.digest_file(folder / MANIFEST_NAME) != base.digest:
        return None
    return base if _equal(base_tensors(base), tensors) else None


def _equal(base: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    # In the dtype the model has in memory: rounding a frozen part for speed does not make it another one.
    return base.keys() == tensors.keys() and all(torch.equal(base[key].to(value.dtype), value.cpu()) for key, value in tensors.items())


def _config_json(config) -> bytes:
    return (json.dumps(dataclasses.asdict(config), indent=1, sort_keys=True) + "\n").encode()


def write_texts(recipe, folder: Path, license: str) -> None:
    storage.write_file(folder / "recipe.yaml", recipe.to_yaml().encode())
    storage.write_file(folder / "recipe.lock.json", (json.dumps(lock_recipe(recipe), indent=1, sort_keys=True) + "\n").encode())
    storage.write_file(folder / "LICENSE", license_text(license).encode())


def _requirements(recipe) -> tuple[Requirement, ...]:
    parts = [part for part in (*recipe.parts.values(), recipe.data) if part is not None]
    providers = {(part.provider.distribution, part.provider.version) for part in parts}
    return tuple(Requirement(distribution=name, version=version, source=distribution_source(name)) for name, version in sorted(providers))


def flat_metrics(metrics: Mapping) -> dict[str, float | int | str]:
    """Flat figures: ``{"validation": {"loss": 1}}`` becomes ``validation.loss``; what is not finite becomes text."""
    figures = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            figures |= {f"{name}.{key}": figure for key, figure in flat_metrics(value).items()}
        elif isinstance(value, bool | int | str):
            figures[str(name)] = str(value) if isinstance(value, bool) else value
        elif value is not None:
            number = float(value)
            figures[str(name)] = number if math.isfinite(number) else str(number)
    return figures


def artifact_title(folder: Path) -> str:
    folder = folder.resolve()
    return folder.parent.name if folder.name == "artifact" else folder.name


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mgzoo")
    except PackageNotFoundError:
        return "0+unknown"
