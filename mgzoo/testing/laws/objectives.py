"""Laws of objectives."""

from __future__ import annotations

import unittest

import torch

from mgzoo.testing import inputs, known_distribution, outputs
from mgzoo.testing.build_part import build_part
from mgzoo.testing.component_under_test import Subject, require

NOISE, DATA = 0.1, 0.3
"""Relative distances: of what is noise at t = 0 from standard noise, and of what is data at t = 1 from the latents."""


def pairs_are_as_specified(subject: Subject) -> None:
    """pair gives float32 noisy latents and targets in the latents' shape and times (B,) in [0, 1]; a list gives lists; a time that is given
    is kept."""
    part = build_part(subject)
    latents = torch.randn(5, 4, 1, 2, 2, generator=inputs.generator())
    asked = torch.linspace(0, 1, 5)
    for given, t in ((latents, None), (latents, asked), (list(latents), None), ([latents[0], latents[1, :, :, :1]], asked[:2])):
        noisy, times, target = part.pair(given, inputs.generator(1), t=t)
        what = "a list" if isinstance(given, list) else "a tensor"
        for name, found in (("noisy latents", noisy), ("target", target)):
            require(isinstance(found, list) == isinstance(given, list), f"for {what} of latents the {name} is a {type(found).__name__}")
            require([tuple(x.shape) for x in found] == [tuple(x.shape) for x in given], f"the {name} has another shape than the latents")
            require(all(x.dtype == torch.float32 and x.isfinite().all() for x in found), f"the {name} is not finite float32")
        require(times.shape == (len(given),) and bool(((times >= 0) & (times <= 1)).all()), f"the times are {times}, not {len(given)} in [0, 1]")
        require(t is None or torch.allclose(times.float(), t), f"asked for the times {asked}, it gives {times}")
        loss = part.loss([x + 0.5 for x in target] if isinstance(target, list) else target + 0.5, target, times)
        require(loss.shape == () and loss.dtype == torch.float32 and loss.isfinite(), f"the loss is {loss}, no finite float32 scalar")


def time_runs_from_noise_to_data(subject: Subject) -> None:
    """At t = 0 nothing is left of the latents but standard noise, at t = 1 nearly nothing but the latents."""
    part, latents = build_part(subject), torch.randn(8, 4, 4, 8, 8, generator=inputs.generator())

    def noisy(latents, time: float):
        return part.pair(latents, inputs.generator(1), t=torch.full((8,), time))[0]

    blank = noisy(torch.zeros_like(latents), 0.0)
    far = outputs.relative_distance(noisy(latents, 0.0), blank)
    require(far <= NOISE, f"at t = 0 the latents still show (relative L2 {far:.2g}); t runs from 0, noise, to 1, data")
    require(abs(blank.std().item() - 1) <= NOISE, f"at t = 0 the noise has deviation {blank.std().item():.3g}, not 1")
    far = outputs.relative_distance(noisy(latents, 1.0), latents)
    require(far <= DATA, f"at t = 1 it is {far:.2g} (relative L2) away from the latents; t runs from 0, noise, to 1, data")


def loss_is_least_at_the_target(subject: Subject) -> None:
    """The loss of the target itself is least, and every sample of a batch counts."""
    part = build_part(subject)
    _, t, target = part.pair(torch.randn(4, 4, 1, 2, 2, generator=inputs.generator()), inputs.generator(1), t=torch.tensor([0.2, 0.4, 0.6, 0.8]))
    least = part.loss(target, target, t).item()
    for i in range(4):
        worse = target.clone()
        worse[i] += 0.5
        require(part.loss(worse, target, t).item() > least + 1e-6, f"a prediction wrong in sample {i} alone costs no more than the target")


def sampling_gives_the_target_back(subject: Subject) -> None:
    """A model that predicts perfectly what this objective trains it for gives a known distribution back, through a sampler that accepts the
    prediction."""
    predicts = subject.config.prediction_type()
    samplers = known_distribution.compatible_components(subject, "sampler", lambda config: predicts in config.prediction_types())
    if not samplers:
        raise unittest.SkipTest(f"no installed sampler accepts {predicts}")
    agree(build_part(subject), build_part(samplers[0]), f"sampled with {samplers[0]}")


def agree(objective, sampler, how: str) -> None:
    mean, wide = known_distribution.channel_moments(objective, sampler)
    off = (mean - torch.tensor(known_distribution.MEAN, dtype=torch.float64)).abs().max().item()
    require(off <= known_distribution.FAR, f"{how}, a perfect model of data with means {known_distribution.MEAN} gives {[round(m, 2) for m in mean.tolist()]}")
    require(wide.max().item() <= known_distribution.WIDE, f"{how}, a perfect model of data of deviation {known_distribution.SD} gives {wide.max().item():.2g}")


LAWS = [pairs_are_as_specified, time_runs_from_noise_to_data, loss_is_least_at_the_target, sampling_gives_the_target_back]
