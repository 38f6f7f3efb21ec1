"""Argument types of the command line: each function parses one argument, or raises `argparse.ArgumentTypeError`."""

import argparse
import math
import re
from collections.abc import Sequence

from mgzoo.errors import suggest
from mgzoo.spec import KINDS, SEED_LIMIT, MgzooError

LISTED = (*KINDS, "recipe", "plugin", "verb")
"""Kinds for `mgzoo list`; plurals are accepted."""


def part_kind(text: str) -> str:
    return _one_of(text, KINDS)


def listed_kind(text: str) -> str:
    return _one_of(text, LISTED)


def _one_of(text: str, known: Sequence[str]) -> str:
    word = text if text in known else text.removesuffix("s")
    if word not in known:
        close = suggest(word, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"kinds are {', '.join(known)}"
        raise argparse.ArgumentTypeError(f"unknown kind {text!r}; {hint}")
    return word


def path(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    from mgzoo import storage

    try:
        storage.refuse_address(text)
    except MgzooError as error:
        raise argparse.ArgumentTypeError(f"{error.what}: {error.remedy}") from None
    return text


def names(text: str) -> tuple[str, ...]:
    found = tuple(name for name in (one.strip() for one in text.split(",")) if name)
    if not found:
        raise argparse.ArgumentTypeError("give at least one name, separated by commas")
    return found


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer >= 1")
    return int(text)


def seed(text: str) -> int | str:
    if text == "random":
        return text
    if not text.isdecimal() or len(text) > 40 or int(text) >= SEED_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is neither random nor an integer from 0 to {SEED_LIMIT - 1}")
    return int(text)


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def positive_number(text: str) -> float:
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not positive")
    return value


def size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, e.g. 64x64")
    return int(match[1]), int(match[2])
