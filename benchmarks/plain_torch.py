"""A page of plain PyTorch training, as the training benchmarks hold it against mgzoo's loop: no engine, no stream, no metrics log."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mgzoo.recipe.schema import Train

ROOT = Path(__file__).resolve().parents[1]


class Plain:
    """AdamW (torch's fused one, weight decay on matrices) with clipping and a moving average, at a constant learning rate.

    loss: a batch's rows -> scalar. parts: what it trains, in float32; they are cast here. scheme: how bf16 is done,
    ``masters`` (bf16 weights and gradients, float32 copies that the optimiser works on: what mgzoo's engine does),
    ``autocast`` (float32 weights and gradients, torch.autocast around the loss) or ``fp32``.
    """

    def __init__(self, parts: Sequence[nn.Module], loss: Callable[[Sequence[int]], Tensor], train: Train, scheme: str, ema: bool = True):
        self.loss, self.train, self.scheme, self.updates = loss, train, scheme, 0
        self.weights = [p for part in parts for p in part.parameters() if p.requires_grad]
        self.masters = [p.detach().clone().requires_grad_() for p in self.weights] if scheme == "masters" else self.weights
        if scheme == "masters":
            for p in self.weights:
                p.data = p.data.bfloat16()
        matrices, vectors = [p for p in self.masters if p.ndim > 1], [p for p in self.masters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": train.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=train.lr, betas=train.betas, fused=True)
        self.average = [p.detach().clone() for p in self.masters] if ema else None

    def step(self, rows: Sequence[int]) -> float:
        """One step on these rows; the loss."""
        with torch.autocast("cpu", torch.bfloat16) if self.scheme == "autocast" else contextlib.nullcontext():
            loss = self.loss(rows)
        loss.backward()
        if self.scheme == "masters":
            for master, p in zip(self.masters, self.weights, strict=True):
                master.grad = None if p.grad is None else p.grad.float()
                p.grad = None
        nn.utils.clip_grad_norm_(self.masters, self.train.max_grad_norm)
        self.adam.step()
        self.adam.zero_grad()
        with torch.no_grad():
            if self.scheme == "masters":
                torch._foreach_copy_(self.weights, self.masters)
            if self.average is not None:
                decay = min(self.train.ema.decay, (1 + self.updates) / (10 + self.updates))
                torch._foreach_lerp_(self.average, [p.detach() for p in self.masters], 1 - decay)
                self.updates += 1
        return loss.item()


def few_clips(folder: Path, count: int) -> Path:
    """The first `count` clips of data/emoji64 with their captions as one shard in `folder`, so that encoding them all takes seconds."""
    shard = folder / "few.tar"
    with tarfile.open(sorted((ROOT / "data/emoji64").glob("*.tar"))[0]) as whole, tarfile.open(shard, "w") as few:
        keys: set[str] = set()
        for member in whole:
            key = member.name.rpartition(".")[0]
            if key not in keys and len(keys) == count:
                break
            keys.add(key)
            few.addfile(member, whole.extractfile(member))
    return shard
