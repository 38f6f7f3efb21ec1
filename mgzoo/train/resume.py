"""Saving and loading the state of a run: bit for bit with the same ranks, through DeepSpeed's universal format otherwise.

The random state of a rank is not saved: it is a function of seed, step and micro-batch (see `mgzoo.train.loop`).
"""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import distributed

from mgzoo.recipe.lock import read_lock, recipe_changes
from mgzoo.spec import MgzooError
from mgzoo.train import checkpoint, metrics_log
from mgzoo.train.distributed import RankInfo, on_first_rank, silence
from mgzoo.train.engine import trained_shapes
from mgzoo.train.lr_schedule import restored_plateau
from mgzoo.train.optimizer import set_param_groups

MADE_WITH = "made_with.json"
"""In a checkpoint: the lock and the recipe under which it was saved."""


def save_checkpoint(loop, data=None) -> None:
    """Write a checkpoint of the loop, complete or not at all. Every rank calls this.

    data: where this rank's stream goes on, default where it stands.
    """
    rank_info, folder = loop.rank_info, loop.out / "checkpoints"
    aside = on_first_rank(rank_info, lambda: checkpoint.begin_checkpoint(folder, loop.step))
    with checkpoint.disk_full_guard(folder, aside, loop.step):
        distributed.barrier()
        streams: list = [None] * rank_info.world_size
        distributed.all_gather_object(streams, loop.data.state_dict() if data is None else data)
        with silence():
            loop.engine.save_checkpoint(str(aside), tag="engine", save_latest=False)
        averaged = loop.ema_weights() if loop.ema else {}
        if rank_info.is_first:
            for name in ("zero_to_fp32.py", "zero_to_torch.py"):  # DeepSpeed leaves its scripts; a checkpoint is data
                (aside / name).unlink(missing_ok=True)
            save_file({key: value.cpu().contiguous() for key, value in averaged.items()}, aside / "average.safetensors")
            settled = {f"{name}/{key}": value for name in settled_parts(loop) for key, value in loop.weights.trained_state_dict(name).items()}
            for name in loop.current_parts:  # the universal format has no buffers
                buffers = {key for key, _ in loop.model.part(name).named_buffers()}
                settled |= {f"{name}/{key}": value for key, value in loop.weights.state_dict(name).items() if key in buffers}
            save_file(settled, aside / "settled.safetensors")
            state = {
                "step": loop.step,
                "samples": loop.samples,
                "stage": loop.stage.index,
                "world": rank_info.world_size,
                "zero": loop.engine.zero_optimization_stage(),
                "precision": loop.stage.train.precision,
                "recipe": loop.made_with.get("lock", {}).get("recipe", ""),
                "data": streams,
                "plateau": loop.plateau,
                "updates": loop.ema.updates if loop.ema else 0,
                "in_average": sorted(loop.in_ema),
                "trained": trained_shapes(loop.engine),
                "lr": loop.stage.train.lr,
            }
            (aside / "loop.json").write_text(json.dumps(state), encoding="utf-8")
            if loop.made_with:
                (aside / MADE_WITH).write_text(json.dumps(loop.made_with, indent=1, ensure_ascii=False), encoding="utf-8")
        distributed.barrier()
        final = checkpoint.commit_checkpoint(aside, loop.step, loop.stage.train.keep_checkpoints) if rank_info.is_first else None
    distributed.barrier()
    loop.saved = loop.step
    if rank_info.is_first and loop.hook is not None:
        loop.hook.mgzoo_saved(run=loop.run(), path=final)


def settled_parts(loop) -> list[str]:
    """Parts that an earlier stage trained and this one does not: their weights are not in the engine."""
    before = {name for stage in loop.stages[: loop.stage.index] for name in loop.trained_parts(stage)}
    return sorted(before - set(loop.current_parts))


def find_checkpoint(out: Path, rank_info: RankInfo, again: bool) -> Path | None:
    """The checkpoint to resume from in the folder `out`, None for a new run; rank 0 decides.

    again: whether to resume. Raises MgzooError for a new run in the folder of another, and for a resume without a checkpoint
    in an existing folder.
    """
    return on_first_rank(rank_info, lambda: _find_checkpoint(out, again))


def _find_checkpoint(out: Path, again: bool) -> Path | None:
    saved = sorted((out / "checkpoints").glob("step-*"))
    if not again:
        if saved:
            raise MgzooError("the folder already contains a run", remedy="continue with --resume, or choose another --out", origin=str(out))
        return None
    found = checkpoint.latest_intact(out / "checkpoints")
    if found is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        damaged = "start a new run in another --out" if saved else "start without --resume, or set --out to the folder of a run"
        raise MgzooError("no intact checkpoint to resume from", remedy=damaged, origin=str(out))
    return found


def compare_recipes(recipe, made: dict, found: Path, out: Path, accept: bool) -> tuple[list[str], dict | None]:
    """(a line for everything that has changed since the checkpoint `found` was saved, the lock of then).

    made: ``{"lock": …, "recipe": tree}`` of now. accept: whether other data and weights are taken too; else they are a MgzooError.
    """
    kept, tree = found / MADE_WITH, None
    if kept.is_file():
        then = json.loads(kept.read_text(encoding="utf-8"))
        then, tree, source = then["lock"], then["recipe"], out / "recipe.lock.json"
    elif (source := out / "recipe.lock.json").is_file():
        then = read_lock(source)
    else:
        return [], None
    changed = recipe_changes(recipe, then, made["lock"], tree)
    if not accept and (refused := [change.what for change in changed if not change.wanted]):
        raise MgzooError(
            "\n    ".join(refused),
            remedy="restore it, start a new run, or accept the changes: --accept-changes",
            origin=str(source),
        )
    return [change.what for change in changed], then


def checkpoint_precision(folder: Path | None) -> str | None:
    """The precision in which a checkpoint was trained; bf16 where it does not say (the default when such checkpoints were written)."""
    return json.loads((folder / "loop.json").read_text()).get("precision", "bf16") if folder else None


def load_checkpoint(loop, folder: Path) -> None:
    """Restore the loop to its state when the checkpoint `folder` was written."""
    state = json.loads((folder / "loop.json").read_text())
    if state["stage"] >= len(loop.stages):
        raise MgzooError(
            f"{folder.name} was saved in stage {state['stage']}, but the recipe has {len(loop.stages)}",
            remedy="resume with the original recipe",
            origin=str(folder),
        )
    for key, value in load_file(folder / "settled.safetensors").items():
        name, _, tensor = key.partition("/")
        with torch.no_grad():
            loop.model.part(name).state_dict()[tensor].copy_(value)
    stage = loop.stages[state["stage"]]
    loop.enter_stage(stage)
    check_same_weights(loop, state, folder)
    if (then := state.get("precision")) and then != stage.train.precision:
        loop.progress.say(f"! precision {then} until {folder.name}, {stage.train.precision} from here on")
    loop.step, loop.samples, loop.saved = state["step"], state["samples"], state["step"]
    loop.plateau = restored_plateau(state, stage.train)
    restore_engine(loop.engine, folder, state, loop.rank_info, stage.train.precision)
    set_param_groups(loop.engine, stage.train)  # the universal format of stage 3 gives every group the settings of the first
    averaged = load_file(folder / "average.safetensors")
    known = state.get("in_average", list(averaged) if state["updates"] else [])
    loop.start_ema({"weights": averaged, "updates": state["updates"], "known": set(known)})
    if state["world"] == loop.rank_info.world_size:
        loop.data.load_state_dict(state["data"][loop.rank_info.rank])
        loop.stream = loop.data.batches(loop.micro)
    else:
        for _ in range((loop.step - stage.start) * loop.accumulation):
            next(loop.stream)
    lines = [line for line in metrics_log.read_log(loop.out / "metrics.jsonl") if "loss" in line and line["step"] <= loop.step]
    loop.metrics = lines[-1] if lines else {}


def check_same_weights(loop, state: dict, folder: Path) -> None:
    """Raise MgzooError if the trained weights differ from those of the checkpoint: DeepSpeed stores them as one flat tensor and would mix them up."""
    here, there = trained_shapes(loop.engine), state.get("trained")
    if there is None or here == there:
        return
    gone, new = [name for name in there if name not in here], [name for name in here if name not in there]
    other = [f"{name} was {there[name]} and is {here[name]}" for name in here if name in there and here[name] != there[name]]
    said = [f"{name} was trained, but is not now" for name in gone] + [f"{name} is now trained, but was not" for name in new] + other
    more = f", and {len(said) - 3} more" if len(said) > 3 else ""
    raise MgzooError(
        f"the trained weights differ from {folder.name}: {'; '.join(said[:3]) or 'another order'}{more}",
        remedy="resume with the original recipe (recipe.yaml of the run), or start a new run from the trained weights",
        origin=str(folder),
    )


def restore_engine(engine, folder: Path, state: dict, rank_info: RankInfo, precision: str) -> None:
    """Restore weights, masters and moments from ``folder/engine``; `state` is its ``loop.json``, precision the engine's.

    Raises MgzooError where the universal format has no way: between stage 3 and stages 1 or 2.
    """
    zero_stage = engine.zero_optimization_stage()
    if (state["world"], state["zero"], state.get("precision", "bf16")) == (rank_info.world_size, zero_stage, precision):
        with silence():
            engine.load_checkpoint(str(folder), tag="engine", load_lr_scheduler_states=False)
        return
    if (state["zero"] == 3) != (zero_stage == 3):
        raise MgzooError(
            f"{folder.name} was saved with zero.stage {state['zero']} and cannot be resumed with {zero_stage}",
            remedy=f"resume with zero.stage={state['zero']}",
            origin=str(folder),
        )
    aside = folder.parent / f".tmp-universal-{folder.name}"  # every rank knows it, and one job has this folder
    if rank_info.is_first:
        convert_to_universal(folder / "engine", aside / "universal")
        (aside / "latest_universal").write_text("universal")
    distributed.barrier()
    engine._config.load_universal_checkpoint = True
    try:
        with silence():
            engine.load_checkpoint(str(aside), tag="universal", load_lr_scheduler_states=False)
    finally:
        engine._config.load_universal_checkpoint = False  # left on, a stage 3 engine would save rank 0's weights only
    distributed.barrier()
    if rank_info.is_first:
        shutil.rmtree(aside)


def convert_to_universal(source: Path, target: Path) -> None:
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
