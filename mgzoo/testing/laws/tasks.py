"""Laws of task heads, each in a model of the kit's own parts."""

from __future__ import annotations

import inspect
import math
import unittest
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from mgzoo.generation.request import options_of
from mgzoo.media import Media
from mgzoo.parts import Example, Loss
from mgzoo.spec import FILE_KINDS, MgzooError
from mgzoo.testing import inputs, models
from mgzoo.testing.build_part import build_part
from mgzoo.testing.component_under_test import LawViolation, Subject, require


def examples_are_as_specified(subject: Subject) -> None:
    """prepare gives an Example of latents, inputs of the model's own encoders, and the conditions that its config names (but for those
    that it computes with learned weights of its own); loss gives a scalar and detached terms."""
    task = build_part(subject)
    model = models.model_around(subject, task)
    clips = models.example_clips()
    example = task.prepare(model, clips)
    require(isinstance(example, Example), f"prepare gives {type(example).__name__}, not an Example")
    require(len(example.latents) == len(clips), f"{len(clips)} clips become {len(example.latents)} latents")
    strange = sorted(set(example.inputs) - set(model.encoders))
    require(not strange, f"prepare gives inputs for {', '.join(strange)}; the model's encoders are {', '.join(model.encoders) or 'none'}")
    own = {spec.name: spec for spec in subject.config.conditions()}
    learned = isinstance(task, nn.Module) and any(True for _ in task.parameters())
    lacking = sorted(set(own) - set(example.conditions)) if not learned else []
    require(not lacking, f"its config names the conditions {', '.join(own)}, but prepare does not give {', '.join(lacking)}")
    unknown = sorted(set(example.conditions) - set(own) - {encoder.spec.name for encoder in model.encoders.values()})
    require(not unknown, f"prepare gives the conditions {', '.join(unknown)}, which nothing names")
    for name, spec in ((name, own[name]) for name in own if name in example.conditions):
        require(example.conditions[name].values.shape[-1] == spec.dim,
                f"the condition {name} has width {example.conditions[name].values.shape[-1]}, its spec says {spec.dim}")
    loss = task.loss(model, example, inputs.generator())
    require(isinstance(loss, Loss) and loss.total.shape == (), "loss gives no Loss with a scalar total")
    require(not any(term.requires_grad for term in loss.terms.values()), "the terms of its loss are not detached")


def feeds_agree_with_prepare(subject: Subject) -> None:
    """prepare concatenates exactly as many extra channels as its config's concat_channels() says, of the latents' size."""
    task, said = build_part(subject), subject.config.concat_channels(subject.latent)
    model = models.model_around(subject, task)
    example = task.prepare(model, models.example_clips())
    if example.concat is None:
        require(not said, f"concat_channels() says {said} extra channels, prepare concatenates none")
        return
    for latent, fed in zip(example.latents, example.concat, strict=True):
        require(len(fed) == said, f"concat_channels() says {said} extra channels, prepare concatenates {len(fed)}")
        require(fed.shape[1:] == latent.shape[1:], f"latents of {tuple(latent.shape[1:])} are fed channels of {tuple(fed.shape[1:])}")


def validation_can_be_compared(subject: Subject) -> None:
    """validate gives finite numbers, `loss` among them, and the same again from the same generator."""
    task = build_part(subject)
    model = models.model_around(subject, task)
    example = task.prepare(model, models.example_clips())
    found, again = (dict(task.validate(model, example, inputs.generator(4))) for _ in range(2))
    require("loss" in found, f"validate gives {', '.join(found) or 'nothing'}; `loss` must be among them")
    require(all(isinstance(value, float) and math.isfinite(value) for value in found.values()), f"validate gives {found}: not finite floats")
    require(found == again, f"validated twice with the same noise, it gives {found} and {again}")


def requests_are_answered(subject: Subject) -> None:
    """generate gives Media: uint8 video (T, H, W, 3), or float32 sound (channels, samples) with its rate."""
    task = build_part(subject)
    models.example_request(subject)
    for one in models.generated_media(subject, models.model_around(subject, task)):
        require(one.video is not None or one.audio is not None, "it generates Media with neither video nor sound")
        if one.video is not None:
            require(one.video.dtype == torch.uint8 and one.video.ndim == 4 and one.video.shape[-1] == 3 and one.video.numel(),
                    f"its video is {one.video.dtype} {tuple(one.video.shape)}, not uint8 (T, H, W, 3)")
        if one.audio is not None:
            require(one.audio.dtype == torch.float32 and one.audio.ndim == 2 and one.rate,
                    f"its sound is {one.audio.dtype} {tuple(one.audio.shape)} at {one.rate}")


def sizes_are_heard(subject: Subject) -> None:
    """Another `frames`, `height` or `width`, where generate takes it, gives media of another shape."""
    request = models.possible_request(subject)
    if request is None:
        return
    model = models.model_around(subject, build_part(subject))
    before = _shapes(models.answers_to(model, request))
    for name in ("frames", "height", "width"):
        if name not in request:
            continue
        for value in (2 * request[name], request[name] // 2):
            try:
                after = _shapes(models.answers_to(model, {**request, name: value}))
            except MgzooError:  # a size that it does not take
                continue
            require(after != before, f"asked for {name} {value} in place of {request[name]}, it gives media of the same shape, {before[0]}")
            break


def _shapes(media: list[Media]) -> list[tuple]:
    return [tuple(tuple(value.shape) for value in (one.video, one.audio) if value is not None) for one in media]


def options_are_taken(subject: Subject) -> None:
    """Every request option that its config declares is a keyword of generate and is taken with a valid value, each choice of a `choice`, yes and no of a `boolean`."""
    takes = inspect.signature(subject.target.generate).parameters.values()
    anything = any(one.kind is one.VAR_KEYWORD for one in takes)
    try:
        options = options_of(subject.config)
    except MgzooError as error:
        raise LawViolation(error.what) from None
    for option in options:
        require(anything or option.name in {one.name for one in takes}, f"request_options() declares {option.name}, and generate has no such keyword")
    request = models.possible_request(subject)
    if request is None:
        return
    model, unknown = models.model_around(subject, build_part(subject)), []
    for option in options:
        for value in option.choices or ((True, False) if option.kind == "boolean" else (models.example_value(option),)):
            refusals = []
            for company in _company(request, options, option):
                refusals.append(_refusal(model, {**company, option.name: value}))
                if not refusals[-1]:
                    break
            if all(refusals):  # which texts, numbers and files are valid, and what goes with them, is the task's to say
                require(option.kind not in ("choice", "boolean"), f"{option.name} is refused as {value}, which is one of its values: {refusals[0]}")
                unknown.append(f"{option.flag} ({refusals[0]})")
    if unknown:
        raise unittest.SkipTest(f"{subject} refuses the kit's values of {', '.join(unknown)}; test these yourself")


def _company(request: dict[str, Any], options, option) -> Iterator[dict[str, Any]]:
    """Requests that an option may belong to: the example, the same without files, and with each choice of the other options."""
    files = {one.name for one in options if one.kind in FILE_KINDS and not one.required}
    without = {name: value for name, value in request.items() if name not in files}
    yield request
    yield without
    for other in options:
        for choice in other.choices if other is not option else ():
            yield {**request, other.name: choice}
            yield {**without, other.name: choice}


def _refusal(model, request: dict[str, Any]) -> str:
    """What a model says against a request; "" where it answers it."""
    try:
        models.answers_to(model, request)
    except MgzooError as error:
        return error.what
    return ""


LAWS = [examples_are_as_specified, feeds_agree_with_prepare, validation_can_be_compared, requests_are_answered, sizes_are_heard, options_are_taken]
