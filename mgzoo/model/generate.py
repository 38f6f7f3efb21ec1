"""Generation: a request -> a task head -> media with a generation record. Used by the command line and from Python."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mgzoo import precision
from mgzoo.discovery import discover
from mgzoo.generation.record import is_recordable, make_record
from mgzoo.generation.request import choose_task, options_of, parse_request, parse_seed, record_inputs
from mgzoo.media import Media
from mgzoo.model.model import Model
from mgzoo.spec import MgzooError


@torch.inference_mode()
def generate(self: Model, prompt: str | None = None, *, task: str | None = None, **request):
    """Generate media with the task head: ``generate("a rabbit hopping", seed=0)`` -> `mgzoo.media.Media`.

    task: another task head for this request, by id or name (``edit``); it must not have its own weights.
    The other options (frames, size, steps, guidance, on_step …) depend on the task; file options accept a path or
    a `mgzoo.media.Media`. seed: 0 to 2^64 - 1, or ``random`` for a new, recorded one.
    The result of a loaded model has its generation record in `Media.meta`; `Media.save` writes it into the file for `mgzoo verify` and
    `mgzoo generate --from`. There is no record if the weights were changed after loading.
    """
    own = self.recipe.parts.get("task")
    if task is not None:
        component_id, config = choose_task(task, own)
        if own is None or component_id != own.component.id:
            return _with_head(self, other_task(self, component_id, config), component_id, prompt, request)
    return _answer(self, prompt, request)


def _with_head(model: Model, head, component_id: str, prompt: str | None, request: dict[str, Any]):
    """Generate with another head, then restore the model's own."""
    own, own_id = model.task, model.task_id
    model.set_task(head, component_id)
    try:
        return _answer(model, prompt, request)
    finally:
        model.set_task(own, own_id)


def _answer(model: Model, prompt: str | None, request: dict[str, Any]):
    model.eval()
    if prompt is not None:
        request["prompt"] = prompt
    if request.get("seed") is not None:
        request["seed"] = parse_seed(request["seed"])
    if model.task is None:
        raise MgzooError("this model has no task head and cannot generate", remedy="add parts.task to its recipe")
    options = options_of(getattr(model.task, "config", None))
    asked = _accepted(model.task, parse_request(options, request))
    record = _record(model, options, request)  # of the files, before they are read: what is recorded is what they held then
    counting, model.counting = model.counting, False
    try:
        made = model.task.generate(model, **asked)
    finally:
        model.counting = counting
    return dataclasses.replace(made, meta={**made.meta, **record}) if record and isinstance(made, Media) else made


def _accepted(task, request: dict[str, Any]) -> dict[str, Any]:
    """Check the request against the signature of the head's `generate`. Raises `MgzooError` with the supported options."""
    takes = dict(list(inspect.signature(task.generate).parameters.items())[1:])
    if any(one.kind is one.VAR_KEYWORD for one in takes.values()):
        return request
    if "on_step" not in takes:  # a task without steps has no progress to tell
        request.pop("on_step", None)
    needs = [name for name, one in takes.items() if one.default is one.empty and name not in request]
    strange = [name for name in request if name not in takes]
    if needs or strange:
        said = [f"needs {', '.join(needs)}"] * bool(needs) + [f"does not support {', '.join(strange)}"] * bool(strange)
        raise MgzooError(f"the task {type(task).__name__} {' and '.join(said)}", remedy=f"supported: {', '.join(takes)}; or choose another task")
    return request


def _record(model: Model, options, request: Mapping[str, Any]) -> dict[str, Any]:
    """The generation record for the file; None for a model that is not an unchanged artifact, or a request that cannot be recorded."""
    given = {key: value for key, value in request.items() if value is not None and key != "on_step"}
    if model.artifact is None or model.task_id is None or model.loaded_weights != weights_state(model):
        return {}
    own = model.recipe.parts.get("task")
    told = ({"task": model.task_id} if own is None or model.task_id != own.component.id else {}) | record_inputs(options, given)
    if not all(is_recordable(key, value) for key, value in told.items()):
        return {}
    return make_record(model.artifact, model.recipe, model.task_id, told, machine_of(model))


def generates_frames(task: str) -> bool:
    """Whether requests to the task with this id accept `frames`."""
    return "frames" in inspect.signature(discover().build_class(task).generate).parameters


def machine_of(model: Model) -> dict[str, Any]:
    """Machine facts with an effect on the last bits of an output: torch, device, threads, precision, processor."""
    return {"torch": torch.__version__, "device": model.device.type, "threads": torch.get_num_threads(), **precision.of(model)}


def weights_state(model: Model) -> tuple[int, int]:
    """Version counters of the weights, from torch: changed by in-place writes, not by a move to another device."""
    tensors = list(model.state_dict(keep_vars=True).values())
    return len(tensors), sum(0 if tensor.is_inference() else tensor._version for tensor in tensors)


def other_task(model: Model, component_id: str, config):
    """Another task head for the model. Raises `MgzooError` if the model lacks a required part."""
    there = {name.partition(".")[0].removesuffix("s") for name in model.recipe.parts}
    if missing := [kind for kind in config.required_parts() if kind not in there]:
        raise MgzooError(f"{component_id} needs {', '.join(missing)}; this model has none", remedy="use a model with these parts")
    task = discover().build_class(component_id)(config)
    if isinstance(task, nn.Module) and any(True for _ in task.parameters()):
        raise MgzooError(f"{component_id} has trained weights; this model does not include them", remedy="use a model with this task")
    return task
