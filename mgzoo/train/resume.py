"""Saving a run so that it can go on, and going on: bit for bit with the same ranks, through DeepSpeed's universal format otherwise.

The random state of every rank is no part of it: it is a function of seed, step and micro-batch (see `mgzoo.train.loop`).
"""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import distributed

from mgzoo.spec import MgzooError
from mgzoo.train import checkpoint, journal
from mgzoo.train.ranks import Place, silence


def save(loop) -> None:
    """Write a checkpoint of the loop as it stands, whole or not at all. Every rank calls this."""
    place, folder = loop.place, loop.out / "checkpoints"
    aside = checkpoint.begin(folder, loop.step) if place.first else folder / f".tmp-{loop.step:06d}"
    with checkpoint.room(folder, aside, loop.step):
        distributed.barrier()
        streams: list = [None] * place.world
        distributed.all_gather_object(streams, loop.data.state_dict())
        with silence():
            loop.engine.save_checkpoint(str(aside), tag="engine", save_latest=False)
        averaged = loop.averaged() if loop.average else {}
        if place.first:
            for name in ("zero_to_fp32.py", "zero_to_torch.py"):  # DeepSpeed leaves its scripts; a checkpoint is data
                (aside / name).unlink(missing_ok=True)
            save_file({key: value.cpu().contiguous() for key, value in averaged.items()}, aside / "average.safetensors")
            settled = {f"{name}/{key}": value for name in earlier(loop) for key, value in loop.weights.trained(name).items()}
            for name in loop.names:  # the universal format has no buffers
                buffers = {key for key, _ in loop.model.part(name).named_buffers()}
                settled |= {f"{name}/{key}": value for key, value in loop.weights.state(name).items() if key in buffers}
            save_file(settled, aside / "settled.safetensors")
            state = {
                "step": loop.step,
                "samples": loop.samples,
                "stage": loop.span.index,
                "world": place.world,
                "zero": loop.engine.zero_optimization_stage(),
                "precision": loop.span.train.precision,
                "recipe": loop.digest,
                "data": streams,
                "plateau": loop.plateau,
                "updates": loop.average.updates if loop.average else 0,
            }
            (aside / "loop.json").write_text(json.dumps(state))
        distributed.barrier()
        final = checkpoint.commit(aside, loop.step, loop.span.train.keep) if place.first else None
    distributed.barrier()
    loop.saved = loop.step
    if place.first and loop.hook is not None:
        loop.hook.mgzoo_saved(run=loop.run(), path=final)


def earlier(loop) -> list[str]:
    """Parts that a stage before this one trained and this one does not: their weights are in no engine."""
    before = {name for span in loop.spans[: loop.span.index] for name in loop.trained(span)}
    return sorted(before - set(loop.names))


def find(loop) -> Path | None:
    """The newest whole checkpoint, as rank 0 sees it."""
    found = [checkpoint.newest(loop.out / "checkpoints") if loop.place.first else None]
    distributed.broadcast_object_list(found, src=0)
    return found[0]


def precision(folder: Path | None) -> str | None:
    """What a checkpoint was computed in; bf16, the default of then, where it does not say."""
    return json.loads((folder / "loop.json").read_text()).get("precision", "bf16") if folder else None


def load(loop, folder: Path) -> None:
    """Stand where the run stood when `folder` was written."""
    state = json.loads((folder / "loop.json").read_text())
    if state["stage"] >= len(loop.spans):
        raise MgzooError(
            f"{folder.name} was saved in stage {state['stage']}, and the recipe has {len(loop.spans)}",
            remedy="resume with the recipe the run was started with",
            origin=str(folder),
        )
    if state["recipe"] != loop.digest:
        loop.progress.say(f"! the recipe has changed since {folder.name} was saved: going on with the new one")
    for key, value in load_file(folder / "settled.safetensors").items():
        name, _, tensor = key.partition("/")
        with torch.no_grad():
            loop.model.part(name).state_dict()[tensor].copy_(value)
    span = loop.spans[state["stage"]]
    loop.enter(span)
    loop.step, loop.samples, loop.plateau, loop.saved = state["step"], state["samples"], state["plateau"], state["step"]
    restore(loop.engine, folder, state, loop.place, span.train.precision)
    if loop.average:
        loop.average.updates = state["updates"]
        loop.put_average(load_file(folder / "average.safetensors"))
    if state["world"] == loop.place.world:
        loop.data.load_state_dict(state["data"][loop.place.rank])
        loop.stream = loop.data.batches(loop.micro)
    else:
        for _ in range((loop.step - span.first) * loop.accumulation):
            next(loop.stream)
    lines = [line for line in journal.read(loop.out / "metrics.jsonl") if "loss" in line and line["step"] <= loop.step]
    loop.metrics = lines[-1] if lines else {}


def restore(engine, folder: Path, state: dict, place: Place, precision: str) -> None:
    """Restore weights, masters and moments from ``folder/engine``; `state` is its ``loop.json``, precision the engine's.

    Raises MgzooError where the universal format has no way: between stage 3 and stages 1 or 2.
    """
    stage = engine.zero_optimization_stage()
    if (state["world"], state["zero"], state.get("precision", "bf16")) == (place.world, stage, precision):
        with silence():
            engine.load_checkpoint(str(folder), tag="engine", load_lr_scheduler_states=False)
        return
    if (state["zero"] == 3) != (stage == 3):
        raise MgzooError(
            f"{folder.name} was saved with zero.stage {state['zero']} and cannot be resumed with {stage}",
            remedy=f"resume with zero.stage={state['zero']}",
            origin=str(folder),
        )
    aside = folder.parent / f".tmp-universal-{folder.name}"
    if place.first:
        convert(folder / "engine", aside / "universal")
        (aside / "latest_universal").write_text("universal")
    distributed.barrier()
    decays = [group["weight_decay"] for group in engine.optimizer.param_groups]
    engine._config.load_universal_checkpoint = True
    try:
        with silence():
            engine.load_checkpoint(str(aside), tag="universal", load_lr_scheduler_states=False)
    finally:
        engine._config.load_universal_checkpoint = False  # left on, a stage 3 engine would save rank 0's weights only
    for group, decay in zip(engine.optimizer.param_groups, decays, strict=True):
        group["weight_decay"] = decay  # stage 3 gives every group the settings of the first
    distributed.barrier()
    if place.first:
        shutil.rmtree(aside)


def convert(source: Path, target: Path) -> None:
    """Write the universal form of a DeepSpeed checkpoint folder."""
    from deepspeed.checkpoint import ds_to_universal

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    wanted = Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with silence():
        ds_to_universal.main(wanted)
