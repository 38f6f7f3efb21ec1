"""Resumable, rank-elastic order of a data set: what every stream of batches has in common.

The stream is one endless sequence of micro-batches that depends on the seed and the batch size alone; rank r of W takes every W-th of them
from where the stream stands. Where it stands is therefore one number, good for any number of ranks.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from blake3 import blake3


def derived_seed(words: str) -> int:
    """A seed of 56 bits from words that say what is drawn, e.g. ``clips 0 3``."""
    return int.from_bytes(blake3(words.encode()).digest(length=7), "little")


class EpochOrder:
    """Indices epoch after epoch, each epoch in an order of its own.

    indices: what is drawn. seed: epoch -> seed of its order, None to keep the order of `indices`. groups: lists of indices that are never mixed
    in one micro-batch (sizes of clips); default one group of all.
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

        Each group is a stream of its own, its epochs end to end; a micro-batch comes when its group's stream has filled it. How many
        came before an epoch is thus known without walking there.
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
        """What the run's micro-batches hold, from number `start` on; cheap, since every rank walks through those of all ranks."""
        raise NotImplementedError

    def clips(self, drawn: Any) -> list:
        """The clips of one micro-batch, as `micro_batches` named it."""
        raise NotImplementedError

    def epoch_length(self) -> int | None:
        """Samples in an epoch; None where there are no epochs."""
        return None

    def begin(self) -> None:
        """Called before the first micro-batch is drawn: the place to look at what cannot be trained on."""

    def batches(self, size: int) -> Iterator[list]:
        """Endless micro-batches of `size` clips from where the stream stands."""
        assert size > 0
        self.begin()
        start = self.position["samples"] // size
        for number, drawn in enumerate(self.micro_batches(size, start), start):
            if (number - start) % self.world == self.rank:
                clips = self.clips(drawn)
                self.position = {"samples": (number - self.rank + self.world) * size, "size": size}
                yield clips

    def state_dict(self) -> dict:
        """epoch: times all samples have been seen. position: micro-batches that all ranks together have taken. size: of those."""
        samples, size, length = self.position["samples"], self.position["size"], self.epoch_length()
        return {**({"epoch": samples // length} if length else {}), "position": samples // size, "size": size}

    def load_state_dict(self, state: dict) -> None:
        """Stand where `state` was taken; with another batch size, at the nearest micro-batch that repeats rather than skips."""
        self.position = {"samples": state["position"] * state["size"], "size": state["size"]}
