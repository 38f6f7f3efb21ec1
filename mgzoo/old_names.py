"""Names that third parties' configs and parts have from before, accepted for one release with one line of warning for each class.

A recipe asks a config by the names of now (`CONFIG_METHODS`); a class that answers by the old ones is given the new ones too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

CONFIG_METHODS = {
    "autoencoder": {"latent": "latent_spec", "parameters": "num_parameters"},
    "encoder": {"takes": "input_modality", "condition": "condition_spec", "tokens": "num_tokens", "parameters": "num_parameters"},
    "backbone": {"check": "validate_shapes", "tokens": "num_tokens", "parameters": "num_parameters", "widens": "can_expand"},
    "objective": {"predicts": "prediction_type", "parameters": "num_parameters"},
    "sampler": {"accepts": "prediction_types", "parameters": "num_parameters"},
    "task": {"parts": "required_parts", "gives": "modalities", "feeds": "concat_channels", "asks": "request_options", "emits": "output_modalities",
             "parameters": "num_parameters"},
    "data": {"gives": "modalities", "parameters": "num_parameters"},
    "filter": {"parameters": "num_parameters"},
    "metric": {"better": "higher_is_better", "parameters": "num_parameters"},
}  # fmt: skip
"""Kind of component -> old name of a config's method -> the name of now."""
_ANSWER = "answer by an old name"
PART_METHODS = {"widened": "expand_state_dict"}
"""Old name of a method of the part itself -> the name of now."""


def accept_old_names(cls: type, names: dict[str, str], say: Callable[[str], None]) -> type:
    """Give a class the names of now where it has the old ones alone, and say so in one line; returns the class. Where it has those of now alone
    it answers by the old ones too, for the sake of other plugins' parts, and says so when it is asked.

    A method by the old name counts where no base nearer to the class has the new one. ``better() -> "higher"`` becomes a bool.
    """
    found = {old: new for old, new in names.items() if _defines(cls, old, new)}
    for old, new in found.items():
        setattr(cls, new, _as_bool(old) if new == "higher_is_better" else getattr(cls, old))
    for old, new in names.items():
        if not hasattr(cls, old) and hasattr(cls, new):
            setattr(cls, old, _by_old_name(cls, old, new, say))
    if found:
        renamed = ", ".join(f"{old} -> {new}" for old, new in found.items())
        say(f"{cls.__module__}.{cls.__qualname__} uses old names; the next release removes them: rename {renamed}")
    return cls


def _defines(cls: type, old: str, new: str) -> bool:
    for base in cls.__mro__:
        if new in vars(base):
            return False
        if isinstance(vars(base).get(old), FunctionType) and vars(base)[old].__qualname__ != _ANSWER:
            return True
    return False


def _as_bool(old: str) -> Callable[[Any], bool]:
    def higher_is_better(self) -> bool:
        return getattr(self, old)() == "higher"

    return higher_is_better


def _by_old_name(cls: type, old: str, new: str, say: Callable[[str], None]) -> Callable[..., Any]:
    def answer(self, *arguments, **named):
        say(f"{old}() of {cls.__name__} is now {new}(); the next release removes the old name")
        value = getattr(self, new)(*arguments, **named)
        return ("higher" if value else "lower") if new == "higher_is_better" else value

    answer.__qualname__ = _ANSWER
    return answer


def accepted_arguments(target: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a part is built with beside its config, ``concat_channels`` under its old name ``feeds`` where the part takes that."""
    takes = inspect.signature(target).parameters
    if "concat_channels" in arguments and "concat_channels" not in takes and "feeds" in takes:
        return {"feeds" if name == "concat_channels" else name: value for name, value in arguments.items()}
    return arguments
