"""A distribution whose perfect model is known, whatever an objective has its models predict.

Data are independent normal numbers, of mean `MEAN` (one per channel) and deviation `SD`. An objective that mixes them with noise as
x_t = a x1 + s x0 and has the model predict c x1 + d x0 is known by its a, s, c and d, which `pair` tells when asked for zeros and ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mgzoo.discovery import discover
from mgzoo.testing import inputs, reference
from mgzoo.testing.component_under_test import Subject

MEAN, SD = (10.0, -6.0, 4.0, 8.0), 0.1
SHAPE = (64, 4, 1, 2, 2)
FAR, WIDE = 0.1, 0.5
"""How far the mean of a channel may end from its own, and how wide the samples may lie around it (their deviation)."""


def perfect_model(objective) -> Callable[[Tensor, Tensor], Tensor]:
    """The model (x (B, 4, *axes), t (B,)) -> prediction that the objective's loss is least for."""

    def mixed(value: float, t: float) -> tuple[Tensor, Tensor]:
        noisy, _, target = objective.pair(torch.full((1, 64), value), inputs.generator(), t=torch.tensor([t]))
        return noisy.double(), target.double()

    def predict(x: Tensor, t: Tensor) -> Tensor:
        time = float(t[0])
        noise, (noisy0, target0), (noisy1, target1) = mixed(0.0, 0.0)[0], mixed(0.0, time), mixed(1.0, time)
        s, d = ((y * noise).sum() / noise.square().sum() for y in (noisy0, target0))
        a, c = (noisy1 - noisy0).mean(), (target1 - target0).mean()
        mean = torch.tensor(MEAN, dtype=torch.float64).view(-1, *[1] * (x.ndim - 2))
        away = (x.double() - a * mean) / (a**2 * SD**2 + s**2)
        return (c * (mean + a * SD**2 * away) + d * s * away).to(x.dtype)

    return predict


def channel_moments(objective, sampler) -> tuple[Tensor, Tensor]:
    """What the sampler makes of the perfect model: (mean, deviation around the true mean) of each channel."""
    predict = perfect_model(objective)
    found = sampler.sample(lambda x, t, branches: [predict(x, t) for _ in branches], SHAPE, inputs.generator(5))
    channels = found.double().movedim(1, 0).flatten(1)
    return channels.mean(1), (channels - torch.tensor(MEAN, dtype=torch.float64)[:, None]).square().mean(1).sqrt()


def compatible_components(subject: Subject, kind: str, fits: Callable) -> list[Subject]:
    """Components of another kind whose tiny config fits: the kit's own, else those installed, of the same plugin first."""
    own = Subject(component=reference.COMPONENTS[kind], namespace="reference")
    if fits(own.config):
        return [own]
    registry = discover()
    found = sorted(registry.kind(kind), key=lambda one: (one.namespace != subject.namespace, one.id))
    return [one for one in (Subject(component=one, namespace=one.namespace) for one in found) if fits(one.config)][:1]
