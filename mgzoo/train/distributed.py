"""The ranks of a run: joining the process group, reductions of Python values over the ranks, and random seeds that do not depend on the rank."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from blake3 import blake3

from mgzoo.precision import preferred

TIMEOUT = timedelta(hours=2)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


@dataclass(frozen=True, kw_only=True)
class RankInfo:
    """The rank of this process among `world_size` processes, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def init_distributed() -> RankInfo:
    """Join the process group that the launcher (`torchrun`, `deepspeed`) describes, or be a group of one: no port is opened then."""
    cuda = torch.cuda.is_available()
    if not cuda:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    local = int(os.environ.setdefault("LOCAL_RANK", "0"))
    if cuda:
        torch.cuda.set_device(local)
    backend = "nccl" if cuda else "gloo"
    if "RANK" not in os.environ and not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1, timeout=TIMEOUT)
    warnings.filterwarnings("ignore", message=".*torch.distributed.*deprecated", category=FutureWarning)  # DeepSpeed's own calls
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.ERROR)
    # Sums of inference in shared memory: training uses none, and without a compiler building it fails.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    with silence():
        deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False, timeout=TIMEOUT)
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if not cuda:
        keep_freed_memory()
        if torch.distributed.get_world_size() > 1:
            from mgzoo.train.cpu_collectives import GlooBackend

            deepspeed.comm.comm.cdb = GlooBackend(TIMEOUT)
    return RankInfo(rank=torch.distributed.get_rank(), world_size=torch.distributed.get_world_size(), device=device)


def keep_freed_memory() -> bool:
    """Let glibc keep what this process frees, for its next tensors; False where there is no glibc.

    By default it maps every large tensor anew and the kernel fills it page by page: an eighth of a CPU step of 18 M parameters, and
    most of the engine's own copying. The price is a resident set that stays near its highest point.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(M_MMAP_THRESHOLD, 2**30) and libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError):
        return False


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Context manager: suppress the output of DeepSpeed and its compiler."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        for fd, saved in enumerate(kept, start=1):
            os.dup2(saved, fd)
            os.close(saved)


def on_first_rank(rank_info: RankInfo, ask: Callable[[], Any]) -> Any:
    """Broadcast the result of `ask` on rank 0; an exception is raised on all ranks."""
    answer: list = [None, None]
    if rank_info.is_first:
        try:
            answer[0] = ask()
        except Exception as error:
            answer[1] = error
    if rank_info.world_size > 1:
        torch.distributed.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def seeded_generator(device: torch.device, *key) -> torch.Generator:
    """A generator whose seed is made of `key`; torch's and Python's global generators are seeded beside it."""
    digest = blake3(repr(key).encode()).digest(length=16)
    own, general = (int.from_bytes(digest[i : i + 8], "little") >> 1 for i in (0, 8))
    torch.manual_seed(general)
    random.seed(general)
    return torch.Generator(device=device).manual_seed(own)


def reduce_status(rank_info: RankInfo, loss: float, received: int) -> tuple[float, int]:
    """(mean loss over the ranks, the signal that any of them received or 0)."""
    if rank_info.world_size == 1:
        return loss, received
    mine = torch.tensor([loss, received], dtype=torch.float64, device=rank_info.device)
    every = [torch.empty_like(mine) for _ in range(rank_info.world_size)]
    torch.distributed.all_gather(every, mine)
    return sum(float(one[0]) for one in every) / rank_info.world_size, max(int(one[1]) for one in every)


def common_precision(rank_info: RankInfo) -> str:
    """The precision for ``train.precision: auto``: bf16 if the devices of all ranks have bf16 instructions."""
    every: list = [None] * rank_info.world_size
    torch.distributed.all_gather_object(every, preferred(rank_info.device.type))
    return "bf16" if set(every) == {"bf16"} else "fp32"


def any_rank(rank_info: RankInfo, flag: bool) -> bool:
    """Whether the flag is true on any rank."""
    mine = torch.tensor([float(flag)], device=rank_info.device)
    torch.distributed.all_reduce(mine, torch.distributed.ReduceOp.MAX)
    return bool(mine.item())


def reduce_counts(rank_info: RankInfo, numbers: Mapping[str, Any], how: Callable[[list], Any]) -> dict[str, Any]:
    """Each number's `how` (sum, max, a mean) over the ranks that have it, in order of name."""
    every: list = [dict(numbers)] * rank_info.world_size
    if rank_info.world_size > 1:
        torch.distributed.all_gather_object(every, dict(numbers))
    return {name: how([one[name] for one in every if name in one]) for name in sorted({name for one in every for name in one})}


def mean_over_ranks(rank_info: RankInfo, terms: Mapping[str, float]) -> dict[str, float]:
    """Each term's mean over the ranks that have it."""
    every: list = [None] * rank_info.world_size
    torch.distributed.all_gather_object(every, dict(terms))
    names = dict.fromkeys(name for one in every for name in one)
    return {name: sum(values) / len(values) for name in names if (values := [one[name] for one in every if name in one])}
