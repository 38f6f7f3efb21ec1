"""Laws of what is said of a part: found, configured and counted without being built."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import types
import typing

from torch import nn

from mgzoo.discovery import ID
from mgzoo.import_guard import HEAVY
from mgzoo.spec import KINDS, ConditionSpec, LatentSpec
from mgzoo.testing.build_part import build_part
from mgzoo.testing.component_under_test import NAME, Subject, questions, require

TINY = 5_000_000
LEAVES = (int, float, str, bool)

LISTING = """
import importlib, json, sys
from mgzoo.spec import Component
from mgzoo.testing.component_under_test import NAME, Subject, questions
said = json.loads(sys.argv[1])
if said["plugin"]:
    importlib.import_module(said["plugin"]).mgzoo_components()
subject = Subject(component=Component(**said["component"]), namespace=said["namespace"])
try:
    list(questions(subject))
except Exception:
    pass  # another law's matter
print(json.dumps([name for name in said["heavy"] if name in sys.modules]))
"""


def light(subject: Subject) -> None:
    """Listing, configuring and planning it imports no torch, numpy, deepspeed, transformers or diffusers."""
    said = {"component": dataclasses.asdict(subject.component), "namespace": subject.namespace, "plugin": subject.plugin, "heavy": HEAVY}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", LISTING, json.dumps(said)], capture_output=True, text=True, env=environment)
    require(done.returncode == 0, f"it cannot be listed in a fresh process:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    require(not found,
            f"{subject.component.config} imports {', '.join(found)}; import it in {subject.component.target.partition(':')[0]} or inside a function")


def named(subject: Subject) -> None:
    """Its id is namespace.name.vN in its plugin's namespace; a one-line summary and a licence in lower case are given."""
    component = subject.component
    require(ID.fullmatch(component.id), f"the id {component.id!r} is not of the form plugin.name.vN")
    require(component.namespace == subject.namespace, f"the id {component.id!r} does not start with {subject.namespace + '.'!r}")
    summary = component.summary
    require(summary.strip() and "\n" not in summary, f"the summary {summary!r} is not one line")
    require(len(summary) <= 100, f"the summary has {len(summary)} characters; 100 fit into `mgzoo list`")
    require(component.license and component.license == component.license.lower(),
            f"the licence {component.license!r} is not an SPDX id in lower case")


def typed(subject: Subject) -> None:
    """Its config is a frozen, keyword-only dataclass; every field has a type that YAML can hold and says what it is."""
    cls = subject.config_class
    require(dataclasses.is_dataclass(cls), f"{cls.__name__} is no dataclass")
    require(cls.__dataclass_params__.frozen, f"{cls.__name__} is not frozen")
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        require(field.kw_only, f"the field {field.name} of {cls.__name__} is not keyword-only")
        require(field.metadata.get("help", "").strip(),
                f"the field {field.name} of {cls.__name__} says not what it is: option(default, \"…, with unit and shape\")")
        require(_plain(hints[field.name]), f"the field {field.name} of {cls.__name__} is {hints[field.name]}, which a recipe cannot hold")
    require(isinstance(subject.config, cls), f"{cls.__name__}.tiny() gives a {type(subject.config).__name__}")
    again = json.loads(json.dumps(dataclasses.asdict(subject.config)))
    for name, value in again.items():
        require(_fits(value, hints[name]), f"tiny() sets {name} to {value!r}, which is no {hints[name]}")


def _plain(hint) -> bool:
    origin, inner = typing.get_origin(hint), [one for one in typing.get_args(hint) if one not in (Ellipsis, type(None))]
    if origin is typing.Literal:
        return all(isinstance(one, LEAVES) for one in inner)
    if origin in (typing.Union, types.UnionType):
        return len(inner) == 1 and _plain(inner[0])
    return all(map(_plain, inner)) and bool(inner) if origin in (tuple, list, dict) else hint in LEAVES


def _fits(value, hint) -> bool:
    """Whether a value as JSON gives it back is of a type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return value is None or _fits(value, next(one for one in inner if one is not type(None)))
    if origin is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if origin in (tuple, list):
        each = [inner[0]] * len(value) if origin is list or inner[-1] is Ellipsis else inner
        return isinstance(value, list) and len(each) == len(value) and all(map(_fits, value, each))
    return isinstance(value, (int, float) if hint is float else hint) and (hint is bool or not isinstance(value, bool))


def answers(subject: Subject) -> None:
    """Its config answers what the checks and plans of a recipe ask a part of its kind, in the types they expect."""
    expected = {
        "latent_spec": LatentSpec, "condition_spec": ConditionSpec, "input_modality": str, "prediction_type": str, "higher_is_better": bool, "keeps": bool,
        "concat_channels": int, "num_tokens": int,
        "num_parameters": (int, type(None)),
        **dict.fromkeys(("prediction_types", "required_parts", "modalities", "conditions", "sizes", "validate_shapes", "patch"), (tuple, list)),
    }  # fmt: skip
    for question, answer in questions(subject):
        require(isinstance(answer, expected[question]),
                f"{question + '()' * (question != 'patch')} of {type(subject.config).__name__} is {answer!r}")
        if question == "validate_shapes":
            require(not answer, f"validate_shapes() finds its own tiny() unfit for latents of {subject.latent.layout}: {'; '.join(map(str, answer))}")
        if question == "patch":
            require(len(answer) == len(subject.latent.stride), f"patch {answer} has not one number for each axis of the latents")
        if question == "condition_spec":
            require(answer.name == NAME, f"condition_spec({NAME!r}) is called {answer.name!r}")


def small(subject: Subject) -> None:
    """Its tiny() stays under five million parameters."""
    count = _counted(subject)
    require(count < TINY, f"tiny() has {count:,} parameters")


def counted(subject: Subject) -> None:
    """num_parameters() is exactly what is built on the meta device, or None where there is no closed form; a meta build allocates nothing."""
    for concat_channels in (0, 3) if subject.kind == "backbone" else (0,):
        wires = [subject.latent, subject.wires()["conditions"], concat_channels] if subject.kind == "backbone" else []
        said, part = subject.config.num_parameters(*wires), _on_meta(subject, concat_channels)
        real = [name for name, value in part.state_dict().items() if not value.is_meta] if isinstance(part, nn.Module) else []
        require(not real, f"built on the meta device, {', '.join(real[:3])} is a real tensor: make it where torch's default device is")
        count = _counted(subject, concat_channels)
        require(said in (None, count), f"num_parameters() says {said}, the built part has {count}" + f" (with {concat_channels} concatenated channels)" * bool(concat_channels))


def _on_meta(subject: Subject, concat_channels: int = 0):
    wires = {"concat_channels": concat_channels} if subject.kind == "backbone" else {}
    return build_part(subject, device="meta", **wires)


def _counted(subject: Subject, concat_channels: int = 0) -> int:
    part = _on_meta(subject, concat_channels)
    return sum(weight.numel() for weight in part.parameters()) if isinstance(part, nn.Module) else 0


small.kinds = counted.kinds = tuple(kind for kind in KINDS if kind != "data")  # a recipe's data is never built on the meta device

LAWS = [light, named, typed, answers, small, counted]
