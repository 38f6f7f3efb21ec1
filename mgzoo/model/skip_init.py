"""Empty models: parameters on the meta device, for loaders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

# What initialises in place. torch can do it on the meta device, but imports its compiler for that, which takes seconds.
_FILLS = frozenset({
    Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_, Tensor.copy_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_
})  # fmt: skip
_INIT = frozenset(function for name, function in vars(nn.init).items() if name.endswith("_") and not name.startswith("_"))


class _Unfilled(TorchFunctionMode):
    """Skip initialisation of tensors on the meta device: calls of `torch.nn.init` arrive here whole."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        filled = args[0] if args else (kwargs or {}).get("tensor")
        if (function in _FILLS or function in _INIT) and filled.is_meta:
            return filled
        return function(*args, **(kwargs or {}))


@contextmanager
def init_empty_weights() -> Iterator[None]:
    """Context manager: parameters of new modules are on the meta device; buffers are real.

    Initial weights are neither computed nor allocated, but buffers computed in the constructor (tables, statistics) exist.
    Unlike a model built on the meta device, the model can be filled and used.
    """

    def moved(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(moved)
    try:
        with _Unfilled():
            yield
    finally:
        hook.remove()
