"""Sums and gathers of large tensors over ranks, out of sends and receives: what every rank must hold, in processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mgzoo.train import cpu_collectives

RANKS = 3


def worker(path: Path) -> None:
    """One rank: each collective once, and what it gave."""
    import deepspeed

    from mgzoo.train import distributed

    torch.set_num_threads(1)
    rank_info = distributed.init_distributed()
    dist = deepspeed.comm
    assert isinstance(dist.comm.cdb, cpu_collectives.GlooBackend)
    found = {}
    for name, dtype in (("wide", torch.float32), ("narrow", torch.bfloat16)):
        given = torch.randn(RANKS * 40, generator=torch.Generator().manual_seed(rank_info.rank)).to(dtype)
        out, inside = torch.empty(40, dtype=dtype), given.clone()
        dist.reduce_scatter_fn(out, given.clone())
        dist.reduce_scatter_fn(inside.view(RANKS, -1)[rank_info.rank], inside)
        whole, shared = torch.empty_like(given), torch.zeros_like(given)
        dist.allgather_fn(whole, given[:40])
        shared.view(RANKS, -1)[rank_info.rank] = given[:40]
        handle = dist.allgather_fn(shared, shared.view(RANKS, -1)[rank_info.rank], async_op=True)
        handle.wait()
        found[name] = {"given": given, "sum": out, "sum in place": inside.view(RANKS, -1)[rank_info.rank].clone(), "all": whole, "all in place": shared}
    torch.save(found, path / f"{rank_info.rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    """What each of three ranks found."""
    folder = tmp_path_factory.mktemp("gloo")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(RANKS)}
    places = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(RANKS)]
    started = [subprocess.Popen([sys.executable, __file__, str(folder)], env=place) for place in places]
    assert [process.wait() for process in started] == [0] * RANKS
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.parametrize("way", ["sum", "sum in place"])
def test_a_share_of_the_sum_is_rounded_once(ranks, way):
    """In bfloat16 as torch rounds a float32 sum; two roundings, as a ring makes them, would give other numbers."""
    for name in ("wide", "narrow"):
        given = [found[name]["given"] for found in ranks]
        exact = sum(one.float() for one in given).to(given[0].dtype)
        got = torch.cat([found[name][way] for found in ranks])
        assert torch.allclose(got.float(), exact.float(), rtol=1e-6, atol=1e-6) and got.dtype == exact.dtype
        if name == "narrow":
            assert not torch.equal((given[0] + given[1]) + given[2], exact)


@pytest.mark.parametrize("way", ["all", "all in place"])
def test_every_rank_gathers_all_shares(ranks, way):
    for name in ("wide", "narrow"):
        shares = torch.cat([found[name]["given"][:40] for found in ranks])
        for found in ranks:
            assert torch.equal(found[name][way], shares)


def test_two_bfloat16_numbers_are_summed_in_float32():
    """On two ranks no float32 copy is made: torch's own sum must be it."""
    a, b = (torch.randn(10_000, generator=torch.Generator().manual_seed(seed)).bfloat16() for seed in (0, 1))
    total = a.clone()
    cpu_collectives.add_in_float32(total, [b])
    assert torch.equal(total, (a.float() + b.float()).bfloat16())


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
