"""Training: one loop, one engine.

``mgzoo.train(recipe, out="runs/first")`` works although `mgzoo.train` is a package: the module itself can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType


class _Callable(ModuleType):
    def __call__(self, recipe, out, resume: bool = False, model=None, accept_changes: bool = False, force: bool = False):
        return train(recipe, out, resume=resume, model=model, accept_changes=accept_changes, force=force)


def train(recipe, out, resume: bool = False, model=None, accept_changes: bool = False, force: bool = False):
    """Train a recipe into the run folder `out` and return a `Run`; see `mgzoo.train.loop.train`."""
    from mgzoo.train import loop

    return loop.train(recipe, out, resume=resume, model=model, accept_changes=accept_changes, force=force)


def average_checkpoints(folders):
    """Mean of several models' weights; see `mgzoo.train.checkpoint_averaging.average_checkpoints`."""
    from mgzoo.train import checkpoint_averaging

    return checkpoint_averaging.average_checkpoints(folders)


sys.modules[__name__].__class__ = _Callable
