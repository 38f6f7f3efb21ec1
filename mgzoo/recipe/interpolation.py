"""Interpolation: ``${key}`` in a recipe is replaced by the value of another key."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mgzoo.errors import suggest
from mgzoo.recipe.schema import RENAMED
from mgzoo.recipe.yaml_tree import Node, find_node, leaves, node_of
from mgzoo.spec import Problem

MAX_EXPANSION = 1_000_000
"""Maximum characters added by interpolation: a few nested references could otherwise grow without limit."""
PLAIN = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")


def _size(root: Node) -> int:
    """Size of an interpolated value: characters of a text, or of all texts and scalars of a tree."""
    if root.is_map or root.is_list:
        return sum(1 + _size(child) for child in (root.value.values() if root.is_map else root.value))
    return len(root.value) if isinstance(root.value, str) else 1


@dataclass
class Interpolation:
    """Interpolates ``${key}``; a node with a problem is marked as reported."""

    root: Node
    problems: list[Problem]
    spent: int = 0

    def fill_all(self, node: Node, key: str) -> None:
        """Interpolate all values at and below a node; values in `stages[].set` are interpolated per stage."""
        if re.fullmatch(r"stages\.\d+\.set", key):
            return
        if node.is_map or node.is_list:
            for name, child in node.value.items() if node.is_map else enumerate(node.value):
                self.fill_all(child, f"{key}.{name}" if key else str(name))
        else:
            self.fill(node, key)

    def fill(self, node: Node, key: str, chain: tuple[str, ...] = ()) -> None:
        """Replace references by values. chain: the keys on the way here."""
        if not (isinstance(node.value, str) and "${" in node.value) or node.reported:
            return
        node.reported = True  # until it is filled: what refers to it meanwhile is part of a circle
        text, targets = node.value, {}

        def problem(what: str, remedy: str) -> None:
            self.problems.append(Problem(what=what, remedy=remedy, key=key, origin=node.origin, kind="interpolation"))

        if "${" in PLAIN.sub("", text):
            problem(f"unsupported interpolation in {text!r}",
                    "write ${key} with a dotted key, or the value itself; environment variables and functions are not supported")
            return
        for name in PLAIN.findall(text):
            wanted = RENAMED.get(name, name)
            targets[name] = target = find_node(self.root, wanted)
            if wanted in (*chain, key):
                problem(f"circular reference: {' -> '.join((*chain, key, wanted))}", "write the value in one of the keys")
                return
            if target is None:
                known, last = [known for known, _ in leaves(self.root)], wanted.rpartition(".")[2]
                near = [key for key in known if key.rpartition(".")[2] == last] or suggest(wanted, known, 1)
                problem(f"the recipe has no key ${{{wanted}}}", f"did you mean ${{{near[0]}}}?" if near else "check the key")
                return
            self.fill(target, wanted, (*chain, key))
            if target.reported:
                return
        sizes = {wanted: _size(target) for wanted, target in targets.items()} if self.spent <= MAX_EXPANSION else {}
        self.spent += sum(sizes[wanted] for wanted in PLAIN.findall(text)) if sizes else 0
        if self.spent > MAX_EXPANSION:
            problem("the recipe is too large after interpolation", "reduce the number of references")
            return
        whole = PLAIN.fullmatch(text)
        plain = targets[whole[1]].plain() if whole else PLAIN.sub(lambda match: str(targets[match[1]].plain()), text)
        node.value, node.raw, node.reported = node_of(plain, node.origin).value, text, False
