"""The verbs that train, generate and share. torch is imported when one of them runs."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mgzoo.cli import output
from mgzoo.cli.reading import drift, lock_path
from mgzoo.cli.verbs import parser
from mgzoo.spec import FILES, MgzooError, RecipeError

SLUG = 60


def train(arguments) -> int:
    """`mgzoo train RECIPE [a.b=value …] --out RUN [--resume [--accept-changes]]`: rank 0 prints the artifact's folder."""
    from mgzoo.recipe import compose

    recipe = compose(arguments.recipe, arguments.overrides)
    if found := drift(arguments.recipe, recipe):
        raise RecipeError(found)

    from mgzoo.hub import refs
    from mgzoo.train import train as trained

    # Held to a lock, everything it names is here and is what it was: no hub needs to be asked.
    with refs.without_network() if lock_path(arguments.recipe).is_file() else nullcontext():
        run = trained(recipe, arguments.out, resume=arguments.resume, accept_changes=arguments.accept_changes)
    if os.environ.get("RANK", "0") == "0":
        print(run.artifact)
    return 0


def generate(arguments) -> int:
    """`mgzoo generate MODEL "PROMPT" …`, or `mgzoo generate [MODEL] --from FILE`: the file written goes to stdout."""
    request = _request(arguments)
    out = Path(arguments.out) if arguments.out else None
    if out:
        _writable(out)

    from mgzoo import asks
    from mgzoo.hub import generated, refs
    from mgzoo.media import can_hold
    from mgzoo.recipe import compose

    if arguments.source:
        made = generated.read(arguments.source)
        folder, told = generated.find(made, arguments.model, origin=arguments.source), dict(made.request)
        name = made.model, made.revision
        for one in generated.drift(made, arguments.source):
            output.note(f"note: {one.what}: the bits may differ")
        out = out or _unused(Path(Path(arguments.source).name))
    else:
        folder, told = refs.resolve(arguments.model), request
        name = generated.named(arguments.model, folder)
    own = compose(folder / "recipe.yaml").parts.get("task")
    task, config = _task(told.pop("task", None), own)
    asked, flags = asks.of(config), [action for action in parser("generate")._option_string_actions]
    words = asks.parse(asked, arguments.more, task, flags)
    request = asks.found(asked, told, words, Path(arguments.source).parent) if arguments.source else told | words
    if asks.needs_prompt(config) and "prompt" not in request:
        parser("generate").error("the following arguments are required: PROMPT")
    _emits(out, request.get("frames"), task, asks.emits(config))
    can_hold(out or "clip.mp4", **{name: request.get(name) or getattr(config, name, None) for name in ("fps", "height", "width")})
    request = asks.read([ask for ask in asked if ask.kind not in FILES], request)
    tells = ({"task": task} if own is None or task != own.component.id else {}) | asks.recorded(asked, request)

    import torch

    from mgzoo import precision
    from mgzoo.model import load

    model = load(folder, device="cuda" if torch.cuda.is_available() else "cpu")
    if "task" in tells:
        model.take(_other_task(model, task, config))
    machine = {"torch": torch.__version__, "device": model.device.type, "threads": torch.get_num_threads(), **precision.of(model)}
    if arguments.source and (differs := [f"{key} {made.machine.get(key)!r}, here {machine[key]!r}" for key in machine if made.machine.get(key) != machine[key]]):
        elsewhere = made.machine.get("processor") != machine["processor"]
        output.note(f"note: made {'on another kind of processor ' * elsewhere}with {'; '.join(differs)}: the bits may differ")
    if out and out.suffix.lower() == ".png" and "frames" in inspect.signature(model.task.generate).parameters:
        tells["frames"] = request["frames"] = 1
    with _progress("sampling") as on_step:
        media = model.generate(**request, on_step=on_step)
    media = dataclasses.replace(media, meta={**media.meta, **generated.record(name, folder, model.recipe, tells, machine)})
    called = request.get("prompt") or next((Path(request[ask.name]).stem for ask in asked if ask.kind in FILES and ask.name in request), "")
    path = media.save(out or _unused(Path(slug(called) + _suffix(media))))
    if media.audio is not None and "sound" in asks.emits(config):
        from mgzoo.media.spectrogram import draw_spectrogram

        output.note(f"spectrogram: {draw_spectrogram(media.audio, media.rate, path.with_suffix('.spectrogram.png'), title=media.caption)}")
    print(path)
    return 0


def _request(arguments) -> dict:
    """What the command line asks for, without what it leaves to the model. Raises `Usage` where it says too little or too much."""
    width, height = arguments.size or (None, None)
    asked = {"task": arguments.task, "seed": arguments.seed, "frames": arguments.frames, "height": height, "width": width}
    asked |= {"fps": arguments.fps, "steps": arguments.steps, "guidance": arguments.guidance}
    asked = {"prompt": arguments.prompt, **asked}
    given = {key: value for key, value in asked.items() if value is not None}
    if arguments.source:
        if given:
            parser("generate").error(f"--from repeats what the file says: leave out {', '.join(given)}")
        return {}
    nothing = arguments.prompt is None and not arguments.more  # a task may do with a file instead
    if lacks := ["MODEL"] * (arguments.model is None) + ["PROMPT"] * nothing:
        parser("generate").error(f"the following arguments are required: {', '.join(lacks)}")
    if not given.get("prompt", "x").strip():
        raise MgzooError("the prompt is empty", remedy='say what to generate, e.g. mgzoo generate MODEL "a rabbit hopping"')
    if given.get("seed") == "random":
        from mgzoo import asks

        given["seed"] = asks.seed("random")
        output.note(f"seed: {given['seed']}")
    return {"seed": 0, **given}


def _writable(out: Path) -> None:
    from mgzoo.media import WRITTEN

    if out.suffix.lower() not in WRITTEN:
        raise MgzooError(f"{out} is no name of a media file", remedy=f"end it in one of {', '.join(WRITTEN)}")
    if out.is_dir():
        raise MgzooError(f"{out} is a folder", remedy="name a file")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise MgzooError(f"{out} cannot be written: {above} is no folder that can be written", remedy="choose another path")


def _emits(out: Path | None, frames: int | None, task: str, emits: Collection[str]) -> None:
    """Raises `MgzooError` where a file of this name cannot hold what the task gives, or --frames disagrees with it."""
    if out is None:
        return
    suffix = out.suffix.lower()
    holds = {".wav": ("sound",), ".png": ("image",)}.get(suffix, ("video", "image"))
    if not set(holds) & set(emits):
        can = ", ".join(name for name, kinds in ((".mp4", {"video"}), (".png", {"image"}), (".wav", {"sound"})) if kinds & set(emits))
        raise MgzooError(f"{task} gives {' or '.join(emits)}, and a {suffix} holds none", remedy=f"end the name in {can}")
    if suffix == ".png" and frames not in (None, 1):
        raise MgzooError(f"a .png holds one frame, --frames asks for {frames}", remedy="end the name in .mp4, or ask for --frames 1")


def _suffix(media) -> str:
    if media.video is None:
        return ".wav"
    return ".png" if len(media.video) == 1 else ".mp4"


def push(arguments) -> int:
    """`mgzoo push RUN|FOLDER HUB/NAME[@tag]`: what was pushed, at its commit, goes to stdout."""
    from mgzoo import hub
    from mgzoo.hub import refs

    target = refs.parse_target(arguments.ref)
    commit = hub.push(arguments.folder, arguments.ref, sign=arguments.sign, report=output.note if sys.stderr.isatty() else None)
    name = f"{target.base}@{commit}"
    if target.is_ambiguous:
        output.note(f"note: {target.hub} is a folder here, so that this is a hub of this machine; hf://{target.base} is the network hub")
    output.emit_json({"ref": name, "commit": commit}) if arguments.json else print(name)
    return 0


def pull(arguments) -> int:
    """`mgzoo pull REF`: the artifact's folder goes to stdout."""
    from mgzoo import hub

    report = output.note if sys.stderr.isatty() else None
    folder = hub.pull(arguments.ref, licenses=arguments.licenses, require_signature=arguments.require_signature, report=report)
    output.emit_json({"ref": arguments.ref, "folder": str(folder)}) if arguments.json else print(folder)
    return 0


def slug(prompt: str) -> str:
    """A file name for a prompt: its letters and digits in lower case, joined by hyphens, at most 60 characters."""
    words = re.sub(r"[^\w]+", "-", prompt.lower(), flags=re.UNICODE).strip("-_")
    return words[:SLUG].rstrip("-_") or "clip"


def _unused(path: Path) -> Path:
    """The path, or its first free sibling ``name-2``, ``name-3`` …: a default name never overwrites."""
    free, number = path, 2
    while free.exists():
        free, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    return free


def _task(word: str | None, own) -> tuple[str, Any]:
    """(id, config) of the task that a word names: an id, a plugin's namespace, or the middle of an id. The model's own where it is
    that one, or nothing is said; another keeps what its config shares with the own task's (sizes, rate)."""
    from mgzoo.discovery import discover
    from mgzoo.errors import suggest

    registry = discover()
    tasks = [one.id for one in registry.kind("task")]
    found = [one for one in tasks if word in (one, *one.split(".")[:2])]
    if own is not None and (word is None or own.component.id in found):
        return own.component.id, own.config
    if len(found) != 1:
        if word is None:
            raise MgzooError("this model has no task head", remedy=f"choose one with --task: {', '.join(tasks)}")
        near = found or suggest(word, tasks, 1)
        hint = f"name one of {', '.join(found)}" if found else f"did you mean {near[0]}?" if near else f"tasks are {', '.join(tasks)}"
        if "." in word:
            component = registry.get(word)  # says what is near, or who would have it
            raise MgzooError(f"{word} is of kind {component.kind}, not task", remedy=f"tasks are {', '.join(tasks)}")
        raise MgzooError(f"{word} is {'more than one' if found else 'no'} task", remedy=hint)
    config = registry.config_class(found[0])
    kept = {field.name: getattr(own.config, field.name) for field in dataclasses.fields(config) if own is not None and hasattr(own.config, field.name)}
    return found[0], config(**kept)


def _other_task(model, component_id: str, config):
    """A task head that the loaded model was not made with. Raises `MgzooError` for one that needs what the model lacks."""
    import torch

    from mgzoo.discovery import discover

    there = {name.partition(".")[0].removesuffix("s") for name in model.recipe.parts}
    if missing := [kind for kind in config.parts() if kind not in there]:
        raise MgzooError(f"{component_id} needs {', '.join(missing)}, which this model has not", remedy="take a model that was made for it")
    task = discover().build_class(component_id)(config)
    if isinstance(task, torch.nn.Module) and any(True for _ in task.parameters()):
        raise MgzooError(f"{component_id} has learned weights of its own, which this model has not", remedy="take a model that was trained for it")
    return task


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr fed by ``on_step(done, total)``; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(row, completed=done, total=total)
