"""``train.debug``: checks of the inputs and outputs of every part, to find the first faulty part.

B batch, C channels, D condition width; latents (B, C, *axes) or a list of (C, *axes).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mgzoo.parts import Condition, Example
from mgzoo.spec import MgzooError

REMEDY = "check this part and the batch of this step; lower train.lr if it happens late in training"


def add_hooks(model: nn.Module) -> list:
    """Hooks on every part's forward; keep the handles and `remove` them when done."""
    return [
        part.register_forward_hook(lambda module, given, result, name=name: check_output(name, given, result))
        for name in model.part_names()
        if isinstance(part := model.part(name), nn.Module)
    ]


def check_output(name: str, given: tuple, result) -> None:
    """Raise MgzooError unless the output of part `name` is finite; assert the output shape of its kind."""
    for tensor in tensors(result):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise MgzooError(f"{name} returned non-finite values (shape {tuple(tensor.shape)})", remedy=REMEDY)
    if isinstance(result, Condition):
        rows = result.mask.shape
        assert result.values.shape[: len(rows)] == rows, f"{name}: values {tuple(result.values.shape)} and mask {tuple(rows)} do not match"
    if name == "backbone" and isinstance(result, Tensor):
        assert result.shape[2:] == given[0].shape[2:], f"{name}: input latents {tuple(given[0].shape)}, output {tuple(result.shape)}"


def check_example(example: Example) -> None:
    """Raise MgzooError unless a prepared batch is finite."""
    for tensor in tensors([example.latents, *example.conditions.values(), example.concat]):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise MgzooError(f"the prepared batch has non-finite values (shape {tuple(tensor.shape)})", remedy=REMEDY)


def tensors(value) -> Iterator[Tensor]:
    """All tensors in the inputs or outputs of a part."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Condition):
        yield value.values
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors(one)
