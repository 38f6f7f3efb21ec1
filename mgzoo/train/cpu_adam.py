"""DeepSpeed's CPUAdam, the optimizer of CPU training: compiled once for each environment, and made exact across a resume."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from blake3 import blake3
from filelock import FileLock, Timeout

from mgzoo.train import interrupt
from mgzoo.train.distributed import silence


def build_cpu_adam() -> None:
    """Compile DeepSpeed's CPUAdam for this environment, where the first training would do it (`make setup`)."""
    use_own_ninja()
    if shutil.which("g++") is None or shutil.which("ninja") is None:
        print("! no g++ or ninja: DeepSpeed's CPU optimizer is not compiled, training uses torch's AdamW", file=sys.stderr, flush=True)
        return
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # what is asked for is the CPU's, whatever else is here
    with build_lock(), silence():
        from deepspeed.ops.op_builder import CPUAdamBuilder

        CPUAdamBuilder().load(verbose=False)


def use_own_ninja() -> None:
    """Put the ninja that pip installed beside this Python first on the path.

    The path need not have any; and two versions of ninja that take turns build everything anew, a minute or two each time.
    """
    own = Path(sys.executable).parent / "ninja"
    if own.exists() and shutil.which("ninja") != str(own):
        os.environ["PATH"] = os.pathsep.join([str(own.parent), os.environ.get("PATH", "")])


@contextlib.contextmanager
def build_lock() -> Iterator[None]:
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
            with interrupt.exit_at_once():
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


def release_stale_build(older_than: float) -> None:
    """Remove the lock of a CPUAdam build that was killed: torch would wait for it forever, and in silence.

    older_than: seconds; 0 where its owner is known to have died. A younger one (of a program that is not ours) is said, and waited for.
    """
    root = build_root()
    for lock in (*root.glob("cpu_adam/lock"), *root.glob("*/cpu_adam/lock")):
        age = time.time() - lock.stat().st_mtime
        if age >= older_than:
            lock.unlink(missing_ok=True)
            print(f"! removed {lock} of a killed build", file=sys.stderr, flush=True)
        else:
            print(f"waiting for another process to build DeepSpeed's CPUAdam; if there is none, remove {lock}", file=sys.stderr, flush=True)


@functools.cache
def exact_cpu_adam() -> type:
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
