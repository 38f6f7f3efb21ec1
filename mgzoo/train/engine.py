"""The DeepSpeed engine around the trained parts, and the float32 master weights that it shards over the ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mgzoo.recipe.schema import Train, Zero
from mgzoo.train.deepspeed_config import deepspeed_config
from mgzoo.train.distributed import RankInfo, silence
from mgzoo.train.optimizer import build_optimizer
from mgzoo.train.stages import StagePlan
from mgzoo.train.trainable import Trainable, module_name


def start_engine(module: Trainable, train: Train, zero: Zero, rank_info: RankInfo):
    """The DeepSpeed engine around the trained parts: rank 0's weights, as given and not as bf16 rounds them."""
    import deepspeed

    if rank_info.world_size > 1:
        for tensor in [*module.parameters(), *module.buffers()]:
            torch.distributed.broadcast(tensor.data, 0)
    if zero.stage == 3:
        gather_by_block(module)
    given = {name: p.detach().float().clone() for name, p in module.named_parameters() if p.requires_grad}
    config = deepspeed_config(train, zero, rank_info.world_size, rank_info.device.type)
    adam = build_optimizer(module, train, zero, rank_info.device.type)
    decays = [group["params"][0].ndim >= 2 for group in adam.param_groups]  # ZeRO puts flat tensors in their place
    with silence():
        engine, *_ = deepspeed.initialize(model=module, optimizer=adam, config=config)
    engine.decays = decays
    if rank_info.world_size == 1 and zero.stage < 3:
        engine.optimizer.allreduce_no_retain = lambda *bucket, **rest: None  # a sum over one rank, for which DeepSpeed copies the gradients twice
    elif rank_info.device.type == "cpu" and zero.stage < 3:
        from mgzoo.train import cpu_collectives

        cpu_collectives.reduce_at_owners(engine.optimizer)
    if train.precision == "bf16":
        set_weights(engine, given)
    return engine


def gather_by_block(module: Trainable) -> None:
    """Let ZeRO 3 gather a block of a backbone or an encoder at once, not layer by layer: a fifth of the hooks, which are a tenth of a
    CPU step of 14 M parameters.

    A block is an element of a `ModuleList`, used through its forward and nothing else; autoencoders have other ways into theirs.
    """
    from deepspeed.utils.z3_leaf_module import set_z3_leaf_module

    for name in module._names:
        if name.split(".")[0] in ("backbone", "encoders"):
            for blocks in module.get_submodule(module_name(name)).modules():
                if isinstance(blocks, nn.ModuleList):
                    for block in blocks:
                        if any(block.children()):  # a bare layer is gathered by itself, and as a leaf its weights are gone again in its backward pass
                            set_z3_leaf_module(block, True)


def master_weights(engine) -> list[Tensor]:
    """This rank's float32 weights as the flat tensors that the optimiser works on."""
    inner = engine.optimizer
    for name in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition"):
        if hasattr(inner, name):
            return list(getattr(inner, name))
    raise AssertionError(f"{type(inner).__name__} keeps no float32 weights that we know")


def trained_names(engine) -> list[str]:
    """Names of the trained weights within `Trainable`."""
    return [name for name, p in engine.module.named_parameters() if p.requires_grad]


def trained_shapes(engine) -> dict[str, list[int]]:
    """Unsharded shape of every trained weight, by name within `Trainable`, in the optimizer's order."""
    return {name: list(getattr(p, "ds_shape", p.shape)) for name, p in engine.module.named_parameters() if p.requires_grad}


def gather_weights(engine) -> dict[str, Tensor]:
    """Every trained weight, unsharded in float32, by name within `Trainable`; on all ranks."""
    from deepspeed.utils import safe_get_full_fp32_param

    return {name: safe_get_full_fp32_param(p).detach().clone() for name, p in engine.module.named_parameters() if p.requires_grad}


def set_weights(engine, weights: Mapping[str, Tensor]) -> None:
    """Write unsharded float32 weights into the master weights (the compute weights keep their rounding until the next step)."""
    from deepspeed.utils import safe_set_full_fp32_param

    for name, p in engine.module.named_parameters():
        if p.requires_grad and name in weights:
            safe_set_full_fp32_param(p, weights[name].to(p.device))


@contextlib.contextmanager
def swap_weights(engine, shards: Sequence[Tensor]) -> Iterator[None]:
    """Context manager: swap the master weights with `shards`, and back on exit."""
    current = master_weights(engine)
    kept = [tensor.detach().clone() for tensor in current]
    with torch.no_grad():
        for tensor, shard in zip(current, shards, strict=True):
            tensor.copy_(shard)
        yield
        for tensor, shard, old in zip(current, shards, kept, strict=True):
            shard.copy_(tensor)
            tensor.copy_(old)


def unwrap(engine) -> None:
    """Release the engine; the trained parts become plain modules with their float32 master weights."""
    weights, module = gather_weights(engine), engine.module
    fresh: dict[int, nn.Parameter] = {}
    for name, p in module.named_parameters():
        value = weights[name] if name in weights else p.detach().float().clone()
        fresh[id(p)] = nn.Parameter(value, requires_grad=p.requires_grad)
    with silence():
        engine.destroy()
    for inner in module.modules():
        inner._parameters = {key: None if p is None else fresh[id(p)] for key, p in inner._parameters.items()}


def same_engine(before: StagePlan, after: StagePlan) -> bool:
    """Whether one engine serves two stages: learning rate, betas and decay can be set on it as it runs, the rest cannot."""
    fixed = ("batch", "micro_batch", "max_grad_norm", "precision", "ema")
    return before.zero == after.zero and all(getattr(before.train, key) == getattr(after.train, key) for key in fixed)
