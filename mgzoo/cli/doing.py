"""The verbs that train, generate and share. torch is imported when one of them runs."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from mgzoo.cli import output
from mgzoo.cli.reading import drift, lock_path
from mgzoo.cli.verbs import parser
from mgzoo.spec import MgzooError, RecipeError

SLUG = 60


def train(arguments) -> int:
    """`mgzoo train RECIPE [a.b=value …] --out RUN [--resume]`: rank 0 prints the artifact's folder."""
    from mgzoo.recipe import compose

    recipe = compose(arguments.recipe, arguments.overrides)
    if found := drift(arguments.recipe, recipe):
        raise RecipeError(found)

    from mgzoo.hub import refs
    from mgzoo.train import train as trained

    # Held to a lock, everything it names is here and is what it was: no hub needs to be asked.
    with refs.without_network() if lock_path(arguments.recipe).is_file() else nullcontext():
        run = trained(recipe, arguments.out, resume=arguments.resume)
    if os.environ.get("RANK", "0") == "0":
        print(run.artifact)
    return 0


def generate(arguments) -> int:
    """`mgzoo generate MODEL "PROMPT" …`, or `mgzoo generate [MODEL] --from FILE`: the file written goes to stdout."""
    request = _request(arguments)
    out = Path(arguments.out) if arguments.out else None

    from mgzoo.hub import generated, refs

    if arguments.source:
        made = generated.read(arguments.source)
        folder, request = generated.find(made, arguments.model, origin=arguments.source), dict(made.request)
        name = made.model, made.revision
        for one in generated.drift(made, arguments.source):
            output.note(f"note: {one.what}: the bits may differ")
        out = out or _unused(Path(Path(arguments.source).name))
        _frames(out, request.get("frames"))
    else:
        frames = _frames(out, arguments.frames)
        request |= {"frames": frames} if frames else {}
        folder = refs.resolve(arguments.model)
        name = generated.named(arguments.model, folder)

    import torch

    from mgzoo.model import load

    model = load(folder, device="cuda" if torch.cuda.is_available() else "cpu")
    if "task" in request:
        model.task = _task(model, request["task"])
    machine = {"torch": torch.__version__, "device": model.device.type, "threads": torch.get_num_threads()}
    if arguments.source and (differs := [f"{key} {made.machine.get(key)!r}, here {machine[key]!r}" for key in machine if made.machine.get(key) != machine[key]]):
        output.note(f"note: made with {'; '.join(differs)}: the bits may differ")
    with _progress("sampling") as on_step:
        asked = {**request, "on_step": on_step}
        media = model.generate(**{key: value for key, value in asked.items() if key != "task" and value is not None})
    media = dataclasses.replace(media, meta={**media.meta, **generated.record(name, folder, model.recipe, request, machine)})
    print(media.save(out or _unused(Path(slug(request["prompt"]) + _suffix(media)))))
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
    if lacks := [name for name, value in (("MODEL", arguments.model), ("PROMPT", arguments.prompt)) if value is None]:
        parser("generate").error(f"the following arguments are required: {', '.join(lacks)}")
    if not arguments.prompt.strip():
        raise MgzooError("the prompt is empty", remedy='say what to generate, e.g. mgzoo generate MODEL "a rabbit hopping"')
    return {"seed": 0, **given}


def _frames(out: Path | None, frames: int | None) -> int | None:
    """How many frames to ask for: a name that can hold only one means one. Raises `MgzooError` where the name and --frames disagree."""
    from mgzoo.media import WRITTEN

    if out is None:
        return frames
    if out.suffix.lower() not in WRITTEN:
        raise MgzooError(f"{out} is no name of a media file", remedy=f"end it in one of {', '.join(WRITTEN)}")
    if out.is_dir():
        raise MgzooError(f"{out} is a folder", remedy="name a file")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise MgzooError(f"{out} cannot be written: {above} is no folder that can be written", remedy="choose another path")
    if out.suffix.lower() == ".png" and frames not in (None, 1):
        raise MgzooError(f"a .png holds one frame, --frames asks for {frames}", remedy="end the name in .mp4, or ask for --frames 1")
    return 1 if out.suffix.lower() == ".png" else frames


def _suffix(media) -> str:
    if media.video is None:
        return ".wav"
    return ".png" if len(media.video) == 1 else ".mp4"


def push(arguments) -> int:
    """`mgzoo push RUN|FOLDER HUB/NAME[@tag]`: what was pushed, at its commit, goes to stdout."""
    from mgzoo import hub

    commit = hub.push(arguments.folder, arguments.ref, sign=arguments.sign, report=output.note if sys.stderr.isatty() else None)
    name = f"{arguments.ref.partition('@')[0]}@{commit}"
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


def _task(model, component_id: str):
    """Another task head for a loaded model; what its config shares with the model's own task (sizes, rate) is kept."""
    from mgzoo.discovery import discover

    registry = discover()
    component = registry.get(component_id)
    if component.kind != "task":
        tasks = ", ".join(one.id for one in registry.kind("task"))
        raise MgzooError(f"{component_id} is of kind {component.kind}, not task", remedy=f"tasks are {tasks}")
    config, own = registry.config_class(component_id), model.task.config
    kept = {field.name: getattr(own, field.name) for field in dataclasses.fields(config) if hasattr(own, field.name)}
    return registry.build_class(component_id)(config(**kept))


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
