"""The learning rate of every step: warm-up, constant or cosine, and halved on a plateau of the held-out loss."""

from __future__ import annotations

import math

from mgzoo.recipe.schema import Train
from mgzoo.train.stages import StagePlan


def learning_rate(stage: StagePlan, step: int) -> float:
    """Learning rate of 0-based step `step`: linear warm-up to ``train.lr``, then constant or a cosine to ``lr * min_lr_ratio``."""
    train, k, n = stage.train, step - stage.lr_start, stage.lr_end - stage.lr_start
    if k < train.warmup:
        return train.lr * (k + 1) / train.warmup
    if train.schedule == "constant":
        return train.lr
    progress = min(1.0, (k - train.warmup + 1) / max(1, n - train.warmup))
    return train.lr * (train.min_lr_ratio + (1 - train.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))


def new_plateau(factor: float = 1.0) -> dict:
    """The state of `train.plateau`. factor: what the learning rate is multiplied by. best: lowest held-out loss. waited: validations since."""
    return {"factor": factor, "best": None, "waited": 0}


def update_plateau(plateau: dict, loss: float, patience: int) -> bool:
    """Take in a held-out loss; whether the learning rate has been halved, after `patience` (0: never) validations without improvement."""
    if plateau["best"] is None or loss < plateau["best"]:
        plateau.update(best=loss, waited=0)
        return False
    plateau["waited"] += bool(patience)
    if not patience or plateau["waited"] < patience:
        return False
    plateau.update(factor=plateau["factor"] / 2, waited=0)
    return True


def restored_plateau(state: dict, train: Train) -> dict:
    """Where the plateau stood, as far as it still holds: a new learning rate begins whole, and patience that was not asked for has not been tried."""
    plateau = dict(state["plateau"])
    if state.get("lr", train.lr) != train.lr:
        plateau.update(factor=1.0, best=None, waited=0)
    return plateau
