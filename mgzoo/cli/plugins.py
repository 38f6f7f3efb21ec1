"""The verbs that plugins add through the `mgzoo_commands` hook."""

from __future__ import annotations

from mgzoo.cli.parser import COMMANDS
from mgzoo.discovery import DisabledPlugin, Registry
from mgzoo.import_guard import run_guarded
from mgzoo.spec import one_line

PluginCommand = tuple[str, str, str]


def commands(registry: Registry) -> tuple[list[PluginCommand], list[DisabledPlugin]]:
    """((name, help, ``module:function``) of every usable verb, by name; what is left out and why).

    The function takes the words after the verb and returns an exit code. A name that is taken is left out on both
    sides, ours excepted; so is every verb of a plugin whose hook fails.
    """
    claims: dict[str, list[tuple[str, PluginCommand]]] = {}
    left_out = []
    for implementation in registry.hook.mgzoo_commands.get_hookimpls():
        answer, reason = run_guarded(lambda call=implementation.function: [_checked(command) for command in call() or ()], implementation.plugin_name)
        if reason:
            left_out.append(_aside(registry, implementation.plugin_name, f"its verbs are disabled: {reason}"))
            continue
        for command in answer:
            claims.setdefault(command[0], []).append((implementation.plugin_name, command))
    usable = []
    for name, claimed in sorted(claims.items()):
        if name not in COMMANDS and len(claimed) == 1:
            usable.append(claimed[0][1])
            continue
        rivals = ["mgzoo"] * (name in COMMANDS) + [str(registry.providers[plugin]) for plugin, _ in claimed]
        for plugin in sorted({plugin for plugin, _ in claimed}):
            left_out.append(_aside(registry, plugin, f"the verb {name!r} is disabled: declared by {' and '.join(rivals)}"))
    return usable, left_out


def _checked(command) -> PluginCommand:
    name, help, target = command
    if not all(isinstance(word, str) and word for word in (name, help, target)) or ":" not in target:
        raise ValueError(f"{command!r} is not (name, help, 'module:function')")
    if one_line(name) != name or " " in name:
        raise ValueError(f"{name!r} is no name of a verb")
    return name, one_line(help), target


def _aside(registry: Registry, plugin: str, reason: str) -> DisabledPlugin:
    return DisabledPlugin(name=plugin, distribution=str(registry.providers[plugin]), reason=reason)
