"""What a request to a task may hold: read from paths and texts, checked, and told where it does not hold.

A task's config says it with ``request_options()`` (`mgzoo.spec.RequestOption`) and what it can give with ``output_modalities()``. This module imports torch only
when a file is read.
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
"""What a request to any task that samples may hold; on the command line these have flags of their own."""
IN_MEMORY = "(in memory)"
"""The recorded name of an input that was given as media and not as a file: the file it is recorded in cannot be made again from files alone."""
_SHORT = 60
BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
"""Words for yes and no on the command line, in any case."""


def options_of(config) -> tuple[RequestOption, ...]:
    """What a task's config asks for besides the usual. Raises `MgzooError` that names the component where they are wrong (`option_checks`)."""
    options = tuple(config.request_options()) if hasattr(config, "request_options") else ()
    require_valid(options, config)
    return options


def output_modalities(config) -> tuple[str, ...]:
    """What a task can give: ``video``, ``image``, ``sound``."""
    return tuple(config.output_modalities()) if hasattr(config, "output_modalities") else ("video", "image")


def requires_prompt(config) -> bool:
    """Whether a request must have a prompt: yes, unless the task asks for it as something that may be left out."""
    return all(ask.required for ask in options_of(config) if ask.name == "prompt")


def choose_task(word: str | None, own) -> tuple[str, Any]:
    """(id, config) of the task head that a word names: an id, a plugin's namespace, or the middle of an id. The model's ``own`` part where it
    is that one, or nothing is said; another keeps what its config shares with the own task's (sizes, rate).

    Raises `MgzooError` where the word names none or several, or the model has none.
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
            raise MgzooError(f"{word} is of kind {component.kind}, not task", remedy=f"tasks are {', '.join(tasks)}")
        raise MgzooError(f"{word} is {'more than one' if found else 'no'} task", remedy=hint)
    config = registry.config_class(found[0])
    kept = {field.name: getattr(own.config, field.name) for field in dataclasses.fields(config) if own is not None and hasattr(own.config, field.name)}
    return found[0], config(**kept)


def parse_flags(asked: Sequence[RequestOption], words: Sequence[str], task: str, others: Sequence[str] = (), left: list[str] | None = None) -> dict[str, Any]:
    """``--name value`` and ``--name=value`` of a command line -> texts by name; ``--name``, ``--no-name`` and ``--name=false`` -> bools.

    others: flags that are known elsewhere, for "did you mean". left: gets the words after a boolean's flag that are no value of it.
    Raises `MgzooError` for a flag that the task does not have, one given twice, and one without its value.
    """
    known, given, rest = {flag: ask for ask in asked if ask.name not in COMMON for flag in flags_of(ask)}, {}, list(words)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in known:
            near = suggest(flag, [*known, *others], 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}" if known else "it takes nothing more"
            raise MgzooError(f"{task} takes no {flag}", remedy=hint)
        ask = known[flag]
        if ask.name in given:
            raise MgzooError(f"{flag} is given twice", remedy="give it once")
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
    """A request with every ask as the task wants it: files read, numbers made of texts. What is None counts as not given.

    Raises `MgzooError` for what is missing, and for what is of another kind than was asked for.
    """
    whole = {name: value for name, value in request.items() if value is not None}
    if missing := [ask for ask in asked if ask.required and ask.name not in whole]:
        flags = "; ".join(f"{_usage(ask)}: {ask.help}" for ask in missing)
        raise MgzooError(f"the request lacks {', '.join(ask.name for ask in missing)}", remedy=f"add {flags}")
    for ask in asked:
        if ask.name in whole:
            whole[ask.name] = _file(ask, whole[ask.name]) if ask.kind in FILE_KINDS else _value(ask, whole[ask.name])
    return whole


def parse_seed(value: Any) -> int:
    """A seed as it was asked for: a whole number from 0 to 2^64 - 1, or ``random`` for one that is drawn here."""
    if value == "random":
        return secrets.randbelow(SEED_LIMIT)
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < SEED_LIMIT:
        raise MgzooError(f"the seed is {str(value)[:_SHORT]!r}", remedy=f"give a whole number from 0 to {SEED_LIMIT - 1}, or random")
    return number


def record_inputs(asked: Sequence[RequestOption], request: Mapping[str, Any]) -> dict[str, Any]:
    """A request as a generated file tells of it: of each input file its name and the blake3 digest of its bytes. An input that was never a
    file is called `IN_MEMORY`."""
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
    """A recorded request with the paths of its input files: those in ``given``, else of the recorded name beside the generated
    file or here. Raises `MgzooError` where one is not there, or holds other bytes than were used."""
    whole = dict(request)
    if strange := sorted(request.keys() - {ask.name for ask in asked} - set(COMMON)):
        raise MgzooError(f"the file says {', '.join(strange)}, which its task does not ask for", remedy="do not use what it says")
    for ask in asked:
        if ask.kind not in FILE_KINDS or ask.name not in request:
            continue
        made = request[ask.name]
        if not isinstance(made, dict):
            raise MgzooError(f"the file does not say which {ask.name} it was made from", remedy="do not use what it says")
        if made["file"] == IN_MEMORY and ask.name not in given:
            raise MgzooError(f"the {ask.name} was given in memory, not as a file", remedy=f"name a file of the same content: {ask.flag} {_example(ask)}")
        places = [Path(given[ask.name])] if ask.name in given else [beside / made["file"], Path(made["file"])]
        whole[ask.name] = place = next((place for place in places if place.is_file()), None)
        if place is None or input_digest(place) != made["blake3"]:
            what = f"{place} is not the {ask.name} that was used: its bytes differ" if place else f"the {ask.name} that was used, {made['file']}, is not here"
            raise MgzooError(what, remedy=f"name it: {ask.flag} {_example(ask)}")
    return whole


def input_digest(path: str | Path) -> str:
    """blake3 of a file's bytes, hex. Raises `MgzooError` where there is none."""
    if not Path(path).is_file():
        raise MgzooError("there is no such file", remedy="check the path", origin=str(path))
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
        raise wrong("a whole number" if ask.kind == "integer" else "a number")
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
        raise MgzooError(f"{ask.flag} wants {wanted}, and there is no sound in this one", remedy="name a .wav, or a clip with a sound track", origin=str(name))
    if ask.kind != "sound" and frames != 1 and (ask.kind == "image" or not frames):
        has = f"this is a clip of {frames} frames" if frames else "this is a sound without a picture"
        raise MgzooError(f"{ask.flag} wants {wanted}, and {has}", remedy="take a frame of it" if frames else "name another file", origin=str(name))
    if ask.kind == "video" and frames == 1:
        raise MgzooError(f"{ask.flag} wants {wanted}, and this is a picture: one frame", remedy="name a clip of two frames or more", origin=str(name))
    return found
