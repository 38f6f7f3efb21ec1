"""Values of overrides, ``a.b=value``, as YAML and as text; the type of the key decides. No torch."""

from __future__ import annotations

import re
import types
import typing
from dataclasses import replace
from typing import Any

from mgzoo.recipe.yaml_tree import COMMAND_LINE, Node, parse_yaml, yaml_reader
from mgzoo.spec import Problem

UNWRITABLE = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""Characters not allowed in YAML: control characters, and invalid UTF-8 from the command line."""


def parse_override_value(text: str, problems: list[Problem]) -> Node:
    """The value of an override: YAML where all of it counts in YAML, else text as it stands.

    A comment, an anchor, a tag, a directive or lines that YAML would fold make it text: nothing that was typed is dropped. Its key
    has the last word (`as_text`).
    """
    if re.search(UNWRITABLE, text):
        problems.append(Problem(what=f"{text[:40]!r} contains a control character or invalid UTF-8",
                                remedy="write it as text", origin=COMMAND_LINE, kind="override"))
        return Node(None, COMMAND_LINE, reported=True)
    found: list[Problem] = []
    node = parse_yaml(text, COMMAND_LINE.source, found, typed=True)
    if node is None or found or not _all_counts(text):
        return Node(text, COMMAND_LINE, text=text, unread=found[0] if found and text.lstrip()[:1] in ("[", "{") else None)
    quoted = isinstance(node.value, str) and node.text is None
    return node if quoted else replace(node, text=text)


def _all_counts(text: str) -> bool:
    """Whether YAML that can be read drops or folds nothing of a text."""
    from ruamel.yaml.nodes import ScalarNode

    root = yaml_reader()().compose(text)
    if root is None:
        return not text.strip()
    nodes, outside = [root], list(text)
    for node in nodes:
        if node.anchor is not None:
            return False
        if isinstance(node, ScalarNode):
            outside[node.start_mark.index : node.end_mark.index] = " " * (node.end_mark.index - node.start_mark.index)
        else:
            nodes += [child for entry in node.value for child in (entry if isinstance(entry, tuple) else (entry,))]
    if "#" in outside:  # outside of every scalar it begins a comment
        return False
    written = text.strip()
    if isinstance(root, ScalarNode) and not root.style:
        return written == root.value
    if isinstance(root, ScalarNode) or root.flow_style:
        closing = {"[": "]", "{": "}", "'": "'", '"': '"'}.get(written[0])
        return written == text[root.start_mark.index : root.end_mark.index].strip() and (written[-1] == closing or written[0] in "|>" and "\n" in written)
    return text.lstrip()[:3] not in ("---", "...") and written[0] != "%"


def as_text(node: Node, hint: Any) -> Node:
    """What was typed for a key of this type: the text itself where the key holds a text, also one in a list or a map."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType) and types.NoneType in args:
        kinds = [arg for arg in args if arg is not types.NoneType]
        return node if node.value is None or len(kinds) > 1 else as_text(node, kinds[0])
    if node.text is not None and (hint is str or origin is typing.Literal and all(isinstance(arg, str) for arg in args)):
        return replace(node, value=node.text, unread=None)
    if node.is_list and origin in (list, tuple) and args:
        return replace(node, value=[as_text(child, args[0]) for child in node.value])
    if node.is_map and origin is dict:
        return replace(node, value={key: as_text(child, args[1]) for key, child in node.value.items()})
    return node
