"""`mgzoo generate`. torch is imported after all checks without it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mgzoo.cli import output
from mgzoo.cli.parser import parser
from mgzoo.spec import FILE_KINDS, MgzooError


def generate(arguments) -> int:
    """`mgzoo generate MODEL "PROMPT" …`, or `mgzoo generate [MODEL] --from FILE`: the file written goes to stdout."""
    asked = _request(arguments)
    out = Path(arguments.out) if arguments.out else None

    from mgzoo.artifact.integrity import raise_problems
    from mgzoo.generation.output import default_path, require_holds, require_writable, unused_path
    from mgzoo.generation.record import find_recorded_model, machine_differences, read_record, task_problems, version_drift
    from mgzoo.generation.request import choose_task, locate_inputs, options_of, output_modalities, parse_request, requires_prompt
    from mgzoo.hub.fetch import fetch
    from mgzoo.recipe.artifact_check import check_contract, open_artifact

    if out:
        require_writable(out)
    made = read_record(arguments.source) if arguments.source else None
    if made:
        raise_problems([one for one in task_problems(made, arguments.source) if one.key == "task.id"])
        folder, asked = find_recorded_model(made, arguments.model, origin=arguments.source), dict(made.request)
        for one in task_problems(made, arguments.source) + version_drift(made, arguments.source):
            output.note(f"note: {one.what}: the output may not be bit-identical")
        out = out or unused_path(Path(Path(arguments.source).name))
    else:
        folder = fetch(arguments.model, before_weights=check_contract)
    opened = open_artifact(folder)
    task, config = choose_task(asked.pop("task", None), opened.recipe.parts.get("task"))
    options = options_of(config)
    words = _flags(options, arguments, task, asked)
    request = locate_inputs(options, asked, words, Path(arguments.source).parent) if made else asked | words
    if requires_prompt(config) and "prompt" not in request:
        parser("generate").error("the following arguments are required: PROMPT")
    require_holds(out, request, task, config, output_modalities(config))
    request = parse_request([option for option in options if option.kind not in FILE_KINDS], request)

    import torch

    from mgzoo.generation.record import LoadedFrom
    from mgzoo.model.generate import generates_frames, machine_of
    from mgzoo.model.load import load

    model = load(folder, opened=opened, device="cuda" if torch.cuda.is_available() else "cpu")
    model.artifact = LoadedFrom.of(arguments.model, folder) if not made else model.artifact.called(made.model, made.revision)
    if made and (differs := machine_differences(made, machine_of(model))):
        output.note(f"note: {differs}")
    if out and out.suffix.lower() == ".png" and generates_frames(task):
        request["frames"] = 1
    with _progress("sampling") as on_step:
        media = model.generate(task=task, **request, on_step=on_step)
    path = media.save(out or default_path(media, request, options))
    if media.audio is not None and "sound" in output_modalities(config):
        from mgzoo.media.spectrogram import draw_spectrogram

        output.note(f"spectrogram: {draw_spectrogram(media.audio, media.rate, path.with_suffix('.spectrogram.png'), title=media.caption)}")
    print(path)
    return 0


def _flags(options, arguments, task: str, asked: dict) -> dict:
    """The task's own flags. A word after a boolean's flag is the prompt where there is none yet: which flags take a value is known only now."""
    from mgzoo.generation.request import parse_flags

    left: list[str] = []
    given = parse_flags(options, arguments.more, task, list(parser("generate")._option_string_actions), left)
    if left and arguments.source is None and "prompt" not in asked:
        asked["prompt"] = left.pop(0)
    if left:
        parser("generate").error(f"unrecognized arguments: {' '.join(left)}")
    return given


def _request(arguments) -> dict:
    """What the command line asks for, without what it leaves to the model. Raises `Usage` where it says too little or too much."""
    width, height = arguments.size or (None, None)
    asked = {"task": arguments.task, "seed": arguments.seed, "frames": arguments.frames, "height": height, "width": width}
    asked |= {"fps": arguments.fps, "steps": arguments.steps, "guidance": arguments.guidance}
    asked = {"prompt": arguments.prompt, **asked}
    given = {key: value for key, value in asked.items() if value is not None}
    if arguments.source:
        if given:
            parser("generate").error(f"--from takes all settings from the file: remove {', '.join(given)}")
        return {}
    nothing = arguments.prompt is None and not arguments.more  # a task may do with a file instead
    if lacks := ["MODEL"] * (arguments.model is None) + ["PROMPT"] * nothing:
        parser("generate").error(f"the following arguments are required: {', '.join(lacks)}")
    if not given.get("prompt", "x").strip():
        raise MgzooError("the prompt is empty", remedy='describe the output, e.g. mgzoo generate MODEL "a rabbit hopping"')
    if given.get("seed") == "random":
        from mgzoo.generation.request import parse_seed

        given["seed"] = parse_seed("random")
        output.note(f"seed: {given['seed']}")
    return {"seed": 0, **given}


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
