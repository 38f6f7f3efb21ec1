"""The calls that a part of each kind gets, each with the inputs that it is given, and the tensors in any answer.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from mgzoo.testing import inputs, models
from mgzoo.testing.component_under_test import Subject

LATENTS = (4, 4, 1, 3, 3)  # of an objective or a sampler
DECODED = 8  # clips of a stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a part. what: its name, for messages. given: its inputs. run: makes the call."""

    what: str
    given: Any
    run: Callable[[], Any]


def calls(subject: Subject, part: Any) -> list[Call]:
    """The calls that training and generation make to a part of this kind, on fixed inputs of their own."""
    return CALLS[subject.kind](subject, part)


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in an input or an answer, by its place in it; numbers and texts as tensors too."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, (bool, int, float)):
        yield name, torch.tensor(float(value), dtype=torch.float64)
    elif isinstance(value, str):
        yield name, torch.tensor(list(value.encode()))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from tensors(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from tensors(one, f"{name}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for i, one in enumerate(value):
            yield from tensors(one, f"{name}[{i}]")


def random_states() -> dict[str, Any]:
    """The global random states of this process, in a form that can be compared."""
    import numpy

    _, keys, place, *_ = numpy.random.get_state()
    return {"torch": torch.get_rng_state().numpy().tobytes(), "random": random.getstate(), "numpy": (keys.tobytes(), place)}


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global random states of torch, random and numpy; those of before are put back afterwards."""
    import numpy

    kept, numpys = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        numpy.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(kept)
            numpy.random.set_state(numpys)


def _autoencoder(subject: Subject, part) -> list[Call]:
    size = inputs.media_sizes(subject.latent)[0]
    media = inputs.media(size)
    with torch.no_grad():
        latents = part.encode(media.clone()).float().clone()
    return [Call(what="encode", given=media, run=lambda: part.encode(media)), Call(what="decode", given=latents, run=lambda: part.decode(latents, size))]


def _encoder(subject: Subject, part) -> list[Call]:
    given = inputs.encoder_inputs(subject.config.input_modality())
    return [Call(what="forward", given=given, run=lambda: part(given))]


def _backbone(subject: Subject, part) -> list[Call]:
    size = subject.sizes()[-1]
    given, t, told = inputs.latents(subject, size), torch.tensor([0.1, 0.5, 0.9]), inputs.conditions(3, size[0])
    told["style"] = told["style"].dropped(torch.tensor([True, False, False]))
    listed = list(given.clone())
    return [
        Call(what="forward", given={"latents": given, "t": t, "conditions": told}, run=lambda: part(given, t, told)),
        Call(what="forward, given a list,", given={"latents": listed, "t": t, "conditions": told}, run=lambda: part(listed, t, told)),
    ]


def _objective(subject: Subject, part) -> list[Call]:
    latents, t = torch.randn(LATENTS, generator=inputs.generator()), torch.linspace(0.1, 0.9, LATENTS[0])
    listed = list(latents.clone())
    prediction, target = (torch.randn(LATENTS, generator=inputs.generator(seed)) for seed in (2, 3))
    return [
        Call(what="pair", given=latents, run=lambda: part.pair(latents, inputs.generator(1))),
        Call(what="pair, given times,", given={"latents": listed, "t": t}, run=lambda: part.pair(listed, inputs.generator(1), t=t)),
        Call(what="loss", given={"prediction": prediction, "target": target, "t": t}, run=lambda: part.loss(prediction, target, t)),
    ]


def _sampler(subject: Subject, part) -> list[Call]:
    noise = torch.randn(LATENTS, generator=inputs.generator())

    def sample(noise: Tensor | None = None) -> Tensor:
        return part.sample(guided_prediction, LATENTS, inputs.generator(1), conditions=("text",), noise=noise)

    return [Call(what="sample", given=None, run=sample), Call(what="sample, given noise,", given=noise, run=lambda: sample(noise))]


def guided_prediction(x: Tensor, t: Tensor, branches) -> list[Tensor]:
    """What stands for a model: a prediction for each branch, each sample's its own."""
    return [0.5 * torch.tanh(x) + 0.1 * len(dropped) for dropped in branches]


def _task(subject: Subject, part) -> list[Call]:
    model = models.model_around(subject, part)
    with torch.no_grad():
        example = part.prepare(model, models.example_clips())
    found = [
        Call(what="prepare", given=None, run=lambda: part.prepare(model, models.example_clips())),
        Call(what="loss", given=example, run=lambda: part.loss(model, example, inputs.generator(1))),
        Call(what="validate", given=example, run=lambda: part.validate(model, example, inputs.generator(1))),
    ]
    if (request := models.possible_request(subject)) is not None:
        found.append(Call(what="generate", given=request, run=lambda: model.generate(**request)))
    return found


def _data(subject: Subject, part) -> list[Call]:
    def batches() -> list:
        clips = [clip for batch in islice(part.batches(2), DECODED // 2) for clip in batch]
        return [(clip.key, clip.digest, clip.load and clip.load(), clip.sound and clip.sound()) for clip in clips]

    return [Call(what="batches", given=None, run=batches)]


def _scores(subject: Subject, part) -> list[Call]:
    given = inputs.media_to_score(subject, 3)
    held = [one.load() if subject.kind == "filter" else one.video for one in given]
    if subject.kind == "filter":
        given = [dataclasses.replace(one, load=lambda video=video: video) for one, video in zip(given, held)]
    return [Call(what="scoring", given=held, run=lambda: list(part(given)))]


CALLS = {
    "autoencoder": _autoencoder, "encoder": _encoder, "backbone": _backbone, "objective": _objective, "sampler": _sampler,
    "task": _task, "data": _data, "filter": _scores, "metric": _scores,
}  # fmt: skip
