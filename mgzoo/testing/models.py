"""A small model around a task under test: the kit's own parts in every role that the task needs."""

from __future__ import annotations

import inspect
import unittest
from typing import Any

import torch
from torch import nn

from mgzoo.discovery import say_once
from mgzoo.generation.request import options_of
from mgzoo.media import Media
from mgzoo.model.feature_cache import Cache
from mgzoo.model.model import Model
from mgzoo.old_names import CONFIG_METHODS, accept_old_names
from mgzoo.parts import Clip
from mgzoo.recipe.recipe import Recipe
from mgzoo.recipe.schema import Policy, Train, Zero
from mgzoo.recipe.validation import Part
from mgzoo.spec import FILE_KINDS, Component, Provider, RequestOption
from mgzoo.testing import inputs, reference
from mgzoo.testing.build_part import perturb_weights
from mgzoo.testing.component_under_test import Subject, require
from mgzoo.testing.reference_configs import ReferenceImageEncoderConfig, ReferenceTextEncoderConfig

ROLES = ("autoencoder", "encoders", "backbone", "objective", "sampler", "task")
MODALITIES = {"text": ReferenceTextEncoderConfig(), "image": ReferenceImageEncoderConfig(), "video": ReferenceImageEncoderConfig(video=True)}
KIT = Provider(namespace="reference", distribution="mgzoo", version="0")
SIZE = (8, 16, 16)


def model_around(subject: Subject, task: Any, frozen: bool = False) -> Model:
    """A model of the task and of the kit's parts, weights moved from their start. frozen: the encoders are, as a recipe may have them."""
    config, parts, made = subject.config, {}, {}
    for role in ROLES:
        kind = role.removesuffix("s")
        if role == "task":
            parts["task"], made["task"] = _part("task", subject.component, config), task
        elif kind == "encoder" and kind in config.required_parts():
            for takes in config.modalities():
                if takes in MODALITIES:
                    target = reference.ReferenceTextEncoder if takes == "text" else reference.ReferenceImageEncoder
                    parts[f"encoders.{takes}"] = _part(f"encoders.{takes}", reference.COMPONENTS[kind], MODALITIES[takes], frozen)
                    made[f"encoders.{takes}"] = _made(target, MODALITIES[takes], name=takes)
        elif kind in config.required_parts():
            component = reference.AUDIO_AUTOENCODER if kind == "autoencoder" and subject.latent.layout == "sound" else reference.COMPONENTS[kind]
            cls = getattr(reference, component.target.rpartition(":")[2])
            part, wires = getattr(reference, component.config.rpartition(":")[2]).tiny(), {}
            if kind == "backbone":
                conditions = tuple(parts[name].config.condition_spec(name.partition(".")[2]) for name in parts if name.startswith("encoders."))
                part = type(part)(patch=(1,) * len(subject.latent.stride))
                wires = {"latent": subject.latent, "conditions": (*conditions, *config.conditions()), "concat_channels": config.concat_channels(subject.latent)}
            parts[role], made[role] = _part(role, component, part), _made(cls, part, **wires)
    recipe = Recipe(
        source="the conformance kit", description="", seed=0, parts=parts, data=None, train=Train(precision="fp32"), zero=Zero(), stages=(),
        policy=Policy(), tree={}, origins={}, invalid_parts=frozenset(), yaml_tree=None,
    )  # fmt: skip
    return Model(recipe, made, Cache(disk=False)).eval()


def _part(name: str, component: Component, config: Any, frozen: bool = False) -> Part:
    accept_old_names(type(config), CONFIG_METHODS[component.kind], say_once)  # as the registry does
    return Part(name=name, kind=component.kind, component=component, provider=KIT, config=config, frozen=frozen or component.kind == "autoencoder")


def _made(cls: type, config: Any, **wires: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        part = cls(config, **wires)
    return perturb_weights(part) if isinstance(part, nn.Module) else part


def example_clips() -> list[Clip]:
    """Two clips of one size."""
    return [inputs.clip(i, SIZE) for i in range(2)]


def example_request(subject: Subject) -> dict[str, Any]:
    """What the task is asked: all that it must be told and, where it takes them, a small size, few steps and a seed.

    Raises SkipTest where it must be told something that the kit does not know.
    """
    takes = dict(list(inspect.signature(subject.target.generate).parameters.items())[2:])
    known = {"prompt": "a red ball rolls", "seed": 3, "frames": SIZE[0], "height": SIZE[1], "width": SIZE[2], "fps": 8.0, "steps": 2}
    files = [ask for ask in options_of(subject.config) if ask.kind in FILE_KINDS]
    # Where a file is asked for and none is required, one of several may be: the first is given.
    needed = {ask.name: example_value(ask) for ask in options_of(subject.config) if ask.required or ask in files[:1]}
    named = {name: one for name, one in takes.items() if one.kind is not one.VAR_KEYWORD}
    needs = [name for name, one in named.items() if one.default is one.empty]
    if strange := [name for name in needs if name not in known and name not in needed]:
        raise unittest.SkipTest(f"{subject} must be told {', '.join(strange)}, which the kit does not know; test its generate yourself")
    return {**{name: value for name, value in known.items() if name in named}, **needed}


def example_value(ask: RequestOption) -> Any:
    """A valid value of a request option."""
    clip = inputs.clip(0, SIZE)
    if ask.kind in FILE_KINDS:
        video = None if ask.kind == "sound" else clip.load()[: 1 if ask.kind == "image" else None]
        return Media(video=video, fps=clip.fps if ask.kind == "video" else None, audio=clip.sound(), rate=clip.rate)
    return {"text": "a red ball", "number": 1.0, "integer": 1, "boolean": True, "choice": (*ask.choices, "")[0]}[ask.kind]


def possible_request(subject: Subject) -> dict[str, Any] | None:
    """`example_request`, or None where the kit cannot ask."""
    try:
        return example_request(subject)
    except unittest.SkipTest:
        return None


def generated_media(subject: Subject, model: Model) -> list[Media]:
    """What the model generates for `example_request`; nothing where the kit cannot ask."""
    request = possible_request(subject)
    return [] if request is None else answers_to(model, request)


def answers_to(model: Model, request: dict[str, Any]) -> list[Media]:
    """What the model generates for a request, as a list."""
    answer = model.generate(**request)
    found = list(answer) if isinstance(answer, (list, tuple)) else [answer]
    require(found and all(isinstance(one, Media) for one in found), f"generate gives {type(answer).__name__}, not mgzoo.Media or a list of them")
    return found
