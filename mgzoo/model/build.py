"""Build the parts of a recipe and load their weights."""

from __future__ import annotations

import zlib

import torch

from mgzoo.contracts import contract_of
from mgzoo.discovery import discover
from mgzoo.hub.lookup import only_licenses
from mgzoo.model.feature_cache import Cache
from mgzoo.model.lora import adapter_state_dict, add_adapter
from mgzoo.model.model import Model
from mgzoo.model.part_weights import base_reference, load_part_weights
from mgzoo.model.skip_init import init_empty_weights
from mgzoo.old_names import accepted_arguments
from mgzoo.spec import MgzooError, as_seed, spread


def empty_model(recipe, device: str = "cpu"):
    """A model of ``recipe`` with uninitialised parameters, for shape checks and for loading.

    If a tensor is larger than the memory, the whole model is on the meta device; its shapes remain available.
    """
    try:
        with init_empty_weights():
            return build(recipe, device=device, weights=False)
    except RuntimeError:  # torch's word for memory that cannot be had
        return build(recipe, device="meta", weights=False)


def build(recipe, device: str = "cpu", *, weights: bool = True, cache: Cache | None = None) -> Model:
    """Build every part of a recipe on a device (``meta``, ``cpu``, ``cuda``).

    Each part has its own initialisation seed (recipe seed and part name), so that swapping one part does not change the
    initial weights of the others. weights: load the `weights` artifacts of the parts (never on ``meta``). Adapters are attached
    last, untrained.
    """
    registry, wires, parts = discover(), contract_of(recipe), {}
    for name, part in recipe.parts.items():
        target = registry.build_class(part.component.id)
        extra = {}
        if part.kind == "backbone":
            extra = {"latent": wires.latent, "conditions": wires.conditions, "concat_channels": wires.concat_channels}
        elif part.kind == "encoder":
            extra = {"name": name.split(".", 1)[1]}
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(as_seed(spread(recipe.seed) * 1_000_003 + zlib.crc32(name.encode())))
            parts[name] = target(part.config, **accepted_arguments(target, extra))
    model = Model(recipe, parts, cache or Cache())
    if weights and torch.device(device).type != "meta":
        with only_licenses(recipe.policy.licenses):
            for name, part in recipe.parts.items():
                if part.weights:
                    load_part(model, name, part.weights)
    for name, part in recipe.parts.items():
        if part.adapter:
            add_adapter(model, name, part.adapter)
    return model


def load_part(model: Model, name: str, ref: str) -> None:
    """Load the weights of one part from the artifact ``ref``, its base from then on. Names and shapes must match exactly, except for the new
    tensors of a part with ``widened``. An adapter on the part is unchanged."""
    _, state = load_part_weights(ref, name)
    part, base, new = model.part(name), base_reference(ref, name), ()
    if hasattr(part, "expand_state_dict"):
        state, new = part.expand_state_dict(state)
    try:
        part.load_state_dict({**state, **adapter_state_dict(part)}, strict=True)
    except RuntimeError as error:
        raise MgzooError(
            f"the weights of {name} in {ref} do not fit {model.recipe.parts[name].component.id} as configured: {error}",
            remedy="use the config of the artifact (remove `config`), or remove `weights`",
            origin=str(model.recipe.source),
        ) from None
    model.base_models.pop(name, None)
    model.expanded_tensors[name] = tuple(new)
    if base:
        model.base_models[name] = base
