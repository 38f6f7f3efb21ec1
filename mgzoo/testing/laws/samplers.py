"""Laws of samplers."""

from __future__ import annotations

import unittest

import torch

from mgzoo.testing import inputs, known_distribution, outputs
from mgzoo.testing.build_part import build_part
from mgzoo.testing.calls import guided_prediction
from mgzoo.testing.component_under_test import Subject, require
from mgzoo.testing.laws.objectives import agree

ALIKE = 1e-4
LINEAR = 1e-3


def samples_are_as_specified(subject: Subject) -> None:
    """It gives float32 latents of the shape asked for, starts from the noise it is given, asks only for times (B,) in [0, 1] and known
    branches, and counts its steps."""
    part, asked, steps = build_part(subject), [], []
    shape, noise = (2, 4, 1, 3, 3), torch.randn(2, 4, 1, 3, 3, generator=inputs.generator())

    def denoise(x, t, branches):
        asked.append((x.clone(), t, list(branches)))
        return [0.5 * torch.tanh(x) + 0.1 * len(dropped) for dropped in branches]

    found = part.sample(denoise, shape, inputs.generator(1), conditions=("text", "style"), noise=noise, on_step=lambda *done: steps.append(done))
    require(found.dtype == torch.float32 and tuple(found.shape) == shape, f"asked for {shape}, it gives {found.dtype} {tuple(found.shape)}")
    require(torch.equal(asked[0][0].float(), noise), "given noise, its first question is about something else")
    for x, t, branches in asked:
        require(tuple(x.shape) == shape and tuple(t.shape) == (2,) and bool(((t >= 0) & (t <= 1)).all()),
                f"it asks for latents {tuple(x.shape)} at the times {t}")
        require(branches and all(isinstance(one, frozenset) and one <= {"text", "style"} for one in branches),
                f"it asks for the branches {branches}; each is a frozenset of names among its `conditions`")
    count = len(steps)
    require(steps == [(i + 1, count) for i in range(count)] and steps, f"on_step was told {steps[:4]}…, not (1, n), (2, n) … (n, n)")


def guidance_of_equal_branches_changes_nothing(subject: Subject) -> None:
    """Where the model answers the same with and without conditions, guidance changes nothing."""
    part = build_part(subject)

    def denoise(x, t, branches):
        return [0.5 * torch.tanh(x) for _ in branches]

    plain, guided = (part.sample(denoise, (2, 4, 1, 3, 3), inputs.generator(), conditions=names) for names in ((), ("text",)))
    far = outputs.relative_distance(guided, plain)
    require(far <= ALIKE, f"equal branches change the sample by {far:.2g} (relative L2): their weights must sum to one")


def a_perfect_model_is_sampled_truly(subject: Subject) -> None:
    """A perfect model of a known distribution, of an objective whose prediction it accepts, gives that distribution back."""
    accepts = subject.config.prediction_types()
    objectives = known_distribution.compatible_components(subject, "objective", lambda config: config.prediction_type() in accepts)
    if not objectives:
        raise unittest.SkipTest(f"no installed objective predicts {' or '.join(accepts)}")
    agree(build_part(objectives[0]), build_part(subject), f"trained with {objectives[0]}")


def guidance_is_linear(subject: Subject) -> None:
    """A guided prediction is a weighted sum of the branches: with predictions that do not depend on the latents, the sample is affine in them."""
    part = build_part(subject)
    shape, noise = (2, 4, 1, 3, 3), torch.randn(2, 4, 1, 3, 3, generator=inputs.generator())

    def sample(*drawn: int) -> torch.Tensor:
        """The sample for the sum of these drawn predictions, each branch's its own."""

        def denoise(x, t, branches):
            return [sum((_drawn(shape, seed, dropped) for seed in drawn), torch.zeros(shape)) for dropped in branches]

        return part.sample(denoise, shape, inputs.generator(1), conditions=("text", "style"), noise=noise.clone()).double()

    none, one, two = sample(), sample(1), sample(2)
    for what, found, expected in (("the sum of two predictions", sample(1, 2), one + two - none), ("twice a prediction", sample(1, 1), 2 * one - none)):
        far = outputs.relative_distance(found - none, expected - none)
        require(far <= LINEAR, f"{what} gives a sample that is {far:.2g} (relative L2) from linear: weigh the branches by numbers alone")


def _drawn(shape, seed: int, dropped: frozenset[str]) -> torch.Tensor:
    return torch.randn(shape, generator=inputs.generator(10 * seed + 2 * ("text" in dropped) + ("style" in dropped)))


def a_sample_is_sampled_alone(subject: Subject) -> None:
    """A sample does not depend on the others in its batch: no statistics over the batch."""
    part, shape = build_part(subject), (3, 4, 1, 3, 3)
    noise = torch.randn(shape, generator=inputs.generator())
    others = torch.cat([noise[:1], torch.randn(shape, generator=inputs.generator(1))[1:]])
    one, two = (part.sample(guided_prediction, shape, inputs.generator(1), conditions=("text",), noise=given)[0] for given in (noise, others))
    far = outputs.relative_distance(two, one)
    require(far <= ALIKE, f"other samples in the batch change a sample by {far:.2g} (relative L2): use no statistics over the batch")


LAWS = [samples_are_as_specified, guidance_of_equal_branches_changes_nothing, guidance_is_linear, a_sample_is_sampled_alone, a_perfect_model_is_sampled_truly]
