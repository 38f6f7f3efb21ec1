"""`mgzoo completion`: scripts for bash, zsh and fish, and the completion candidates. Never imports torch."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
import typing
from collections.abc import Callable, Iterable
from pathlib import Path

from mgzoo.cli.argument_types import LISTED
from mgzoo.cli.parser import COMMANDS, SHELLS, parser
from mgzoo.spec import KINDS

BASH = """\
_mgzoo() {
    local line=${COMP_LINE:0:COMP_POINT} word before one
    word=${line##*[[:space:]]}
    before=${word%"${word##*[@=:]}"}  # bash replaces what follows these signs only
    COMPREPLY=()
    while IFS= read -r one; do COMPREPLY+=("${one#"$before"}"); done < <(mgzoo completion bash --line "$line" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _mgzoo mgzoo
"""
ZSH = """\
#compdef mgzoo
_mgzoo() {
    local -a found whole open
    found=("${(@f)$(mgzoo completion zsh --line "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    open=(${(M)found:#*[/=.]})
    whole=(${found:#*[/=.]})
    compadd -S '' -a open
    compadd -a whole
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _mgzoo mgzoo
"""
FISH = """\
complete -c mgzoo -f -a '(mgzoo completion fish --line (commandline -cp | string collect) 2>/dev/null)'
"""
SCRIPTS = dict(zip(SHELLS, (BASH, ZSH, FISH), strict=True))


def completion(arguments) -> int:
    """`mgzoo completion SHELL`: the script; with --line, one candidate a line."""
    if arguments.line is None:
        print(SCRIPTS[arguments.shell], end="")
    elif found := candidates(arguments.line):
        print("\n".join(found))
    return 0


def candidates(line: str) -> list[str]:
    """What the last word of a command line (from its beginning to the cursor) could become, whole words in order."""
    *before, word = _words(line)[1:] or [""]
    if not before:
        found: Iterable[str] = [*COMMANDS, *_plugin_verbs(), "--help", "--version"]
    elif before[0] in COMMANDS:
        found = _of_verb(before[0], before[1:], word)
    else:
        found = []
    return [one for one in dict.fromkeys(found) if one.startswith(word)]


def _words(line: str) -> list[str]:
    """The words of a line, the last one what stands at the cursor, empty after a space."""
    for closing in ("", "'", '"'):  # of a quote that is still open
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        return [*words, ""] if not closing and line[-1:].isspace() else words
    return line.split()


def _of_verb(verb: str, before: list[str], word: str) -> Iterable[str]:
    actions = [action for action in parser(verb)._actions if action.help is not argparse.SUPPRESS]
    options = {name: action for action in actions for name in action.option_strings}
    places = [action for action in actions if not action.option_strings]
    asked, positionals, literal = None, 0, False
    for one in before:  # as argparse reads them
        if asked is not None:
            asked = None
        elif one in options and not literal:
            asked = options[one] if options[one].nargs is None else None
        elif one == "--":
            literal = True
        else:
            positionals += 1
    if asked is None and word.startswith("-") and not literal:
        return [name for name in options if name not in before]
    if asked is None:
        if not places or (positionals >= len(places) and places[-1].nargs not in ("*", "+")):
            return []
        asked = places[min(positionals, len(places) - 1)]
    if asked.choices:
        return asked.choices
    if asked.metavar == "KIND":
        return LISTED if verb == "list" else KINDS
    if asked.option_strings == ["--task"]:
        return _ids("task")
    if asked.option_strings and asked.metavar == "KEY":  # of a signature, not of a recipe
        return _files(word)
    return [one for name in str(asked.metavar).split("|") for one in VALUES.get(name, _nothing)(word)]


def _nothing(word: str) -> list[str]:
    return []


def _plugin_verbs() -> list[str]:
    from mgzoo.cli.plugins import commands
    from mgzoo.discovery import discover

    return [name for name, _, _ in commands(discover())[0]]


def _ids(kind: str = "") -> list[str]:
    from mgzoo.discovery import discover

    return sorted(component.id for component in discover().components.values() if kind in ("", component.kind))


def _recipes(word: str) -> list[str]:
    from mgzoo.recipe.shipped import recipe_names

    return [*sorted(recipe_names()), *_files(word, (".yaml", ".yml"))]


def _artifacts(word: str) -> list[str]:
    """``registry/NAME``, with its tags once an @ stands there, and folders: an artifact, a run or another hub."""
    from mgzoo.distributions import data_folder
    from mgzoo.hub.folder_hub import REFS_NAME, read_refs
    from mgzoo.spec import MgzooError

    found = []
    for hub in (Path("registry"), data_folder("registry")):
        for path in sorted(hub.glob(f"*/{REFS_NAME}")):
            name = f"registry/{path.parent.name}"
            found.append(name)
            if word.startswith(f"{name}@"):
                try:
                    found += [f"{name}@{tag}" for tag in sorted(read_refs(hub, path.parent.name))]
                except MgzooError:
                    continue
    return [*found, *(path for path in _files(word, ()) if path.rstrip("/") not in found)]


def _files(word: str, suffixes: tuple[str, ...] | None = None) -> list[str]:
    """Folders (with a / after them) and files of what the word begins; of these suffixes only, or all where None."""
    above, _, start = word.rpartition("/")
    try:
        entries = sorted(os.scandir(os.path.expanduser(f"{above}/" if above or word.startswith("/") else ".")), key=lambda entry: entry.name)
    except OSError:
        return []
    prefix, found = word[: len(word) - len(start)], []
    for entry in entries:
        if entry.name.startswith(".") and not start.startswith("."):
            continue
        if entry.is_dir():
            found.append(f"{prefix}{entry.name}/")
        elif suffixes is None or entry.name.endswith(suffixes or "\0"):
            found.append(prefix + entry.name)
    return found


def _overrides(word: str) -> list[str]:
    """Keys of a recipe, and after ``use=`` the ids that fit the part."""
    key, equals, _ = word.partition("=")
    part = re.fullmatch(r"(?:parts\.)?(\w+)(?:\.[\w-]+)?\.use", key)
    if equals and part:
        return [f"{key}={one}" for one in _ids("encoder" if part[1] == "encoders" else part[1])]
    return [] if equals else [f"{one}=" for one in _keys()]


def _keys() -> list[str]:
    from mgzoo.recipe.schema import Schema

    return [key for key in _leaves(Schema, "") if key not in ("schema", "description", "stages")]


def _leaves(cls: type, above: str) -> list[str]:
    """Dotted keys of a schema's fields, down to those that hold no fields of their own."""
    keys = []
    for name, hint in typing.get_type_hints(cls).items():
        inner = next((one for one in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(one)), None)
        if typing.get_origin(hint) in (list, dict):
            inner = None
        keys += _leaves(inner, f"{above}{name}.") if inner else [above + name]
    return keys


VALUES: dict[str, Callable[[str], list[str]]] = {
    "RECIPE": _recipes,
    "a.b=value": _overrides,
    "KEY": lambda word: _keys(),
    "ID": lambda word: _ids(),
    "ARTIFACT": _artifacts,
    "MODEL": _artifacts,
    "REF": _artifacts,
    "HUB/NAME[@tag]": _artifacts,
    "RUN": lambda word: _files(word, ()),
    "FOLDER": lambda word: _files(word, ()),
    "FILE": _files,
    "PATH": lambda word: [*_artifacts(word), *_files(word)],
}
"""What stands for each word of the usage; the others (numbers, prompts, new names) are a person's own."""
