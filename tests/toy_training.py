"""A toy of the training loop's world, and a worker that runs lists of trainings in one process (one rank of it).

The model is a small flow-matching regressor on 8 numbers, with a second part that shifts the data and weights that nothing
uses. ``python toy_training.py FILE.json`` runs the jobs listed in the file one after the other, into folders beside it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from mgzoo.parts import Clip, Example, Loss
from mgzoo.recipe.schema import Ema, Train, Zero
from mgzoo.train import distributed, loop
from mgzoo.train.lr_schedule import learning_rate
from mgzoo.train.stages import StagePlan

WIDTH = 8


class Net(nn.Module):
    def __init__(self, dropout: float = 0.1):
        super().__init__()
        self.into, self.norm, self.drop, self.out = nn.Linear(WIDTH + 1, 24), nn.LayerNorm(24), nn.Dropout(dropout), nn.Linear(24, WIDTH)
        self.spare = nn.Linear(3, 5)  # never used: ZeRO must bear it

    def forward(self, x, t):
        hidden = torch.cat([x, t[:, None]], 1).to(self.into.weight.dtype)
        return self.out(self.drop(torch.relu(self.norm(self.into(hidden)))))


class Shift(nn.Module):
    """A learned shift of the data, with running statistics in a buffer."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(WIDTH))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.seen += len(x)
        return x + self.shift.float()


class Flow:
    """Velocity regression. poison: the data is NaN from that clip on. still: no random draws, so that batches can be cut at will."""

    def __init__(self, poison: int | None = None, still: bool = False):
        self.poison, self.still, self.started, self.finished = poison, still, 0, 0

    def trained(self, model):
        return ["backbone", "encoders.shift"]

    def prepare(self, model, clips):
        latents = torch.stack([clip.load() for clip in clips])
        if self.poison is not None and int(clips[0].key) >= self.poison:
            latents = latents * float("nan")
        return Example(latents=latents)

    def loss(self, model, example, generator):
        x1 = model.part("encoders.shift")(example.latents)
        x0, t = torch.randn(x1.shape, generator=generator), torch.rand(len(x1), generator=generator)
        if self.still:
            x0, t = torch.cos(3 * x1.detach()), torch.full((len(x1),), 0.5)
        noisy = (1 - t)[:, None] * x0 + t[:, None] * x1
        loss = (model.backbone(noisy, t).float() - (x1 - x0)).square().mean()
        return Loss(total=loss, terms={"flow": loss.detach()})

    def validate(self, model, example, generator):
        return {"loss": float(self.loss(model, example, generator).total)}

    def start(self, model, examples):
        self.started = sum(1 for _ in zip(range(3), examples))

    def finish(self, model, examples):
        self.finished = len(examples)


class Points:
    """An endless stream of points on a curve; clip i of the run is the same whoever reads it. `interrupt`: {batch: signal, or ``raise R``
    for an error of the disk on rank R}."""

    def __init__(self, rank: int, world: int, interrupt=None):
        self.rank, self.world, self.position, self.interrupt = rank, world, 0, interrupt or {}

    def clip(self, i: int) -> Clip:
        def load():
            return torch.sin(torch.arange(WIDTH) * (1 + (i * 37 % 64) / 16))

        return Clip(key=str(i), digest=str(i), caption="", frames=1, height=1, width=WIDTH, fps=1.0, load=load)

    def batches(self, size):
        while True:
            m = self.position * self.world + self.rank
            if str(self.position) in self.interrupt:
                what, _, rank = self.interrupt[str(self.position)].partition(" ")
                if what != "raise":
                    os.kill(os.getpid(), getattr(signal, what))
                elif int(rank) == self.rank:
                    raise OSError(5, "the disk went away", f"clip{m}.mp4")
            self.position += 1
            yield [self.clip(m * size + j) for j in range(size)]

    def held_out(self):
        return [self.clip(10_007 + i) for i in range(8)]

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class Model(nn.Module):
    def __init__(self, dropout: float = 0.1, **task):
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.encoders, self.task, self.recipe = Net(dropout), nn.ModuleDict({"shift": Shift()}), Flow(**task), None

    def part(self, name):
        role, _, key = name.partition(".")
        return self.encoders[key] if key else getattr(self, role)

    def part_names(self):
        return ["backbone", "encoders.shift"]

    def clear_fingerprints(self):
        """Nothing here is cached."""


def spans(settings=({},), *, steps: int = 20, stage: int = 1, frozen=((),), **train) -> list[StagePlan]:
    """Consecutive stages of `steps` steps, each the common train settings with its own on top."""
    ema = Ema(decay=train.pop("ema", 0.9), every=train.pop("every", 1))
    common = {"batch": 8, "lr": 1e-2, "warmup": 4, "precision": "fp32", "log_every": 1, "ema": ema, **train}
    return [
        StagePlan(
            index=i,
            name=f"stage{i}",
            start=i * steps,
            end=(i + 1) * steps,
            lr_start=0,
            lr_end=len(settings) * steps,
            train=Train(**{**common, **own}),
            zero=Zero(stage=stage),
            frozen=frozenset(frozen[i] if i < len(frozen) else ()),
        )
        for i, own in enumerate(settings)
    ]


def save(model, folder, *, state, metrics, curve):
    """The artifact of a toy: one safetensors file."""
    from safetensors.torch import save_file

    Path(folder).mkdir(exist_ok=True)
    save_file({f"{name}/{key}": value.contiguous() for name, part in state.items() for key, value in part.items()}, Path(folder) / "toy.safetensors")


def job(out, *, resume=False, interrupt=None, dropout=0.1, task=None, write=save, stream=Points, model=None, hook=None, **plan):
    """Run one training in this process; returns its `Run` and the model."""
    rank_info, model = distributed.init_distributed(), model or Model(dropout, **(task or {}))
    if rank_info.rank:  # rank 0's weights count, whatever the others begin with
        for p in model.parameters():
            p.data += 1
    run = loop.run(
        model, spans(**plan), lambda span: stream(rank_info.rank, rank_info.world_size, interrupt), out, rank_info=rank_info, seed=3, resume=resume, write=write, hook=hook
    )
    return run, model


def plain_loop(*, steps=20, micro_batch=8, **train):
    """The same training as a page of plain PyTorch, without dropout: (losses, gradient norms, averaged weights)."""
    span, model = spans(steps=steps, **train)[0], Model(dropout=0.0)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": span.train.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, betas=span.train.betas)
    average = {key: p.detach().clone() for key, p in model.named_parameters()}
    stream, losses, norms = Points(0, 1).batches(micro_batch), [], []
    turns = span.train.batch // micro_batch
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = learning_rate(span, step)
        total = 0.0
        for m in range(turns):
            generator = distributed.seeded_generator(torch.device("cpu"), 3, step, m)
            loss = model.task.loss(model, model.task.prepare(model, next(stream)), generator).total / turns
            loss.backward()
            total += loss.item()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), span.train.max_grad_norm)))
        losses.append(total)
        adam.step()
        adam.zero_grad()
        decay = min(span.train.ema.decay, (1 + step) / (10 + step))
        for key, p in model.named_parameters():
            average[key] = decay * average[key] + (1 - decay) * p.detach()
    return losses, norms, average


def main(path: str) -> None:
    torch.set_num_threads(1)
    for name, settings in json.loads(Path(path).read_text()).items():
        job(Path(path).parent / name, **settings)


if __name__ == "__main__":
    main(sys.argv[1])
