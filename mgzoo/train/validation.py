"""Held-out measures while a run trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from mgzoo.train.lr_schedule import update_plateau


def measure_held_out(loop, ask: Callable[..., Mapping[str, float]]) -> dict[str, float]:
    """Mean of the task's held-out measures over the held-out clips, on noise that is the same every time."""
    train = loop.stage.train
    clips = list(loop.data.held_out())[: train.validation_samples]
    sums: dict[str, float] = {}
    with torch.no_grad():
        for first in range(0, len(clips), train.validation_batch):
            batch = clips[first : first + train.validation_batch]
            generator = loop.seeded("validation", first)
            for name, value in ask(loop.model.task.prepare(loop.model, batch), generator).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch) / len(clips)
    return sums


def validate(loop) -> None:
    """Log the held-out measures; the learning rate halves after `train.plateau` validations without improvement."""
    loop.engine.eval()
    held = measure_held_out(loop, lambda example, generator: loop.engine(example, generator, measure=True))
    loop.engine.train()
    if not held:
        return
    loop.metrics |= {f"held_out_{name}": value for name, value in held.items()}
    loop.log({"step": loop.step, "stage": loop.stage.name, "validation": held})
    patience = loop.stage.train.plateau
    if update_plateau(loop.plateau, held["loss"], patience):
        loop.progress.say(f"step {loop.step}: no improvement in {patience} validations, learning rate halved")


def warn_nothing_held_out(loop) -> None:
    """Warn about validation without held-out data."""
    train = loop.stage.train
    if train.validate_every and next(iter(loop.data.held_out()), None) is None:
        plateau = f", and train.plateau={train.plateau} has no effect" if train.plateau else ""
        loop.progress.say(f"! train.validate_every={train.validate_every}: no held-out data, so no validation{plateau}")
