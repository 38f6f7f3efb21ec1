"""The toy of `toy_training.py` with an adapter on its backbone, and a worker like that one's: ``adapter_training.py FILE.json``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.append(str(Path(__file__).parent))
import toy_training as toy  # noqa: E402

from mgzoo.model.lora import (
    adapter_state_dict,
    attach_adapter,  # noqa: E402
)
from mgzoo.recipe.schema import (
    Adapter,
    Zero,  # noqa: E402
)
from mgzoo.train import distributed, loop  # noqa: E402
from mgzoo.train.lr_schedule import learning_rate  # noqa: E402


def adapted(dropout: float = 0.0) -> toy.Model:
    """The toy with an adapter of rank 3 on two of its layers; its own dropout is 0.1, and must not be at work."""
    model = toy.Model()
    torch.manual_seed(1)
    attach_adapter(model.backbone, Adapter(rank=3, alpha=6, targets=["into", "out"], dropout=dropout))
    return model


def job(out, *, resume=False, interrupt=None, dropout=0.0, stage=1, **plan):
    """One training in this process, the encoder frozen."""
    rank_info, model = distributed.init_distributed(), adapted(dropout)
    if rank_info.rank:  # rank 0's adapter counts, whatever the others begin with
        for tensor in adapter_state_dict(model.backbone).values():
            tensor += 1
    # A threshold of 0: under stage 3 the small matrices too are cut over the ranks.
    zero = Zero(stage=stage, persistence_threshold=0)
    spans = [dataclasses.replace(span, zero=zero) for span in toy.spans(frozen=[("encoders.shift",)], **plan)]
    run = loop.run(model, spans, lambda span: toy.Points(rank_info.rank, rank_info.world_size, interrupt), out, rank_info=rank_info, seed=3, resume=resume, write=toy.save)
    return run, model


def plain_loop(*, steps=20, micro_batch=8, **train):
    """The same training, without dropout, as a page of plain PyTorch: (losses, gradient norms, averaged adapter)."""
    span, model = toy.spans(steps=steps, **train)[0], adapted().eval()
    model.encoders.requires_grad_(False)
    learns = {key: p for key, p in model.backbone.named_parameters() if p.requires_grad}
    adam = torch.optim.AdamW(learns.values(), betas=span.train.betas, weight_decay=span.train.weight_decay)
    average = {key: p.detach().clone() for key, p in learns.items()}
    stream, losses, norms = toy.Points(0, 1).batches(micro_batch), [], []
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
        norms.append(float(nn.utils.clip_grad_norm_(learns.values(), span.train.max_grad_norm)))
        losses.append(total)
        adam.step()
        adam.zero_grad()
        decay = min(span.train.ema.decay, (1 + step) / (10 + step))
        for key, p in learns.items():
            average[key] = decay * average[key] + (1 - decay) * p.detach()
    return losses, norms, average


def main(path: str) -> None:
    torch.set_num_threads(1)
    for name, settings in json.loads(Path(path).read_text()).items():
        job(Path(path).parent / name, **settings)


if __name__ == "__main__":
    main(sys.argv[1])
