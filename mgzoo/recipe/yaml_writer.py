"""Plain values as YAML, byte-stable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any


def dump_yaml(tree: dict) -> str:
    """Plain values as YAML, keys in the order given; maps as blocks, what holds no map on one line."""
    return "".join(_block(tree, ""))


def _block(tree: dict, indent: str) -> Iterator[str]:
    for key, value in tree.items():
        maps = isinstance(value, list) and any(isinstance(item, dict) for item in value)
        if isinstance(value, dict) and value:
            yield f"{indent}{_flow(key)}:\n"
            yield from _block(value, indent + "  ")
        elif maps:
            yield f"{indent}{_flow(key)}:\n" + "".join(f"{indent}  - {_flow(item)}\n" for item in value)
        else:
            yield f"{indent}{_flow(key)}: {_flow(value)}\n"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        text = repr(value).replace("inf", ".inf").replace("nan", ".nan")
        return text.replace("e", ".0e") if "e" in text and "." not in text else text  # older YAML wants the point
    if isinstance(value, str):
        if re.fullmatch(r"[A-Za-z_][\w./@+-]*( [\w./@+-]+)*", value, re.ASCII) and value.lower() not in WORDS:
            return value
        unprintable = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
        return unprintable.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
    return json.dumps(value)


WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
"""Texts parsed by some YAML readers as other types."""
