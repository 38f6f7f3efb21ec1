"""Low-rank adapters (LoRA, Hu et al. 2021) for any part with linear layers, without changes in its code.

    y = W x + b + (alpha / rank) B A x

W and b are the frozen base; A and B are trained. B is initialised to zero, so training starts exactly at the base. A hook on each
`nn.Linear` adds the update; A and B are its children ``lora_A`` and ``lora_B``: the names of the base weights are
unchanged. Modules in `adapter.modules` (PEFT: ``modules_to_save``) are trained in full: new input channels and conditions of a
task head have no base weights. `mgzoo.model.lora_files` reads and writes PEFT's file format.

Shape letters: I inputs and O outputs of a linear layer, R rank.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.errors import suggest
from mgzoo.recipe.schema import Adapter
from mgzoo.spec import MgzooError, as_seed, spread

LORA_NAMES = ("lora_A", "lora_B")


def linear_layers(part: nn.Module) -> dict[str, nn.Linear]:
    """The possible target layers of a part, by path. Not those of `nn.MultiheadAttention`: it never calls them."""
    unseen = {id(child) for module in part.modules() if isinstance(module, nn.MultiheadAttention) for child in module.modules()}
    unseen |= {id(child) for layer in adapted_layers(part).values() for child in layer.children()}
    return {path: module for path, module in part.named_modules() if path and isinstance(module, nn.Linear) and id(module) not in unseen}


def adapted_layers(part: nn.Module) -> dict[str, nn.Linear]:
    """The layers with an update, by path; empty without an adapter."""
    return {path: module for path, module in part.named_modules() if "adapter_scale" in module.__dict__}


def saved_modules(part: nn.Module) -> dict[str, nn.Module]:
    """The modules trained in full, by path."""
    return {path: module for path, module in part.named_modules() if "adapter_whole" in module.__dict__}


def unmatched_targets(part, adapter: Adapter) -> list[tuple[str, str]]:
    """(what, remedy) for every target that matches no linear layer of the part."""
    paths = list(linear_layers(part)) if isinstance(part, nn.Module) else []
    if not paths:
        return [(f"{type(part).__name__} has no linear layer to adapt", "remove the adapter, or adapt another part")]
    ends = sorted({path.rpartition(".")[2] for path in paths})
    found, modules = [], {path for path, _ in part.named_modules() if path}
    for path in adapter.modules:
        if path not in modules:
            near = suggest(path, modules, 1)
            found.append((f"{type(part).__name__} has no module {path!r}", f"did you mean {near[0]}?" if near else "give the full path of a module"))
    for target in adapter.targets:
        if not dataclasses.replace(adapter, targets=[target]).match_targets(paths):
            near = suggest(target, {*ends, *paths}, 1)
            found.append((f"{type(part).__name__} has no linear layer {target!r}",
                          f"did you mean {near[0]}?" if near else f"layer names: {', '.join(ends)}"))
    return found


def ranks_too_large(part, adapter: Adapter) -> list[tuple[str, str]]:
    """(what, remedy) if the rank is above the width of a target layer."""
    found = linear_layers(part) if isinstance(part, nn.Module) else {}
    return adapter.too_wide({path: tuple(layer.weight.shape) for path, layer in found.items()})


def tensors_missing_from_base(adapter: Adapter, new: Sequence[str], every: Iterable[str]) -> list[tuple[str, str]]:
    """(what, remedy) for tensors missing in the base (``new``, out of ``every``) and not in a module trained in full."""
    if not (lacking := [key for key in new if not adapter.is_saved_module(key)]):
        return []
    every = list(every)
    modules = [*(path for path in adapter.modules if any(key.startswith(f"{path}.") for key in every)), *_modules_of(lacking, every)]
    return [(f"LoRA cannot train {', '.join(lacking[:3])}{' …' if lacking[3:] else ''}: the base checkpoint has no such tensor",
             f"train in full: adapter.modules: [{', '.join(modules)}]")]


def _modules_of(tensors: Sequence[str], every: Sequence[str]) -> list[str]:
    """The largest modules that hold some of these tensors and, but for the innermost, no others."""
    found: dict[str, None] = {}
    for key in tensors:
        module = key.rpartition(".")[0]
        while (above := module.rpartition(".")[0]) and all(one in tensors for one in every if one.startswith(f"{above}.")):
            module = above
        found[module] = None
    return list(found)


def attach_adapter(part: nn.Module, adapter: Adapter) -> None:
    """Attach an untrained adapter to a part: A from Kaiming's uniform distribution (as in PEFT), B zero. All other weights are
    frozen, except the adapter's modules. Raises MgzooError for a second adapter, or a target without a layer.
    """
    if adapted_layers(part):
        raise MgzooError(f"{type(part).__name__} has an adapter already", remedy="merge it first: mgzoo.model.lora.merge_adapters(model)")
    if wrong := unmatched_targets(part, adapter):
        raise MgzooError("; ".join(what for what, _ in wrong), remedy="; ".join(remedy for _, remedy in wrong))
    part.requires_grad_(False)
    linear = linear_layers(part)
    for path in adapter.match_targets(linear):
        layer = linear[path]
        with torch.device(layer.weight.device):
            layer.lora_A = nn.Linear(layer.in_features, adapter.rank, bias=False)
            layer.lora_B = nn.Linear(adapter.rank, layer.out_features, bias=False)
        nn.init.zeros_(layer.lora_B.weight)
        layer.adapter_scale, layer.adapter_dropout, layer.adapter_seed = adapter.scale, adapter.dropout, None
        layer.register_forward_hook(_add_update, with_kwargs=True)
    for path in adapter.modules:
        module = part.get_submodule(path)
        module.adapter_whole = True
        module.requires_grad_(True)
    part.eval()


def _add_update(layer: nn.Linear, arguments: tuple, named: dict, out: Tensor) -> Tensor:
    down, up = layer.lora_A, layer.lora_B
    x = (arguments[0] if arguments else named["input"]).to(down.weight.dtype)
    if layer.adapter_dropout and down.training:
        x = _dropped(x, layer.adapter_dropout, layer.adapter_seed)
    return torch.add(out, up(down(x)).to(out.dtype), alpha=layer.adapter_scale)


def _dropped(x: Tensor, share: float, seed: int | None) -> Tensor:
    if seed is None:
        return F.dropout(x, share)
    generator = torch.Generator(x.device).manual_seed(seed)
    kept = torch.rand(x.shape, generator=generator, device=x.device) >= share
    return x * kept / (1 - share)


def seed_dropout(part: nn.Module, number: int) -> None:
    """Seed the adapter's dropout until the next call: recomputation in the backward pass (activation checkpointing) then
    drops the same values, even if the part does not preserve the random state."""
    for i, layer in enumerate(adapted_layers(part).values()):
        layer.adapter_seed = (number + i) % 2**63


def trainable_tree(part: nn.Module) -> nn.Module:
    """The modules of a part for the training engine: the part, or a tree of its adapter alone, under the same names."""
    adapted = adapted_layers(part)
    if not adapted:
        return part
    tree = nn.Module()

    def node(path: str) -> nn.Module:
        here = tree
        for name in filter(None, path.split(".")):
            if name not in here._modules:
                here.add_module(name, nn.Module())
            here = here._modules[name]
        return here

    for path, layer in adapted.items():
        for name in LORA_NAMES:
            node(path).add_module(name, getattr(layer, name))
    for path, module in saved_modules(part).items():
        above, _, name = path.rpartition(".")
        node(above).add_module(name, module)
    return tree


def set_train_mode(part: nn.Module, mode: bool) -> None:
    """`nn.Module.train` of a part; under an adapter the base stays in eval mode, like other frozen parts: without
    dropout and with fixed running statistics."""
    adapted = adapted_layers(part)
    part.train(mode and not adapted)
    for layer in adapted.values():
        layer.lora_A.train(mode)
        layer.lora_B.train(mode)
    for module in saved_modules(part).values():
        module.train(mode)


@contextmanager
def in_base_dtype(part: nn.Module) -> Iterator[None]:
    """Context manager: modules trained in full have the precision of the base, as in training; restored on exit."""
    own = {id(p) for module in (*saved_modules(part).values(), *(getattr(layer, name) for layer in adapted_layers(part).values() for name in LORA_NAMES)) for p in module.parameters()}
    rest = {p.dtype for p in part.parameters() if p.is_floating_point() and id(p) not in own}
    kept = [(p, p.data) for module in saved_modules(part).values() for p in module.parameters()] if len(rest) == 1 else []
    for p, value in kept:
        p.data = value.to(next(iter(rest)))
    try:
        yield
    finally:
        for p, value in kept:
            p.data = value


def is_update(key: str) -> bool:
    """Whether a key of an adapted part's state dict belongs to A or B."""
    return key.endswith(tuple(f".{name}.weight" for name in LORA_NAMES))


def adapter_state_dict(part: nn.Module) -> dict[str, Tensor]:
    """The adapter's tensors by their names in the part: A (R, I) as ``PATH.lora_A.weight``, B (O, R) as ``PATH.lora_B.weight``, and
    those of the modules trained in full."""
    own = part.state_dict()
    updates = {key: own[key] for path in adapted_layers(part) for name in LORA_NAMES if (key := f"{path}.{name}.weight")}
    return updates | {key: own[key] for path in saved_modules(part) for key in own if key.startswith(f"{path}.")}


def cast_to_base(base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's tensors; modules trained in full are cast to the precision of the base."""
    dtypes = {value.dtype for value in base.values() if value.is_floating_point()}
    if len(dtypes) != 1:
        return dict(own)
    (dtype,) = dtypes
    return {key: value.to(dtype) if value.is_floating_point() and not is_update(key) else value for key, value in own.items()}


@torch.no_grad()
def merge_state_dict(base: Mapping[str, Tensor], own: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The base tensors with the updates added (in float32, rounded to each weight's dtype) and the adapter's modules
    in place of the base's."""
    result = {**base, **{key: value for key, value in own.items() if not is_update(key)}}
    for key, down_RI in own.items():
        if key.endswith(".lora_A.weight"):
            path = key.removesuffix(".lora_A.weight")
            target, up_OR = f"{path}.weight", own[f"{path}.lora_B.weight"]
            if target not in base or base[target].shape != (up_OR.shape[0], down_RI.shape[1]):
                raise MgzooError(f"the adapter does not match its base: no {target} of shape {[up_OR.shape[0], down_RI.shape[1]]}",
                                 remedy="use the base of the adapter's training")
            update_OI = scale * (up_OR.float() @ down_RI.float())
            result[target] = (base[target].float() + update_OI.to(base[target].device)).to(base[target].dtype)
    return result


@torch.no_grad()
def merge_adapters(model):
    """Merge all adapters of a model into the weights, in place, and return the model: it saves as a full fine-tune."""
    for name, spec in list(model.recipe.parts.items()):
        if spec.adapter is None:
            continue
        part = model.part(name)
        own = adapter_state_dict(part)
        plain = merge_state_dict({key: value for key, value in part.state_dict().items() if key not in own}, own, spec.adapter.scale)
        detach_adapter(part)
        part.load_state_dict(plain)
        model.recipe = model.recipe.with_adapter(name, None)
    model.clear_fingerprints()
    return model


def detach_adapter(part: nn.Module) -> None:
    """Remove the adapter: the part is its base again, with all weights trainable."""
    for layer in adapted_layers(part).values():
        for name in LORA_NAMES:
            delattr(layer, name)
        for name in ("adapter_scale", "adapter_dropout", "adapter_seed"):
            delattr(layer, name)
        for number in [number for number, hook in layer._forward_hooks.items() if hook is _add_update]:
            del layer._forward_hooks[number], layer._forward_hooks_with_kwargs[number]
    for module in saved_modules(part).values():
        del module.adapter_whole
    part.requires_grad_(True)


def add_adapter(model, name: str, adapter: Adapter) -> None:
    """Attach an untrained adapter to part ``name`` of a built model, and add it to the recipe; A has its own seed."""
    part = model.part(name)
    if isinstance(part, nn.Module) and not adapted_layers(part) and (wrong := unmatched_targets(part, adapter)):
        raise MgzooError("; ".join(what for what, _ in wrong), remedy="; ".join(remedy for _, remedy in wrong),
                         origin=str(model.recipe.origin(f"parts.{name}.adapter.targets") or ""))
    for what, remedy in tensors_missing_from_base(adapter, model.expanded_tensors.get(name, ()), part.state_dict()):
        raise MgzooError(what, remedy=remedy, origin=str(model.recipe.origin(f"parts.{name}.adapter") or ""))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(as_seed(spread(model.recipe.seed) * 1_000_003 + zlib.crc32(f"{name}.adapter".encode())))
        attach_adapter(part, adapter)
    if model.recipe.parts[name].adapter != adapter:
        model.recipe = model.recipe.with_adapter(name, dataclasses.asdict(adapter))
    model.clear_fingerprints()
