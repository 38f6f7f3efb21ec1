"""Requests to a task: parsing from command line texts and paths, and validation.

The config of a task has ``request_options()`` (`mgzoo.spec.RequestOption`) and ``output_modalities()``. torch is imported only
to read files.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from mgzoo.discovery import discover
from mgzoo.errors import suggest
from mgzoo.generation.option_checks import flags_of, require_valid
from mgzoo.spec import FILE_KINDS, SEED_LIMIT, MgzooError, RequestOption

if TYPE_CHECKING:
    from mgzoo.media import Media

COMMON = ("prompt", "seed", "frames", "height", "width", "fps", "steps", "guidance")
"""Request options common to all sampling tasks; fixed flags of the command line."""
IN_MEMORY = "(in memory)"
"""Recorded name of an input passed as media instead of a file: such outputs cannot be regenerated from files alone."""
_SHORT = 60
BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
"""Words for yes and no on the command line, in any case."""


def options_of(config) -> tuple[RequestOption, ...]:
    """The task-specific request options of a config. Raises `MgzooError` with the component's name if they are invalid (`option_checks`)."""
    options = tuple(config.request_options()) if hasattr(config, "request_options") else ()
    require_valid(options, config)
    return options


def output_modalities(config) -> tuple[str, ...]:
    """Output modalities of a task: ``video``, ``image``, ``sound``."""
    return tuple(config.output_modalities()) if hasattr(config, "output_modalities") else ("video", "image")


def requires_prompt(config) -> bool:
    """Whether the prompt is required: yes, unless the task declares it as an optional option."""
    return all(ask.required for ask in options_of(config) if ask.name == "prompt")


def choose_task(word: str | None, own) -> tuple[str, Any]:
    """(id, config) of the task head for a word: an id, a plugin's namespace, or the middle of an id; without a word, the model's ``own``
    part. Another task inherits the shared config fields of the own task (sizes, rate).

    Raises `MgzooError` for an unknown or ambiguous word, or a model without a task.
    """
    registry = discover()
    tasks = [one.id for one in registry.kind("task")]
    found = [one for one in tasks if word in (one, *one.split(".")[:2])]
    if own is not None and (word is None or own.component.id in found):
        return own.component.id, own.config
    if word is None:
        raise MgzooError("this model has no task head and cannot generate", remedy=f"choose one with --task: {', '.join(tasks)}")
    if len(found) != 1:
        near = found or suggest(word, tasks, 1)
        hint = f"name one of {', '.join(found)}" if found else f"did you mean {near[0]}?" if near else f"tasks are {', '.join(tasks)}"
        if "." in word:
            component = registry.get(word)  # says what is near, or who would have it
            raise MgzooError(f"{word} is a component of kind {component.kind}, not a task", remedy=f"tasks are {', '.join(tasks)}")
        raise MgzooError(f"{word} {'matches several tasks' if found else 'is not a task'}", remedy=hint)
    config = registry.config_class(found[0])
    kept = {field.name: getattr(own.config, field.name) for field in dataclasses.fields(config) if own is not None and hasattr(own.config, field.name)}
    return found[0], config(**kept)


def parse_flags(asked: Sequence[RequestOption], words: Sequence[str], task: str, others: Sequence[str] = (), left: list[str] | None = None) -> dict[str, Any]:
    """``--name value`` and ``--name=value`` of a command line -> texts by name; ``--name``, ``--no-name`` and ``--name=false`` -> bools.

    others: other known flags, for "did you mean". left: receives the words after a boolean flag that are not its value.
    Raises `MgzooError` for unknown and duplicate flags, and missing values.
    """
    known, given, rest = {flag: ask for ask in asked if ask.name not in COMMON for flag in flags_of(ask)}, {}, list(words)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in known:
            near = suggest(flag, [*known, *others], 1)
            hint = f"did you mean {near[0]}?" if near else f"options are {', '.join(known)}" if known else "the task has no further options"
            raise MgzooError(f"{task} has no option {flag}", remedy=hint)
        ask = known[flag]
        if ask.name in given:
            raise MgzooError(f"{flag} is given twice", remedy="give it only once")
        if ask.kind == "boolean":
            given[ask.name] = _switch(ask, flag, value if equals else None, rest, left)
            continue
        if not equals and not rest:
            raise MgzooError(f"{flag} has no value", remedy=f"write {_usage(ask)}: {ask.help}")
        given[ask.name] = value if equals else rest.pop(0)
    return given


def _switch(ask: RequestOption, flag: str, value: str | None, rest: list[str], left: list[str] | None) -> bool:
    """What a boolean's flag says. value: after an equals sign; rest: the words that follow, of which one may be its value or no part of it."""
    if flag != ask.flag:
        if value is not None:
            raise MgzooError(f"{flag} takes no value", remedy=f"write {_usage(ask)}: {ask.help}")
        value = "false"
    elif value is None and rest and rest[0].lower() in BOOLEANS:
        value = rest.pop(0)
    while rest and not rest[0].startswith("--"):
        if left is None:
            raise MgzooError(f"{flag} takes no value, and is followed by {rest[0][:_SHORT]!r}", remedy=f"write {_usage(ask)}: {ask.help}")
        left.append(rest.pop(0))
    return _value(ask, True if value is None else value)


def parse_request(asked: Sequence[RequestOption], request: Mapping[str, Any]) -> dict[str, Any]:
    """A request with parsed options: files loaded, texts converted to numbers. None means missing.

    Raises `MgzooError` for missing options and wrong types.
    """
    whole = {name: value for name, value in request.items() if value is not None}
    if missing := [ask for ask in asked if ask.required and ask.name not in whole]:
        flags = "; ".join(f"{_usage(ask)}: {ask.help}" for ask in missing)
        raise MgzooError(f"missing in the request: {', '.join(ask.name for ask in missing)}", remedy=f"add {flags}")
    for ask in asked:
        if ask.name in whole:
            whole[ask.name] = _file(ask, whole[ask.name]) if ask.kind in FILE_KINDS else _value(ask, whole[ask.name])
    return whole


def parse_seed(value: Any) -> int:
    """Parse a seed: an integer from 0 to 2^64 - 1, or ``random`` for a new one."""
    if value == "random":
        return secrets.randbelow(SEED_LIMIT)
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < SEED_LIMIT:
        raise MgzooError(f"the seed is {str(value)[:_SHORT]!r}", remedy=f"give an integer from 0 to {SEED_LIMIT - 1}, or random")
    return number


def record_inputs(asked: Sequence[RequestOption], request: Mapping[str, Any]) -> dict[str, Any]:
    """A request for the generation record: input files as name and blake3 digest. Inputs passed in memory
    have the name `IN_MEMORY`."""
    files, recorded = {ask.name for ask in asked if ask.kind in FILE_KINDS}, {}
    for name, value in request.items():
        if name in files and isinstance(value, str | Path):
            value = {"file": Path(value).name, "blake3": input_digest(value)}
        elif name in files:
            value = {"file": IN_MEMORY, "blake3": _media_digest(value)}
        recorded[name] = value
    return recorded


def _media_digest(media: Media) -> str:
    digest = blake3()
    for tensor in (media.video, media.audio):
        if tensor is not None:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def locate_inputs(asked: Sequence[RequestOption], request: Mapping[str, Any], given: Mapping[str, str], beside: Path) -> dict[str, Any]:
    """A recorded request with the paths of its input files: from ``given``, else by the recorded name in the folder of the generated
    file or the working folder. Raises `MgzooError` for missing or changed files."""
    whole = dict(request)
    if strange := sorted(request.keys() - {ask.name for ask in asked} - set(COMMON)):
        raise MgzooError(f"the record has {', '.join(strange)}, unknown to its task", remedy="do not use this record")
    for ask in asked:
        if ask.kind not in FILE_KINDS or ask.name not in request:
            continue
        made = request[ask.name]
        if not isinstance(made, dict):
            raise MgzooError(f"the record does not name its {ask.name}", remedy="do not use this record")
        if made["file"] == IN_MEMORY and ask.name not in given:
            raise MgzooError(f"the {ask.name} was passed in memory, not as a file", remedy=f"give a file with the same content: {ask.flag} {_example(ask)}")
        places = [Path(given[ask.name])] if ask.name in given else [beside / made["file"], Path(made["file"])]
        whole[ask.name] = place = next((place for place in places if place.is_file()), None)
        if place is None or input_digest(place) != made["blake3"]:
            what = f"{place} is not the recorded {ask.name}: the content differs" if place else f"the recorded {ask.name} {made['file']} was not found"
            raise MgzooError(what, remedy=f"give it: {ask.flag} {_example(ask)}")
    return whole


def input_digest(path: str | Path) -> str:
    """Hex blake3 digest of a file. Raises `MgzooError` for a missing file."""
    if not Path(path).is_file():
        raise MgzooError("no such file", remedy="check the path", origin=str(path))
    return blake3(max_threads=blake3.AUTO).update_mmap(str(path)).hexdigest()


def _example(ask: RequestOption) -> str:
    return {"image": "FILE.png", "video": "FILE.mp4", "sound": "FILE.wav", "text": "TEXT", "integer": "N", "number": "X",
            "choice": "|".join(ask.choices)}[ask.kind]


def _usage(ask: RequestOption) -> str:
    """How an option is written: ``--strength X``, ``--loop|--no-loop``."""
    return "|".join(flags_of(ask)) if ask.kind == "boolean" else f"{ask.flag} {_example(ask)}"


def _value(ask: RequestOption, value: Any) -> Any:
    def wrong(wanted: str) -> MgzooError:
        return MgzooError(f"{ask.flag} is {str(value)[:_SHORT]!r}, not {wanted}", remedy=f"write {_usage(ask)}: {ask.help}")

    if ask.kind == "boolean":
        if not isinstance(value, bool) and str(value).lower() not in BOOLEANS:
            raise wrong("true or false")
        return value if isinstance(value, bool) else BOOLEANS[str(value).lower()]
    if ask.kind in ("text", "choice"):
        if not isinstance(value, str) or ask.kind == "choice" and value not in ask.choices:
            near = suggest(str(value), ask.choices, 1) if ask.kind == "choice" else []
            raise wrong((f"one of {', '.join(ask.choices)}" + (f"; did you mean {near[0]}?" if near else "")) if ask.choices else "a text")
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or ask.kind == "integer" and number != int(number):
        raise wrong("an integer" if ask.kind == "integer" else "a number")
    if ask.kind != "integer":
        return number
    try:
        return int(value) if not isinstance(value, float) else int(number)  # a float holds 53 bits
    except ValueError:  # 3.0 and 3e0 are whole numbers too
        return int(number)


def _file(ask: RequestOption, value: Any) -> Media:
    from mgzoo import media

    name = value if isinstance(value, (str, Path)) else f"the {ask.name} given"
    found = media.read(value, even=True) if isinstance(value, (str, Path)) else value
    if not isinstance(found, media.Media):
        raise MgzooError(f"{ask.name} is a {type(value).__name__}", remedy="give the path of a file, or a mgzoo.media.Media")
    frames = 0 if found.video is None else len(found.video)
    wanted = {"image": "a picture", "video": "a clip", "sound": "a file with sound"}[ask.kind]
    if ask.kind == "sound" and (found.audio is None or not found.audio.numel()):
        raise MgzooError(f"{ask.flag} expects {wanted}; this file has no sound", remedy="give a .wav, or a clip with a sound track", origin=str(name))
    if ask.kind != "sound" and frames != 1 and (ask.kind == "image" or not frames):
        has = f"this file is a clip of {frames} frames" if frames else "this file is a sound without video"
        raise MgzooError(f"{ask.flag} expects {wanted}; {has}", remedy="extract a frame" if frames else "give another file", origin=str(name))
    if ask.kind == "video" and frames == 1:
        raise MgzooError(f"{ask.flag} expects {wanted}; this file is a single image", remedy="give a clip of two frames or more", origin=str(name))
    return found
