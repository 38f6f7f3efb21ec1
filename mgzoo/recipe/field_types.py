"""Field types of configs in words, and conversion of single values by OmegaConf."""

from __future__ import annotations

import copy
import dataclasses
import threading
import types
import typing
from functools import cache
from typing import Any

from mgzoo.import_guard import run_guarded
from mgzoo.recipe.yaml_tree import MISSING, Node, node_of
from mgzoo.spec import Origin

_CONVERTING = threading.Lock()  # what converts values is shared by threads that compose at once
_USABLE: set[type] = set()
_CONVERTED: dict[tuple[type, str, str], tuple[bool, Any]] = {}
MOST_CONVERTED = 10_000
EXACT = (bool, int, float, str)


def plain_value(value: Any) -> Any:
    """Dataclasses and tuples as the dicts and lists of YAML and JSON."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain_value(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain_value(child) for key, child in value.items()}
    return [plain_value(child) for child in value] if isinstance(value, (list, tuple)) else value


@cache
def field_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def holds_dataclasses(hint: Any) -> tuple[str, Any]:
    """How a field holds dataclasses: ("one" | "maybe" | "map" | "list", dataclass), or ("leaf", None)."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return "one", hint
    if origin in (typing.Union, types.UnionType) and dataclasses.is_dataclass(args[0]):
        return "maybe", args[0]
    if origin in (dict, list) and dataclasses.is_dataclass(args[-1]):
        return ("map" if origin is dict else "list"), args[-1]
    return "leaf", None


def why_unusable(cls: type) -> str | None:
    """None where OmegaConf can hold values for this config's fields, else why it cannot, in one line."""
    if cls not in _USABLE:
        _, reason = run_guarded(lambda: structured_config(cls))
        if reason is not None:
            return reason
        _USABLE.add(cls)
    return None


@cache
def structured_config(cls: type):
    """An OmegaConf structured config of the leaves of a dataclass, to convert values with."""
    from omegaconf import OmegaConf

    fields = [(f.name, field_hints(cls)[f.name]) for f in dataclasses.fields(cls) if holds_dataclasses(field_hints(cls)[f.name])[0] == "leaf"]
    return OmegaConf.structured(dataclasses.make_dataclass(cls.__name__, fields, kw_only=True))


def default_of(cls: type, f: dataclasses.Field, around: Origin) -> Node:
    """The node of a field's default. around: origin of the enclosing map."""
    value = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
    if value is dataclasses.MISSING or value == MISSING:
        return Node(MISSING, around)
    origin = Origin(source=f"default of {cls.__name__}")
    return Node({}, origin) if holds_dataclasses(field_hints(cls)[f.name])[0] == "one" else node_of(value, origin)


def convert_value(cls: type, name: str, value: Any) -> tuple[bool, Any]:
    """(True, value with the type of ``cls.name``), or (False, OmegaConf's error). Conversions are cached:
    the stages of a recipe share nearly all values. A scalar with exactly the type of its field is not converted."""
    if type(value) is field_hints(cls).get(name) and type(value) in EXACT and not (isinstance(value, str) and "$" in value):
        return True, value
    key = (cls, name, repr(value))
    if (answer := _CONVERTED.get(key)) is None:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        with _CONVERTING:
            try:
                OmegaConf.update(template := structured_config(cls), name, value, merge=False)
                held = template[name]
                answer = True, OmegaConf.to_container(held) if OmegaConf.is_config(held) else held
            except OmegaConfBaseException as error:
                answer = False, str(error).split("\n")[0][:300]
            if len(_CONVERTED) >= MOST_CONVERTED:
                _CONVERTED.clear()
            _CONVERTED[key] = answer
    fine, held = answer
    return fine, copy.deepcopy(held) if isinstance(held, (list, dict)) else held


def raw_default(f: dataclasses.Field) -> Any:
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default


def type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join("null" if arg is type(None) else type_name(arg) for arg in typing.get_args(hint))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
