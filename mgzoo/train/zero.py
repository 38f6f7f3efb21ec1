"""ZeRO: the DeepSpeed configuration made from a recipe, and the engine around the trained parts."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from blake3 import blake3
from filelock import FileLock, Timeout
from torch import Tensor, nn

from mgzoo import adapters
from mgzoo.parts import Example
from mgzoo.schema import Train, Zero
from mgzoo.spec import MgzooError
from mgzoo.train import signals
from mgzoo.train.ranks import Place, silence
from mgzoo.train.stages import StagePlan


def micro_batches(train: Train, world: int) -> tuple[int, int]:
    """(samples per micro-batch, micro-batches per rank and step); raises MgzooError where the batch does not divide."""
    micro = train.micro or max(1, train.batch // world)
    if train.batch % (micro * world):
        raise MgzooError(
            f"train.batch {train.batch} does not divide into micro-batches of {micro} on {world} rank{'s' if world > 1 else ''}",
            remedy=f"make train.batch a multiple of {micro * world}, or set train.micro",
        )
    return micro, train.batch // (micro * world)


def deepspeed_config(train: Train, zero: Zero, world: int, device: str) -> dict:
    """The DeepSpeed configuration of a run: plain dicts only, and nothing that is not in the recipe.

    device: ``cpu`` or ``cuda``. ZeRO stage 0 is run as stage 1. Gradients are accumulated and summed over the ranks in float32. What is
    not accumulated is a bf16 gradient before and after: it travels as such where one rank has nothing to sum, and on a CPU, where
    `mgzoo.train.gloo` sums in float32 whatever it gets.
    """
    assert train.precision != "auto", "what a device computes in is settled before an engine is made (Loop.set_precision)"
    micro, accumulation = micro_batches(train, world)
    stage = max(1, zero.stage)
    sharding = {
        "stage": stage,
        "reduce_bucket_size": zero.bucket,
        "allgather_bucket_size": zero.bucket,
        "contiguous_gradients": world > 1 or stage == 3,  # two copies of every gradient, for sums of whole buckets
        "overlap_comm": device == "cuda",
    }
    if stage == 3:
        sharding["stage3_param_persistence_threshold"] = zero.persistence_threshold
        sharding["stage3_prefetch_bucket_size"] = zero.bucket
    else:
        # On CUDA stages 1 and 2 sum whole buckets over all ranks either way; with it they copy them twice more.
        sharding["reduce_scatter"] = device == "cpu" and world > 1
        sharding["use_multi_rank_bucket_allreduce"] = False
    if zero.offload_optimizer:
        sharding["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    if zero.offload_parameters:
        sharding["offload_param"] = {"device": "cpu", "pin_memory": False}
    bf16 = train.precision == "bf16"
    reduced = "bf16" if bf16 and accumulation == 1 and (world == 1 or device == "cpu") else "fp32"
    return {
        "train_batch_size": train.batch,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": train.clip,
        "bf16": {"enabled": bf16, "check_grad_overflow": False},  # two passes; the loop stops at a norm that is not finite
        "data_types": {"grad_accum_dtype": "fp32"} if bf16 and accumulation > 1 else {},
        "communication_data_type": reduced,
        "zero_optimization": sharding,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }


def key(name: str) -> str:
    """A part's name as a module's name, which may hold neither a dot nor (for the universal format) a slash."""
    return name.replace(".", ":")


class Trainable(nn.Module):
    """What the engine holds: the trained parts, of an adapted one its adapter, and a forward that is the task's loss (or its
    held-out measures)."""

    def __init__(self, model, names: Sequence[str]):
        super().__init__()
        for name in names:
            self.add_module(key(name), adapters.learning(model.part(name)))
        self._model = (model,)  # a tuple, so that the frozen parts are not registered
        self._names = tuple(names)

    def forward(self, example: Example, generator: torch.Generator, measure: bool = False):
        """(total, terms) of the task's loss; with measure, the task's named held-out measures."""
        (model,) = self._model
        if measure:
            return dict(model.task.validate(model, example, generator))
        for name in self._names:
            adapters.seed_dropout(model.part(name), generator.initial_seed())
        loss = model.task.loss(model, example, generator)
        return loss.total, dict(loss.terms)


def optimizer(module: nn.Module, train: Train, zero: Zero, device: str) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices (two axes or more) only: DeepSpeed's on a CPU, torch's fused one on CUDA."""
    weights = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if device == "cuda" and not zero.offload_optimizer:
        return torch.optim.AdamW(groups, lr=train.lr, betas=train.betas, fused=True)
    use_own_ninja()
    if shutil.which("g++") is None or shutil.which("ninja") is None:
        print("! no g++ or ninja: training with torch's AdamW, which is slower than DeepSpeed's CPUAdam", file=sys.stderr, flush=True)
        return torch.optim.AdamW(groups, lr=train.lr, betas=train.betas)
    with building(), silence():
        return cpu_adam()(groups, lr=train.lr, betas=train.betas, adamw_mode=True)


def set_groups(engine, train: Train) -> None:
    """Give a running optimiser the betas and the weight decay of `train`: a checkpoint, and a stage before, brought their own."""
    for group, decays in zip(engine.optimizer.param_groups, engine.decays, strict=True):
        group["betas"] = tuple(train.betas)
        group["weight_decay"] = train.weight_decay if decays else 0.0


def use_own_ninja() -> None:
    """Put the ninja that pip installed beside this Python first on the path.

    The path need not have any; and two versions of ninja that take turns build everything anew, a minute or two each time.
    """
    own = Path(sys.executable).parent / "ninja"
    if own.exists() and shutil.which("ninja") != str(own):
        os.environ["PATH"] = os.pathsep.join([str(own.parent), os.environ.get("PATH", "")])


@contextlib.contextmanager
def building() -> Iterator[None]:
    """While inside, no other process of ours builds DeepSpeed's CPUAdam, or loads it for the first time.

    The kernel lets this lock go when its owner dies, which torch's own does not; the file ``.unfinished`` beside it says that one did.
    """
    root = build_root()
    root.mkdir(parents=True, exist_ok=True)
    own, unfinished = FileLock(root / ".mgzoo-cpu-adam"), root / ".mgzoo-cpu-adam.unfinished"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(own.acquire(timeout=0))
        except Timeout:
            with signals.at_once():
                print("waiting for another process to build DeepSpeed's CPUAdam", file=sys.stderr, flush=True)
                held.enter_context(own.acquire())
        release_stale_build(0.0 if unfinished.exists() else 900.0)
        unfinished.touch()
        if not any(root.rglob("cpu_adam*.so")):
            print("compiling DeepSpeed's CPU optimizer, once, about two minutes", file=sys.stderr, flush=True)
        yield
        unfinished.unlink()


def build_root() -> Path:
    """Where torch builds extensions for this environment: TORCH_EXTENSIONS_DIR, which is set here where it is not.

    Torch's default is one folder for all environments of a user: two that take turns build everything anew each time.
    """
    if not os.environ.get("TORCH_EXTENSIONS_DIR"):
        from torch.utils.cpp_extension import get_default_build_root

        environment = "\0".join((os.path.realpath(sys.prefix), torch.__version__, sys.implementation.cache_tag))
        os.environ["TORCH_EXTENSIONS_DIR"] = str(Path(get_default_build_root()) / f"mgzoo-{blake3(environment.encode()).hexdigest(length=6)}")
    return Path(os.environ["TORCH_EXTENSIONS_DIR"])


def build() -> None:
    """Compile DeepSpeed's CPUAdam for this environment, where the first training would do it (`make setup`)."""
    use_own_ninja()
    if shutil.which("g++") is None or shutil.which("ninja") is None:
        print("! no g++ or ninja: DeepSpeed's CPU optimizer is not compiled, training takes torch's AdamW", file=sys.stderr, flush=True)
        return
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # what is asked for is the CPU's, whatever else is here
    with building(), silence():
        from deepspeed.ops.op_builder import CPUAdamBuilder

        CPUAdamBuilder().load(verbose=False)


def release_stale_build(older_than: float) -> None:
    """Remove the lock of a CPUAdam build that was killed: torch would wait for it forever, and in silence.

    older_than: seconds; 0 where its owner is known to have died. A younger one (of a program that is not ours) is said, and waited for.
    """
    root = build_root()
    for lock in (*root.glob("cpu_adam/lock"), *root.glob("*/cpu_adam/lock")):
        age = time.time() - lock.stat().st_mtime
        if age >= older_than:
            lock.unlink(missing_ok=True)
            print(f"! removed {lock}, left by a build that was killed", file=sys.stderr, flush=True)
        else:
            print(f"waiting for another process to build DeepSpeed's CPUAdam; if there is none, remove {lock}", file=sys.stderr, flush=True)


@functools.cache
def cpu_adam() -> type:
    """DeepSpeed's CPUAdam, made to forget how it came to a step.

    Its C++ side carries beta ** step from call to call and multiplies it on, but computes it anew after a resume: not the
    same last bit. A call with step 0 before each step makes it always compute anew, so that resumed is bit for bit not killed.
    """
    import cpuinfo
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    cpuinfo.get_cpu_info = functools.cache(cpuinfo.get_cpu_info)  # over a second, and every optimiser asks

    class CPUAdam(DeepSpeedCPUAdam):
        @torch.no_grad()
        def step(self, closure=None):
            nothing = [torch.zeros(1) for _ in range(4)]
            self.ds_opt_adam.adam_update(self.opt_id, 0, 0.0, *self.param_groups[0]["betas"], 1.0, 0.0, True, *nothing)
            return super().step(closure)

    return CPUAdam


def start(module: Trainable, train: Train, zero: Zero, place: Place):
    """The DeepSpeed engine around the trained parts: rank 0's weights, as given and not as bf16 rounds them."""
    import deepspeed

    if place.world > 1:
        for tensor in [*module.parameters(), *module.buffers()]:
            torch.distributed.broadcast(tensor.data, 0)
    if zero.stage == 3:
        gather_by_block(module)
    given = {name: p.detach().float().clone() for name, p in module.named_parameters() if p.requires_grad}
    config = deepspeed_config(train, zero, place.world, place.device.type)
    adam = optimizer(module, train, zero, place.device.type)
    decays = [group["params"][0].ndim >= 2 for group in adam.param_groups]  # ZeRO puts flat tensors in their place
    with silence():
        engine, *_ = deepspeed.initialize(model=module, optimizer=adam, config=config)
    engine.decays = decays
    if place.world == 1 and zero.stage < 3:
        engine.optimizer.allreduce_no_retain = lambda *bucket, **rest: None  # a sum over one rank, for which DeepSpeed copies the gradients twice
    elif place.device.type == "cpu" and zero.stage < 3:
        from mgzoo.train import gloo

        gloo.sum_at_owners(engine.optimizer)
    if train.precision == "bf16":
        put(engine, given)
    return engine


def gather_by_block(module: Trainable) -> None:
    """Let ZeRO 3 gather a block of a backbone or an encoder at once, not layer by layer: a fifth of the hooks, which are a tenth of a
    CPU step of 14 M parameters.

    A block is an element of a `ModuleList`, used through its forward and nothing else; autoencoders have other ways into theirs.
    """
    from deepspeed.utils.z3_leaf_module import set_z3_leaf_module

    for name in module._names:
        if name.split(".")[0] in ("backbone", "encoders"):
            for blocks in module.get_submodule(key(name)).modules():
                if isinstance(blocks, nn.ModuleList):
                    for block in blocks:
                        if any(block.children()):  # a bare layer is gathered by itself, and as a leaf its weights are gone again in its backward pass
                            set_z3_leaf_module(block, True)


def masters(engine) -> list[Tensor]:
    """This rank's float32 weights as the flat tensors that the optimiser works on."""
    inner = engine.optimizer
    for name in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition"):
        if hasattr(inner, name):
            return list(getattr(inner, name))
    raise AssertionError(f"{type(inner).__name__} keeps no float32 weights that we know")


def names(engine) -> list[str]:
    """Names within `Trainable` of the weights that learn."""
    return [name for name, p in engine.module.named_parameters() if p.requires_grad]


def shapes(engine) -> dict[str, list[int]]:
    """Whole shape of every weight that learns, by name within `Trainable`, in the optimiser's order."""
    return {name: list(getattr(p, "ds_shape", p.shape)) for name, p in engine.module.named_parameters() if p.requires_grad}


def full(engine) -> dict[str, Tensor]:
    """Every trained weight, whole and in float32, by name within `Trainable`; on all ranks."""
    from deepspeed.utils import safe_get_full_fp32_param

    return {name: safe_get_full_fp32_param(p).detach().clone() for name, p in engine.module.named_parameters() if p.requires_grad}


def put(engine, weights: Mapping[str, Tensor]) -> None:
    """Write whole float32 weights into the masters (the compute weights keep their rounding until the next step)."""
    from deepspeed.utils import safe_set_full_fp32_param

    for name, p in engine.module.named_parameters():
        if p.requires_grad and name in weights:
            safe_set_full_fp32_param(p, weights[name].to(p.device))


@contextlib.contextmanager
def holding(engine, shards: Sequence[Tensor]) -> Iterator[None]:
    """While inside, the masters hold `shards`; on leaving, `shards` take what the masters then hold and the masters are as before."""
    current = masters(engine)
    kept = [tensor.detach().clone() for tensor in current]
    with torch.no_grad():
        for tensor, shard in zip(current, shards, strict=True):
            tensor.copy_(shard)
        yield
        for tensor, shard, old in zip(current, shards, kept, strict=True):
            shard.copy_(tensor)
            tensor.copy_(old)


def release(engine) -> None:
    """Take the engine down and leave the trained parts as plain modules with their float32 masters as weights."""
    weights, module = full(engine), engine.module
    fresh: dict[int, nn.Parameter] = {}
    for name, p in module.named_parameters():
        value = weights[name] if name in weights else p.detach().float().clone()
        fresh[id(p)] = nn.Parameter(value, requires_grad=p.requires_grad)
    with silence():
        engine.destroy()
    for inner in module.modules():
        inner._parameters = {key: None if p is None else fresh[id(p)] for key, p in inner._parameters.items()}


def alike(before: StagePlan, after: StagePlan) -> bool:
    """Whether one engine serves two stages: learning rate, betas and decay can be set on it as it runs, the rest cannot."""
    fixed = ("batch", "micro", "clip", "precision", "ema")
    return before.zero == after.zero and all(getattr(before.train, key) == getattr(after.train, key) for key in fixed)
