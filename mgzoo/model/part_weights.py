"""The tensors of one part of an artifact; references and adapters are resolved to their bases."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mgzoo import storage
from mgzoo.artifact.integrity import check_files, raise_problems
from mgzoo.artifact.manifest import ADAPTER_FILE, COMMIT_LENGTH, MANIFEST_NAME, PartEntry, WeightsReference, part_entry, read_manifest, read_part_config
from mgzoo.artifact.quantization import dequantize_rows
from mgzoo.artifact.tensors import MappedFiles, tensor_shapes
from mgzoo.hub.fetch import fetch, fetch_base
from mgzoo.hub.lookup import stored_shapes
from mgzoo.hub.references import parse_reference
from mgzoo.model.lora import merge_state_dict
from mgzoo.model.lora_files import ADAPTER_CONFIG_NAME, read_adapter, read_adapter_config, tensor_name
from mgzoo.recipe.artifact_check import check_contract
from mgzoo.spec import MgzooError


def load_part_weights(ref: str | Path, part: str) -> tuple[dict, dict[str, Tensor]]:
    """Config and plain weights of one part of an artifact, its digests checked; a reference is followed to its base, and an
    adapter is merged into its base."""
    folder, files = fetch(ref, before_weights=check_contract), MappedFiles()
    manifest = read_manifest(folder)
    entry = part_entry(manifest, part, str(ref))
    if not entry.weights:
        raise MgzooError(f"{part} has no weights in {ref}", remedy="remove `weights` from this part of the recipe")
    raise_problems(check_files(folder, manifest, [f"{part}/config.json", *_weight_files(entry)], files.digest))
    return read_part_config(folder, part), _plain_tensors(folder, entry, files)


def load_all_weights(ref: str | Path) -> dict[str, dict[str, Tensor]]:
    """Part name -> plain weights (`load_part_weights`), of every part of an artifact that has weights."""
    manifest = read_manifest(fetch(ref, before_weights=check_contract))
    return {name: load_part_weights(ref, name)[1] for name, entry in manifest.parts.items() if entry.weights}


def base_reference(ref: str | Path, part: str) -> WeightsReference | None:
    """The base of a part with the weights ``ref``; None for a local folder."""
    folder, parsed = fetch(ref, before_weights=check_contract), parse_reference(ref)
    entry = part_entry(read_manifest(folder), part, str(ref))
    if isinstance(entry.weights, WeightsReference) or parsed.repo is None:
        return entry.weights if isinstance(entry.weights, WeightsReference) else None
    digest = storage.digest_file(folder / MANIFEST_NAME)
    commit = folder.name if parsed.is_endpoint else digest[:COMMIT_LENGTH]
    return WeightsReference(repo=parsed.repo, commit=commit, part=part, digest=digest)


def adapted_shapes(folder: Path, part: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an adapted part's state dict: base and adapter."""
    path, adapter = folder / part / ADAPTER_FILE, read_adapter_config(folder / part)
    return {**stored_shapes(folder, part), **{tensor_name(key, path, adapter): shape for key, shape in tensor_shapes([path]).items()}}


def _weight_files(entry: PartEntry) -> list[str]:
    """The weight files of a part."""
    own = list(entry.weights) if isinstance(entry.weights, tuple) else []
    return [*own, own[0].replace(ADAPTER_FILE, ADAPTER_CONFIG_NAME)] if entry.is_adapter else own


def part_tensors(folder: Path, entry: PartEntry, files: MappedFiles) -> dict[str, Tensor]:
    """A part's tensors under the names of the built model: base and adapter."""
    if entry.is_adapter:
        return {**base_tensors(entry.base), **read_adapter((folder / entry.weights[0]).parent, files)[1]}
    return _plain_tensors(folder, entry, files)


def _plain_tensors(folder: Path, entry: PartEntry, files: MappedFiles) -> dict[str, Tensor]:
    """A part's weights with its adapter merged into the base."""
    if isinstance(entry.weights, WeightsReference):
        return base_tensors(entry.weights)
    if not entry.is_adapter:  # finite as they were when they were saved, pushed and pulled: a look at each value again takes as long as a digest
        return dequantize_rows(files.tensors([folder / name for name in entry.weights], finite=False))
    adapter, own = read_adapter((folder / entry.weights[0]).parent, files)
    return merge_state_dict(base_tensors(entry.base), own, adapter.scale)


def base_tensors(reference: WeightsReference) -> dict[str, Tensor]:
    """The plain weights behind a reference, all digests compared."""
    base, files = fetch_base(reference, before_weights=check_contract), MappedFiles()
    manifest = read_manifest(base)
    entry = part_entry(manifest, reference.part, str(reference))
    if not isinstance(entry.weights, tuple) or not entry.weights:
        raise MgzooError(f"{reference} holds no weights of {reference.part}", remedy="refer to the artifact with the weights")
    raise_problems(check_files(base, manifest, _weight_files(entry), files.digest))
    return _plain_tensors(base, entry, files)
