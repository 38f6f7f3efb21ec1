"""Load an artifact as a `Model`: every digest, header and shape is checked before a weight is used."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mgzoo import precision
from mgzoo.artifact.integrity import check_files, check_plugins, raise_problems
from mgzoo.artifact.manifest import read_manifest
from mgzoo.artifact.tensors import MappedFiles
from mgzoo.generation.record import LoadedFrom
from mgzoo.hub.fetch import fetch
from mgzoo.model.build import empty_model
from mgzoo.model.checks import check_model
from mgzoo.model.generate import weights_state
from mgzoo.model.lora_files import check_adapters
from mgzoo.model.model import Model
from mgzoo.model.part_weights import part_tensors
from mgzoo.recipe.artifact_check import OpenedArtifact, check_contract, open_artifact


def load(ref: str | Path, device: str = "cpu", dtype: torch.dtype | None = None, *, opened: OpenedArtifact | None = None) -> Model:
    """Load an artifact as a `Model` in eval mode.

    opened: the artifact, where it was fetched and opened already. ref: a folder, ``registry/NAME[@tag]`` or ``org/name[@revision]``, see `mgzoo.hub.references`. dtype: of the parameters, default as stored, but float32 for what is stored in bfloat16 where the
    device has no instructions for it (`mgzoo.precision`). Every digest is checked before a weight is used. Raises `ArtifactError`
    with every problem, or `MgzooError`.
    """
    folder, files = opened.folder if opened else fetch(ref, before_weights=check_contract), MappedFiles()
    manifest = opened.manifest if opened else read_manifest(folder)
    raise_problems(check_files(folder, manifest, digest_of=files.digest) + check_plugins(manifest, folder))
    model = load_opened(opened or open_artifact(folder, manifest), files, device, dtype)
    model.artifact, model.loaded_weights = LoadedFrom.of(ref, folder), weights_state(model)
    return model


def load_opened(opened: OpenedArtifact, files: MappedFiles, device: str = "cpu", dtype: torch.dtype | None = None) -> Model:
    """`load` of an artifact that is open already, its digests compared. files: as they were digested."""
    folder, manifest = opened.folder, opened.manifest
    raise_problems(check_adapters(opened))
    tensors = {name: part_tensors(folder, entry, files) for name, entry in manifest.parts.items() if entry.weights}
    # Without memory at first: a recipe that asks for more than its weights hold is refused before it is given any.
    shapes = {name: {key: tuple(value.shape) for key, value in state.items()} for name, state in tensors.items()}
    model = empty_model(opened.recipe, device)
    raise_problems(check_model(opened, model, shapes))
    for name in list(tensors):
        fill_part(model.part(name), tensors.pop(name), dtype, device)
        entry = manifest.parts[name]
        if base := entry.requires or entry.base:
            model.base_models[name], model.expanded_tensors[name] = base, entry.widened
    return model.eval()


def fill_part(part: nn.Module, tensors: dict[str, Tensor], dtype: torch.dtype | None = None, device: str = "cpu") -> None:
    """Load weights into a built part, in their stored dtype (parameters: in ``dtype``, see `load`) and the part's memory layout.

    Tensors with the right dtype and layout are used without a copy. ``tensors`` is emptied on the way, to release a shard's file
    after its last tensor.
    """
    target, device = part.state_dict(), torch.device(device)
    emulated = dtype is None and not precision.computes_bf16(device.type)
    parameters = {name for name, _ in part.named_parameters()}
    for key in list(tensors):
        value, own = tensors.pop(key), target[key]
        wanted = torch.float32 if emulated and value.dtype == torch.bfloat16 else dtype
        cast = wanted if wanted is not None and key in parameters and value.is_floating_point() else value.dtype
        # The part's strides keep channels_last: a convolution in the default layout is slower and rounds differently.
        if (value.dtype, value.stride(), value.device) != (cast, own.stride(), device):
            value = torch.empty_strided(own.shape, own.stride(), dtype=cast, device=device).copy_(value)
        target[key] = value
    part.load_state_dict(target, strict=True, assign=True)
