"""Resumable, rank-elastic order of a data set, shared by all streams of batches.

The stream is one endless sequence of micro-batches that depends only on the seed and the batch size; rank r of W takes every W-th of them.
Its position is therefore one number, valid for any number of ranks.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from blake3 import blake3


def derived_seed(words: str) -> int:
    """A 56-bit seed from words, e.g. ``clips 0 3``."""
    return int.from_bytes(blake3(words.encode()).digest(length=7), "little")


class EpochOrder:
    """Indices in a new order each epoch.

    indices: the sample indices. seed: epoch -> seed of its order, None: the order of `indices`. groups: lists of indices never mixed
    in one micro-batch (sizes of clips); default: one group.
    """

    def __init__(self, indices: Sequence[int], seed: Callable[[int], int] | None, groups: Sequence[Sequence[int]] = ()):
        self.indices, self.seed = list(indices), seed
        self.groups = [list(group) for group in groups or (self.indices,) if group]
        self.group_of = {i: g for g, group in enumerate(self.groups) for i in group}
        self.epoch = lru_cache(maxsize=8)(self._epoch)

    def _epoch(self, number: int) -> list[int]:
        if self.seed is None:
            return self.indices
        generator = torch.Generator().manual_seed(self.seed(number) % 2**64)
        return [self.indices[place] for place in torch.randperm(len(self.indices), generator=generator).tolist()]

    def micro_batches(self, size: int, start: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Micro-batches from number `start` on, as (index, epoch) pairs.

        Each group is a stream of its own, its epochs end to end; a micro-batch is emitted when its group's stream has filled it. The
        number before an epoch is therefore known without iteration.
        """
        lengths = [len(group) for group in self.groups]

        def before(epoch: int) -> int:
            return sum(epoch * n // size for n in lengths)

        epoch = bisect.bisect_right(range((start + 1) * size + 1), start, key=before) - 1
        waiting: list[list[tuple[int, int]]] = [self._tail(g, epoch, epoch * n % size) for g, n in enumerate(lengths)]
        number = before(epoch)
        while True:
            for i in self.epoch(epoch):
                queue = waiting[self.group_of[i]]
                queue.append((i, epoch))
                if len(queue) == size:
                    if number >= start:
                        yield list(queue)
                    number += 1
                    queue.clear()
            epoch += 1

    def _tail(self, group: int, epoch: int, count: int) -> list[tuple[int, int]]:
        """The last `count` entries of a group's stream before `epoch`."""
        tail: list[tuple[int, int]] = []
        while len(tail) < count:
            epoch -= 1
            tail = [(i, epoch) for i in self.epoch(epoch) if self.group_of[i] == group] + tail
        return tail[len(tail) - count :]


class Stream:
    """`batches`, `state_dict` and `load_state_dict` of `mgzoo.parts.Data`, from two methods of a subclass: `micro_batches` and `clips`.

    rank, world: this process and how many there are.
    """

    def __init__(self, rank: int = 0, world: int = 1):
        self.rank, self.world = rank, world
        self.position = {"samples": 0, "size": 1}

    def micro_batches(self, size: int, start: int) -> Iterator[Any]:
        """The contents of the run's micro-batches from number `start`; must be cheap, since every rank iterates over those of all ranks."""
        raise NotImplementedError

    def clips(self, drawn: Any) -> list:
        """The clips of one micro-batch from `micro_batches`."""
        raise NotImplementedError

    def epoch_length(self) -> int | None:
        """Samples in an epoch; None without epochs."""
        return None

    def begin(self) -> None:
        """Called before the first micro-batch: the place to check the data."""

    def batches(self, size: int) -> Iterator[list]:
        """Endless micro-batches of `size` clips from the current position."""
        assert size > 0
        self.begin()
        start = self.position["samples"] // size
        for number, drawn in enumerate(self.micro_batches(size, start), start):
            if (number - start) % self.world == self.rank:
                clips = self.clips(drawn)
                self.position = {"samples": (number - self.rank + self.world) * size, "size": size}
                yield clips

    def state_dict(self) -> dict:
        """epoch: completed epochs. position: micro-batches taken by all ranks together. size: of those."""
        samples, size, length = self.position["samples"], self.position["size"], self.epoch_length()
        return {**({"epoch": samples // length} if length else {}), "position": samples // size, "size": size}

    def load_state_dict(self, state: dict) -> None:
        """Restore the position of `state`; with another batch size, the nearest micro-batch without skipped samples."""
        self.position = {"samples": state["position"] * state["size"], "size": state["size"]}
