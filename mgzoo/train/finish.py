"""The end of a run: from the engine's weights to the artifact."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed

from mgzoo import precision
from mgzoo.model.lora import in_base_dtype
from mgzoo.train import counters, metrics_log, validation
from mgzoo.train.trainable import load_trained

FINISH_BATCHES = 16


def finish_run(loop, write: Callable[..., Any] | None):
    """Put the kept weights in the model, let the task calibrate, measure them, and write curve and artifact; returns the `Run`."""
    batches = [next(loop.stream) for _ in range(FINISH_BATCHES)] if hasattr(loop.model.task, "finish") else []
    names, kept = loop.current_parts, loop.release_engine([])["weights"]
    loop.set_debug(False)
    for name in names:
        load_trained(loop.model.part(name), name, kept)
        loop.model.part(name).eval()
    if batches:
        loop.seeded("finish")
        with torch.no_grad():
            loop.model.task.finish(loop.model, [loop.model.task.prepare(loop.model, batch) for batch in batches])
    if loop.stage.train.validate_every and loop.rank_info.is_first:
        with contextlib.ExitStack() as precise:
            for name in names:
                precise.enter_context(in_base_dtype(loop.model.part(name)))
            held = validation.measure_held_out(loop, lambda example, generator: loop.model.task.validate(loop.model, example, generator))
        loop.metrics |= {f"held_out_{name}": value for name, value in held.items()}
        loop.log({"step": loop.step, "stage": loop.stage.name, "kept": held})
    for name in loop.model.part_names():
        loop.weights.restore_float32(name)
    loop.model.clear_fingerprints()
    artifact = loop.out / "artifact" if write is not None else None
    if loop.rank_info.is_first:
        metrics_log.plot_curve(loop.out / "metrics.jsonl", loop.out / "curve.png")
        if artifact:
            state = {name: loop.weights.state_dict(name) for name in names}
            about = {"precision": loop.stage.train.precision, "processor": precision.processor(loop.rank_info.device.type)}
            write(loop.model, artifact, state=state, metrics=loop.metrics | about, curve=loop.out / "curve.png")
            if loop.hook is not None:
                loop.hook.mgzoo_saved(run=loop.run(artifact), path=artifact)
    distributed.barrier()
    if loop.counts:
        loop.progress.say(f"! counted: {counters.format_counts(loop.counts)}")
    return loop.run(artifact)
