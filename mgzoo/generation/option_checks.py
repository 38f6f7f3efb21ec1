"""Whether the request options that a task declares can be asked for: kinds, names, flags. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mgzoo.discovery import discover
from mgzoo.spec import OPTION_KINDS, MgzooError, RequestOption

OWN_FLAGS = ("--from", "--task", "--seed", "--frames", "--size", "--fps", "--steps", "--guidance", "--out", "--debug", "--help", "--json")
"""Flags of `mgzoo generate` itself, which no task's option may have. A test compares them with its parser."""
KEYWORDS = ("model", "task", "height", "width", "on_step")
"""Words of a request that have no flag of the same name."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def flags_of(option: RequestOption) -> tuple[str, ...]:
    """The flags of an option: ``--name``, and ``--no-name`` of a boolean."""
    return (option.flag, "--no-" + option.flag.removeprefix("--")) if option.kind == "boolean" else (option.flag,)


def require_valid(options: Sequence[Any], config: Any) -> None:
    """Raise one `MgzooError` that names the component and everything that is wrong with the request options of its config."""
    wrong: list[str] = []
    taken: dict[str, str] = {}
    for option in options:
        if not isinstance(option, RequestOption):
            wrong.append(f"{option!r:.80} is no mgzoo.spec.RequestOption")
            continue
        if not isinstance(option.name, str) or not NAME.fullmatch(option.name):
            wrong.append(f"the name {option.name!r} is no word of lower-case letters, digits and '_'")
            continue
        if option.kind not in OPTION_KINDS:
            wrong.append(f"{option.name} is of kind {option.kind!r}, which is none of {', '.join(OPTION_KINDS)}")
        if (option.kind == "choice") != bool(option.choices):
            wrong.append(f"{option.name} is a choice without choices" if option.kind == "choice" else f"{option.name} has choices and is of kind {option.kind!r}")
        for flag in flags_of(option):
            if flag in OWN_FLAGS or option.name in KEYWORDS:
                wrong.append(f"{flag} is a flag of mgzoo generate" if flag in OWN_FLAGS else f"{option.name} is a word of every request")
            elif flag in taken:
                wrong.append(f"{option.name} is declared twice" if taken[flag] == option.name else f"{flag} is of {taken[flag]} and of {option.name}")
            taken.setdefault(flag, option.name)
    if wrong:
        component, provider = _owner(config)
        raise MgzooError(f"the request options of {component} are wrong: {'; '.join(dict.fromkeys(wrong))}", origin=provider,
                         remedy="correct its config's request_options(), or upgrade the plugin")


def _owner(config: Any) -> tuple[str, str]:
    """(the component that a config belongs to, its distribution); its class where no installed component has it."""
    registry, cls = discover(), type(config)
    place = f"{cls.__module__}:{cls.__qualname__}"
    found = [component for component in registry.components.values() if component.config == place]
    return (found[0].id, str(registry.provider(found[0].id))) if found else (place, "")
