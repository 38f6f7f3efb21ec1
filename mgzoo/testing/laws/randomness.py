"""Laws of random numbers and of what a call leaves behind."""

from __future__ import annotations

import inspect

import torch

from mgzoo.testing import inputs, models
from mgzoo.testing.build_part import build_part, build_perturbed
from mgzoo.testing.calls import LATENTS, calls, global_seed, guided_prediction, random_states, tensors
from mgzoo.testing.component_under_test import Subject, require

BATCHES = 8
"""Batches of two clips in which another seed must show."""
GENERATORS = {"objective": "the generator that it is given", "sampler": "the generator that it is given", "task": "the generator or seed that it is given", "data": "a generator of its own, seeded with `seed`"}


@torch.no_grad()
def draws_from_its_generator(subject: Subject) -> None:
    """Random numbers come from the generator (or seed) that is given alone: a call neither reads nor changes a global random state."""
    source = GENERATORS.get(subject.kind)
    remedy = f"draw from {source}" if source else "in eval mode it must draw nothing"
    found = []
    for seed in (1, 2):
        part = build_perturbed(subject)
        with global_seed(seed):
            before, answers = random_states(), []
            for call in calls(subject, part):
                answers.append((call.what, dict(tensors(call.run()))))
                after = random_states()
                changed = [name for name in before if before[name] != after[name]]
                require(not changed, f"{call.what} draws from the global random state of {' and '.join(changed)}, or seeds it: {remedy}")
        found.append(answers)
    for (what, one), (_, two) in zip(*found):
        for name in one:
            same = name in two and one[name].shape == two[name].shape and torch.equal(one[name], two[name])
            require(same, f"{what} gives another {name or 'result'} after another global seed: {remedy}")


@torch.no_grad()
def inputs_are_left_unchanged(subject: Subject) -> None:
    """A call changes no tensor that it is given: latents, times, conditions, noise, media, examples."""
    for call in calls(subject, build_perturbed(subject)):
        before = {name: value.clone() for name, value in tensors(call.given)}
        call.run()
        for name, value in tensors(call.given):
            same = value.shape == before[name].shape and torch.equal(value, before[name])
            require(same, f"{call.what} changes its input{' ' + name if name else ''} in place: work on a copy")


def another_seed_gives_another_result(subject: Subject) -> None:
    """Another generator or seed gives another result: other noise of an objective, other latents of a sampler, other media of a task with a
    sampler, another order of data."""
    if subject.kind == "objective":
        part, latents = build_part(subject), torch.zeros(LATENTS)
        one, two = (part.pair(latents, inputs.generator(seed))[0] for seed in (1, 2))
        require(not torch.equal(one, two), "pair gives the same noise from two generators: draw from the generator that it is given")
    elif subject.kind == "sampler":
        part = build_part(subject)
        one, two = (part.sample(guided_prediction, LATENTS, inputs.generator(seed)) for seed in (1, 2))
        require(not torch.equal(one, two), "sample gives the same latents from two generators: draw from the generator that it is given")
    elif subject.kind == "data":
        one, two = (_order(subject, seed) for seed in (7, 8))
        require(len(set(one)) < 4 or one != two, "two seeds give the clips in the same order: shuffle with `seed`")
    else:
        request = models.possible_request(subject)
        if request is None or "seed" not in inspect.signature(subject.target.generate).parameters or "sampler" not in subject.config.required_parts():
            return
        model = models.model_around(subject, build_part(subject))
        one, two = (dict(tensors(models.answers_to(model, {**request, "seed": seed}))) for seed in (3, 4))
        media = [name for name in one if name.endswith(("video", "audio"))]
        require(any(name not in two or not torch.equal(one[name], two[name]) for name in media), "generate gives the same media for two seeds: pass `seed` on")


another_seed_gives_another_result.kinds = ("objective", "sampler", "task", "data")


def _order(subject: Subject, seed: int) -> list[str]:
    stream = build_part(subject, seed=seed).batches(2)
    return [clip.key for _ in range(BATCHES) for clip in next(stream)]


LAWS = [draws_from_its_generator, inputs_are_left_unchanged, another_seed_gives_another_result]
