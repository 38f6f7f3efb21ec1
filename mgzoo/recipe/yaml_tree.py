"""YAML files as trees with the origin of every value, and the merging of layers.

YAML 1.2: ``16:9`` is text and ``1e-4`` a number. No tags, anchors or aliases: a recipe is plain data.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from mgzoo.discovery import current_id
from mgzoo.spec import Origin, Problem

COMMAND_LINE = Origin(source="command line")
MISSING = "???"


@dataclass
class Node:
    """A value and its origin.

    value: dict[str, Node], list[Node] or a scalar. overridden: (origin, value) of the replaced values, oldest first.
    raw: text of the interpolation. reported: invalid, with a reported problem.
    text: an override as typed, the value of a text field. unread: YAML error in an override with brackets.
    replaced_config: for a part with a new `use`, the config written for the component before.
    """

    value: Any
    origin: Origin
    overridden: list[tuple[Origin, Any]] = field(default_factory=list)
    raw: str | None = None
    reported: bool = False
    text: str | None = None
    unread: Problem | None = None
    replaced_config: Node | None = None

    @property
    def is_map(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, list)

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if self.is_map:
            return {key: child.plain() for key, child in self.value.items()}
        return [child.plain() for child in self.value] if self.is_list else self.value


def node_of(value: Any, origin: Origin) -> Node:
    """A tree from plain values with one common origin."""
    if isinstance(value, dict):
        return Node({str(key): node_of(child, origin) for key, child in value.items()}, origin)
    if isinstance(value, (list, tuple)):
        return Node([node_of(child, origin) for child in value], origin)
    return Node(value, origin)


def parse_yaml(text: str, source: str, problems: list[Problem], typed: bool = False) -> Node | None:
    """YAML text -> tree, or None where it is no YAML at all. typed: on a command line, so there are no line numbers worth
    telling, and plain scalars keep their text."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    reader = _Reader(source, problems, typed)
    if re.match(r"(\s*(#.*)?\n)*%", text):
        reader.problem("YAML directives are not supported", "remove the lines with a leading %: recipes are YAML 1.2", reader.origin(None), "syntax")
        return None
    try:
        root = yaml_reader()().compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
        remedy = "put quotes around ${...} inside brackets" if "${" in line else "correct the indentation, quotes or brackets at or before this line"
        reader.problem(f"invalid YAML: {error.problem or error.context}", remedy, reader.origin(mark), "syntax")
        return None
    except (YAMLError, RecursionError) as error:
        remedy = "save the file as UTF-8 text without control characters or endless brackets"
        reader.problem(f"invalid YAML: {' '.join(str(error).split())}", remedy, reader.origin(None), "syntax")
        return None
    return Node(None, reader.origin(None)) if root is None else reader.convert(root, "")


class _Reader:
    """Turns the nodes that ruamel.yaml composes into a tree; `problems` grows."""

    def __init__(self, source: str, problems: list[Problem], typed: bool):
        self.source, self.problems, self.typed = source, problems, typed
        self.seen: set[int] = set()

    def origin(self, mark) -> Origin:
        return Origin(source=self.source, line=None if self.typed or mark is None else mark.line + 1)

    def problem(self, what: str, remedy: str, origin: Origin, kind: str, key: str = "") -> None:
        self.problems.append(Problem(what=what, remedy=remedy, key=key, origin=origin, kind=kind))

    def convert(self, node, key: str) -> Node:
        """One node and those below it; one that cannot be used has its problem reported."""
        where = self.origin(node.start_mark)
        if id(node) in self.seen:
            self.problem("YAML aliases are not supported", "write the value out, or refer to it with ${key}", where, "yaml", key)
            return Node(None, where, reported=True)
        self.seen.add(id(node))
        kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
        if kind == "map":
            return Node(self.children(node, key), where)
        if kind == "seq":
            return Node([self.convert(child, f"{key}.{i}") for i, child in enumerate(node.value)], where)
        if kind in SCALARS:
            try:
                return Node(SCALARS[kind](node.value), where, text=node.value if self.typed and not node.style else None)
            except ValueError as error:
                self.problem(f"{node.value[:40]!r} is not a number: {error}", "write a number, or text in quotes", where, "type", key)
                return Node(None, where, reported=True)
        self.problem(f"the YAML tag {node.tag} is not supported", "write plain text, numbers, lists and maps", where, "yaml", key)
        return Node(None, where, reported=True)

    def children(self, node, key: str) -> dict[str, Node]:
        """The values of a map by their keys."""
        children: dict[str, Node] = {}
        for name_node, child in node.value:
            name, where = name_node.value, self.origin(name_node.start_mark)
            if not isinstance(name, str):
                self.problem("a key is a list or a map", "write text before the colon", where, "yaml", key)
                continue
            inner = f"{key}.{name}" if key else name
            if name in children:
                self.problem(f"duplicate key; first at {children[name].origin}", "keep one of them", where, "duplicate-key", inner)
            children[name] = self.convert(child, inner)
            children[name].origin = where
        return children


def _integer(text: str) -> int:
    text = text.replace("_", "")
    return int(text, 0) if re.match(r"[-+]?0[xob]", text) else int(text)


def _float(text: str) -> float:
    text = text.replace("_", "").lower()
    return math.nan if text == ".nan" else float(text.replace(".inf", "inf"))


SCALARS = {"null": lambda text: None, "bool": lambda text: text.lower() == "true", "int": _integer, "float": _float,
           "str": str, "timestamp": str, "value": str, "merge": str}


@cache
def yaml_reader():
    """Create a reader, for one use."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scanner import Scanner

    class QuestionMarks(Scanner):
        """Parses ``{path: ???}`` as YAML 1.2: a question mark followed by text starts a scalar."""

        def check_key(self):
            return self.reader.peek(1) in "\0 \t\r\n"

        def check_plain(self):
            return super().check_plain() or (self.reader.peek() == "?" and not self.check_key())

    def reader():
        yaml = YAML(typ="safe", pure=True)
        yaml.Scanner = QuestionMarks
        return yaml

    return reader


def merge_trees(base: Node, over: Node) -> Node:
    """Merge one layer over another: maps merge, everything else replaces. A part with a new `use` drops weights and adapter; its config
    becomes `Node.replaced_config`, the source of the settings that validation keeps."""
    if not (base.is_map and over.is_map):
        return replace(over, overridden=[*base.overridden, (base.origin, base.plain()), *over.overridden])
    kept, use, replaced = base.value, over.value.get("use"), over.replaced_config or base.replaced_config
    if use is not None and "use" in kept and _other(kept["use"].value, use.value):
        replaced = merge_trees(base.replaced_config or Node({}, base.origin), kept.get("config") or Node({}, base.origin))
        kept = {key: child for key, child in kept.items() if key not in ("config", "weights", "adapter")}
    joined = dict(kept)
    for key, child in over.value.items():
        joined[key] = merge_trees(kept[key], child) if key in kept else child
    return Node(joined, over.origin, replaced_config=replaced)


def current_keys(cls: type, node: Node) -> Node:
    """A map with its keys under the current field names of ``cls`` (`spec.option`'s ``formerly``).

    Of a field that is given under two names, the later layer counts, as it stands later in the map."""
    now = {old: f.name for f in dataclasses.fields(cls) for old in f.metadata.get("formerly", ())}
    if not node.is_map or not now.keys() & node.value.keys():
        return node
    children: dict[str, Node] = {}
    for key, child in node.value.items():
        name = now.get(key, key)
        children[name] = merge_trees(children[name], child) if name in children else child
    return Node(children, node.origin)


def _other(kept: Any, use: Any) -> bool:
    """Whether a `use` names another component, and not the same one by its old or its new id."""
    ids = [current_id(name) if isinstance(name, str) else name for name in (kept, use)]
    return ids[0] != ids[1]


def assign(root: Node, path: list[str], value: Node) -> Node:
    """A layer with a single value, e.g. ``stages.0.steps``; a number is an index into a list.

    Raises IndexError for a missing list entry.
    """
    head, rest = path[0], path[1:]
    if root.is_list:
        if not head.isdecimal():
            raise IndexError(head)
        items = list(root.value)
        items[int(head)] = assign(items[int(head)], rest, value) if rest else merge_trees(items[int(head)], value)
        return Node(items, root.origin)
    if rest and root.is_map and head in root.value:
        return replace(root, value={**root.value, head: assign(root.value[head], rest, value)})
    for name in reversed(path):
        value = Node({name: value}, value.origin)
    return merge_trees(root, value)


def find_node(root: Node, key: str) -> Node | None:
    """The node at a dotted key, or None."""
    for name in key.split("."):
        if root.is_map and name in root.value:
            root = root.value[name]
        elif root.is_list and name.isdigit() and int(name) < len(root.value):
            root = root.value[int(name)]
        else:
            return None
    return root


def leaves(root: Node, key: str = "") -> Iterator[tuple[str, Node]]:
    """(dotted key, node) of every scalar, every empty map, and every list without maps in it."""
    children = root.value.items() if root.is_map else enumerate(root.value) if root.is_list else ()
    if children and (root.is_map or any(child.is_map for child in root.value)):
        for name, child in children:
            yield from leaves(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, root


def merge_leaf(default: Node, written: Node) -> Node:
    """A copy of a leaf with its default as the first overridden value."""

    def copy(node: Node) -> Node:
        value = node.value
        if node.is_map:
            value = {name: copy(child) for name, child in value.items()}
        elif node.is_list:
            value = [copy(child) for child in value]
        return replace(node, value=value, overridden=list(node.overridden))

    node = copy(written)
    node.overridden = ([] if default.value == MISSING else [(default.origin, default.plain())]) + node.overridden
    return node
