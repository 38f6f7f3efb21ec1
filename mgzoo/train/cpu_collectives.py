"""ZeRO's large collectives on a CPU, out of plain sends and receives.

Gloo's own take two to five times as long on two ranks: its sum of a model's gradients longer than that model's forward pass. Here each
rank sends each other rank that one's share, once, in the type that it is in, and the owner sums what it got in float32: (n - 1) / n of
the tensor crosses the wire, at half of float32's width where gradients are bfloat16. Our choice; measured by benchmarks/zero.py.
Everything else stays gloo's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from deepspeed.comm.torch import TorchBackend
from torch import Tensor, distributed
from torch.distributed import Work


class GlooBackend(TorchBackend):
    """DeepSpeed's backend over torch.distributed, with another reduce-scatter and all-gather. Sums only."""

    def __init__(self, timeout):
        super().__init__("gloo", timeout, None)

    def reduce_scatter_tensor(self, output_tensor, input_tensor, op=None, group=None, async_op=False):
        """Sum over the ranks share r of `input_tensor` into `output_tensor` of rank r (which may be that share)."""
        me, peers = group_ranks(group)
        shares = input_tensor.view(len(peers), -1)
        others, works = start_receiving(output_tensor, peers, group)
        works += [distributed.isend(share, peer, group=group) for share, peer in zip(shares, peers, strict=True) if peer != me]
        Works(works).wait()
        mine = shares[peers.index(me)]
        if mine.data_ptr() != output_tensor.data_ptr():
            output_tensor.copy_(mine.view_as(output_tensor))
        add_in_float32(output_tensor, others)
        return Works(())

    def all_gather_into_tensor(self, output_tensor, input_tensor, group=None, async_op=False):
        """Every rank's `input_tensor`, one after the other, in `output_tensor` (of which it may be a share)."""
        me, peers = group_ranks(group)
        works = []
        for share, peer in zip(output_tensor.view(len(peers), -1), peers, strict=True):
            if peer != me:
                works.append(distributed.irecv(share, peer, group=group))
                works.append(distributed.isend(input_tensor, peer, group=group))
            elif share.data_ptr() != input_tensor.data_ptr():
                share.copy_(input_tensor.view(-1))
        done = Works(works)
        if not async_op:
            done.wait()
        return done


class Works:
    """A handle on several sends and receives."""

    def __init__(self, works: Sequence[Work]):
        self.works = works

    def wait(self) -> None:
        for work in self.works:
            work.wait()


def group_ranks(group) -> tuple[int, list[int]]:
    """(this rank, all ranks of `group`)."""
    return distributed.get_rank(), distributed.get_process_group_ranks(group or distributed.group.WORLD)


def start_receiving(like: Tensor, peers: Sequence[int], group) -> tuple[list[Tensor], list[Work]]:
    """A tensor like `like` from each of the peers but this one, not yet there, and what to wait for."""
    peers = [peer for peer in peers if peer != distributed.get_rank()]
    others = [torch.empty(like.numel(), dtype=like.dtype) for _ in peers]
    return others, [distributed.irecv(other, peer, group=group) for other, peer in zip(others, peers, strict=True)]


def add_in_float32(total: Tensor, others: Sequence[Tensor]) -> None:
    """Add the others to `total`, rounding once: two bfloat16 numbers are summed in float32 by torch, more of them here."""
    wide = total.float() if len(others) > 1 and total.dtype != torch.float32 else total
    for other in others:
        wide.add_(other.view_as(total))
    if wide is not total:
        total.copy_(wide)


def reduce_at_owners(optimizer) -> None:
    """Let ZeRO 1 and 2 (with `reduce_scatter`, without `use_multi_rank_bucket_allreduce`) send each slice of a bucket of gradients to the
    rank that owns it, all slices at once; DeepSpeed's own way sums one owner's after the other's.

    optimizer: DeepSpeed's. It divides a bucket by the ranks and finds the slices (`average_tensor`), and hands over those of one owner
    after the other (`allreduce_no_retain`); here they are only noted, and exchanged when the bucket is through.
    """
    average, found = optimizer.average_tensor, []

    def note(bucket, communication_data_type, rank=None, process_group=None, output_bucket=None, **rest):
        found.extend((rank, process_group, piece, piece.to(communication_data_type), output) for piece, output in zip(bucket, output_bucket, strict=True))

    def average_tensor(tensor, communication_data_type):
        average(tensor, communication_data_type)
        mine, works = [], []
        for owner, group, piece, sent, output in found:
            me, peers = group_ranks(group)
            if peers[owner] != me:
                works.append(distributed.isend(sent, peers[owner], group=group))
            else:
                others, coming = start_receiving(sent, peers, group)
                works += coming
                mine.append((piece, sent, others, output))
        Works(works).wait()
        for piece, total, others, output in mine:
            add_in_float32(total, others)
            if output is not None:  # where several batches are accumulated in float32
                output.add_(total.view_as(output))
            if piece is not total:
                piece.copy_(total)
        found.clear()

    optimizer.allreduce_no_retain, optimizer.average_tensor = note, average_tensor
