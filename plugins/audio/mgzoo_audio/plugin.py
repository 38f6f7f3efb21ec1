"""Declares the parts of this plugin; imports none of them."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component, Problem


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="audio.sound.v1",
            kind="task",
            config="mgzoo_audio.configs:SoundConfig",
            target="mgzoo_audio.task:Sound",
            summary="sound from text and video, extension, infilling (Movie Gen Audio, section 6)",
        ),
        Component(
            id="audio.frames.v1",
            kind="encoder",
            config="mgzoo_audio.configs:FramesConfig",
            target="mgzoo_audio.frames:Frames",
            summary="features of the frames of a clip and of its motion; trains with the model",
        ),
        Component(
            id="audio.sounds.v1",
            kind="data",
            config="mgzoo_audio.sound_configs:SoundsConfig",
            target="mgzoo_audio.sounds:Sounds",
            summary="captioned sounds, with or without video, from a folder",
        ),
        Component(
            id="audio.sync.v1",
            kind="metric",
            config="mgzoo_audio.configs:SyncConfig",
            target="mgzoo_audio.metrics:Sync",
            summary="alignment of sound onsets with motion reversals",
        ),
        Component(
            id="audio.caption.v1",
            kind="metric",
            config="mgzoo_audio.configs:CaptionConfig",
            target="mgzoo_audio.metrics:Caption",
            summary="pitch accuracy against the note named in the caption",
        ),
    ]


@hookimpl
def mgzoo_check(recipe):
    """One rate for the codec, the data and the task; rankings that are metrics."""
    task = recipe.parts.get("task")
    if task is None or task.component.id != "audio.sound.v1":
        return []
    from mgzoo.discovery import discover

    rate, registry, problems = task.config.rate, discover(), []
    for name, part in (("parts.autoencoder", recipe.parts.get("autoencoder")), ("data", recipe.data)):
        other = getattr(part.config, "rate", rate) if part else rate
        if other != rate:
            problems.append(Problem(what=f"{part.component.id} has {other} samples per second, but the task has {rate}", remedy="set both to the same rate",
                                    key=f"{name}.config.rate", origin=recipe.origin(f"{name}.config.rate"), kind="rate"))  # fmt: skip
    metrics = [component.id for component in registry.kind("metric")]
    for name in task.config.ranking:
        if name not in metrics:
            problems.append(Problem(what=f"unknown metric {name!r}", remedy=f"choose among {', '.join(metrics)}", key="parts.task.config.ranking",
                                    origin=recipe.origin("parts.task.config.ranking"), kind="component"))  # fmt: skip
    return problems
