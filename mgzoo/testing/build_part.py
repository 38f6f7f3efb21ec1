"""How the laws build the part under test, and move its weights away from their first values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mgzoo.old_names import accepted_arguments
from mgzoo.testing.component_under_test import Subject
from mgzoo.testing.inputs import SEED, generator


def build_part(subject: Subject, seed: int = 0, /, *, device: str = "cpu", config: Any = None, **wires: Any) -> Any:
    """The part as a recipe builds it: from its config and a seed of its weights, the caller's random state left alone. Modules in eval mode.

    wires: what it is built with besides, in place of `Subject.wires`, e.g. the ``seed`` of a data stream."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        part = subject.target(config or subject.config, **accepted_arguments(subject.target, {**subject.wires(), **wires}))
    return part.eval() if isinstance(part, nn.Module) else part


@torch.no_grad()
def perturb_weights(part: Any, seed: int = SEED, but: Sequence[str] = ()) -> Any:
    """Move every weight a little: what starts at zero (gates, last layers, nulls) would hide whatever lies behind it. but: names left alone."""
    draw = generator(seed)
    for name, weight in part.named_parameters() if isinstance(part, nn.Module) else ():
        noise = torch.randn(weight.shape, generator=draw).to(weight)
        if name not in but:
            weight.add_(0.02 * noise)
    return part


def build_perturbed(subject: Subject, seed: int = 0, **wires: Any) -> Any:
    """A part as `build_part` makes it, every weight moved."""
    return perturb_weights(build_part(subject, seed, **wires))
