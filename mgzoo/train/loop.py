"""The training loop: data, task, engine, EMA, validation and checkpoints, in order of execution.

The random numbers of micro-batch m of step s are seeded by (recipe seed, s, m), and micro-batch m runs on
rank ``m % world``: they are independent of the number of ranks and of interruptions.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgzoo import precision, storage
from mgzoo.budget import require_memory
from mgzoo.discovery import discover
from mgzoo.model import build, save
from mgzoo.model.lora import ranks_too_large
from mgzoo.parts import Data
from mgzoo.recipe.lock import lock_recipe
from mgzoo.recipe.settings import setting_notes
from mgzoo.spec import MgzooError, as_seed
from mgzoo.train import counters, debug_checks, distributed, failure, interrupt, metrics_log, validation
from mgzoo.train import resume as resuming
from mgzoo.train.deepspeed_config import deepspeed_config
from mgzoo.train.distributed import RankInfo
from mgzoo.train.ema import EMA
from mgzoo.train.engine import gather_weights, master_weights, same_engine, set_weights, start_engine, swap_weights, trained_names, unwrap
from mgzoo.train.finish import finish_run
from mgzoo.train.gradients import micro_batches
from mgzoo.train.lr_schedule import learning_rate, new_plateau
from mgzoo.train.optimizer import set_param_groups
from mgzoo.train.progress import Progress
from mgzoo.train.stages import StagePlan, plan_stages, stage_at
from mgzoo.train.trainable import PartWeights, Trainable, load_trained

START_BATCHES = 32


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run. folder: its files. artifact: the trained model (None while training). metrics: the last ones."""

    folder: Path
    artifact: Path | None
    steps: int
    metrics: Mapping[str, Any] = field(default_factory=dict)


def train(recipe, out: str | Path, resume: bool = False, model=None, accept_changes: bool = False, force: bool = False) -> Run:
    """Train a composed recipe into the folder `out`.

    resume: continue from the latest intact checkpoint in `out`; changes of the recipe are printed. model: a model already built
    from the recipe (with its initial weights), default ``mgzoo.model.build``. accept_changes: allow changed data and
    weights under the same names. force: train even if the model does not fit into this machine's memory. The same call works in a
    plain process and under `torchrun` or the `deepspeed` launcher; `out` must be shared by all ranks. Raises MgzooError for user errors. A SIGTERM
    saves and raises SystemExit(143), a Ctrl-C saves and raises KeyboardInterrupt.
    """
    storage.refuse_address(out)
    stages = plan_stages(recipe)
    if missing := [key for key, there in (("parts.task", recipe.parts.get("task")), ("data", recipe.data)) if there is None]:
        raise MgzooError(f"nothing can be trained without {' and '.join(missing)}", remedy="add it to the recipe", origin=str(recipe.source))
    rank_info, out = distributed.init_distributed(), Path(out)
    checkpoint = resuming.find_checkpoint(out, rank_info, resume)
    made_with = distributed.on_first_rank(rank_info, lambda: {"lock": lock_recipe(recipe), "recipe": recipe.tree})
    changed = distributed.on_first_rank(rank_info, lambda: resuming.compare_recipes(recipe, made_with, checkpoint, out, accept_changes)) if checkpoint else ([], None)
    registry = discover()
    if not force and model is None:
        cuda = rank_info.device.type == "cuda"
        require_memory(recipe, rank_info.device.type, torch.cuda.get_device_properties(rank_info.device).total_memory if cuda else None)
    if model is None:
        model = build(recipe, device=rank_info.device.type)

    for name, part in recipe.parts.items():
        for what, remedy in ranks_too_large(model.part(name), part.adapter) if part.adapter else ():
            raise MgzooError(what, remedy=remedy, origin=str(recipe.origin(f"parts.{name}.adapter.rank") or ""))

    def open_data(stage: StagePlan) -> Data:
        part = stage.recipe.data
        stream = registry.build_class(part.component.id)
        return stream(part.config, seed=as_seed(recipe.seed + stage.index), rank=rank_info.rank, world=rank_info.world_size)

    return run(
        model,
        stages,
        open_data,
        out,
        rank_info=rank_info,
        seed=recipe.seed,
        resume=checkpoint if checkpoint else resume,
        changed=changed,
        made_with=made_with,
        texts={"recipe.yaml": recipe.to_yaml(), "recipe.lock.json": json.dumps(made_with["lock"], indent=2) + "\n"},
        write=save,
        hook=registry.hook,
    )


def run(
    model: nn.Module,
    stages: list[StagePlan],
    open_data: Callable[[StagePlan], Data],
    out: str | Path,
    *,
    rank_info: RankInfo,
    seed: int,
    resume: bool | Path = False,
    changed: tuple[list[str], dict | None] = ([], None),
    made_with: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
    write: Callable[..., Any] | None = None,
    hook=None,
) -> Run:
    """Train `model` through `stages`; the core of `train`, without the recipe.

    open_data: returns this rank's stream for a stage. resume: whether to resume, or the checkpoint. changed: result of
    `resume.compare_recipes`. made_with: the lock and the recipe, for every checkpoint. texts: files for the run folder, written at the start.
    write: saves the artifact, called as ``write(model, folder, state=, metrics=, curve=)``. hook: relay of `mgzoo_step`
    and `mgzoo_saved`.
    """
    out = Path(out)
    checkpoint = resume if isinstance(resume, Path) else resuming.find_checkpoint(out, rank_info, resume)
    loop = Loop(model, stages, open_data, out, rank_info=rank_info, seed=seed, made_with=made_with, hook=hook)
    try:
        with interrupt.Interrupt(lambda line: loop.progress.say(line)) as loop.interrupt:
            loop.begin(checkpoint, bool(resume), changed)
            if rank_info.is_first:
                for name, text in (texts or {}).items():
                    storage.atomic_write(out / name, text)
            loop.run_steps()
        return finish_run(loop, write)
    except Exception as error:
        if loop.step and loop.step == loop.stages[-1].end:
            failure.save_and_explain(loop, error)
        raise
    finally:
        loop.close()


class Loop:
    """State of a run: the engine of the current stage, and the state shared by stages and checkpoints."""

    def __init__(self, model, stages, open_data, out: Path, *, rank_info: RankInfo, seed: int, made_with: Mapping[str, Any] | None = None, hook=None):
        self.model, self.stages, self.open_data, self.out = model, stages, open_data, out
        model.counting = True  # a line for each long caption would drown the rest
        self.rank_info, self.seed, self.made_with, self.hook = rank_info, seed, made_with or {}, hook
        self.weights = PartWeights(model, rank_info, [name for stage in stages for name in self.trained_parts(stage)])
        self.progress = Progress(0, stages[-1].end, rank_info.is_first)
        self.stage = self.engine = self.ema = self.interrupt = self.snapshot = None
        self.error_is_shared = True  # whether every rank knows of an error in the micro-batch that was drawn last
        self.counts: dict[str, int] = {}
        self.current_parts: list[str] = []
        self.in_ema: set[str] = set()  # weights of which the EMA has taken in at least one update
        self.step = self.samples = 0
        self.saved = -1
        self.plateau = new_plateau()
        self.metrics: dict[str, Any] = {}
        self.debug_hooks: list = []

    # ------------------------------------------------------------------------------------------------ stages

    def begin(self, checkpoint: Path | None, again: bool, changed: tuple[list[str], dict | None] = ([], None)) -> None:
        """Enter the first stage, or the stage of `checkpoint`. Writes no files before success."""
        self.set_precision(resuming.checkpoint_precision(checkpoint))
        if checkpoint is not None:
            resuming.load_checkpoint(self, checkpoint)
            self.progress = Progress(self.step, self.stages[-1].end, self.rank_info.is_first)
            self.progress.say(f"resuming from {checkpoint.name}")
            for line in changed[0]:
                self.progress.say(f"! changed since the checkpoint: {line}")
        else:
            if again:
                self.progress.say(f"! no intact checkpoint in {self.out}: starting from step 0")
            self.start()
            self.enter_stage(self.stages[0])
        if self.rank_info.is_first:
            self.out.mkdir(parents=True, exist_ok=True)
            metrics_log.truncate_log(self.out / "metrics.jsonl", self.step)
            if changed[0]:  # what the steps before saw, when recipe.lock.json no longer tells it
                metrics_log.append_entry(self.out / "changes.jsonl", {"step": self.step, "changed": changed[0], "lock": changed[1]})
        self.write_engine_config()
        validation.warn_nothing_held_out(self)
        for line in setting_notes(self.stages):
            self.progress.say(f"! {line}")

    def set_precision(self, begun: str | None) -> None:
        """Replace ``auto`` in every stage by one precision supported by all ranks. begun: precision of the resumed run."""
        if all(stage.train.precision != "auto" for stage in self.stages):
            return
        kind = self.rank_info.device.type
        chosen, why = distributed.common_precision(self.rank_info), precision.reason(kind)
        if begun is not None and begun != chosen:
            chosen, why = begun, f"as at the start of the run; {why}"
        self.stages = [dataclasses.replace(stage, train=dataclasses.replace(stage.train, precision=chosen)) if stage.train.precision == "auto" else stage for stage in self.stages]
        self.progress.say(f"precision: {chosen} ({why})")

    def start(self) -> None:
        """Data-dependent initialisation by the task (`task.start`); the weights of rank 0 are used."""
        task, stage = self.model.task, self.stages[0]
        if not hasattr(task, "start"):
            return
        micro, _ = micro_batches(stage.train, self.rank_info.world_size)
        stream = self.open_data(stage).batches(micro)
        self.model.recipe = stage.recipe
        self.seeded("start")
        with torch.no_grad():
            task.start(self.model, (task.prepare(self.model, next(stream)) for _ in range(START_BATCHES)))

    def trained_parts(self, stage: StagePlan) -> list[str]:
        """The trained parts of a stage: those of the task, without frozen parts and parts without weights."""
        wanted = [name for name in self.model.task.trained(self.model) if name not in stage.frozen]
        names = [name for name in wanted if name in self.model.part_names() and any(True for _ in self.model.part(name).parameters())]
        if not names:
            raise MgzooError(
                f"stage {stage.name} trains nothing: all trainable parts of the task are frozen",
                remedy=f"unfreeze one of {', '.join(self.model.task.trained(self.model))}",
            )
        return names

    def enter_stage(self, stage: StagePlan) -> None:
        """Start a stage: its data, and a new engine if the trained parts or the batching change."""
        before, names = self.stage, self.trained_parts(stage)
        same = before is not None and names == self.current_parts and same_engine(before, stage)
        micro, accumulation = micro_batches(stage.train, self.rank_info.world_size)
        data = self.open_data(stage)  # before anything is taken down: it may not be there
        self.snapshot = None
        kept = {} if same else self.release_engine(names)
        self.stage, self.model.recipe, self.data = stage, stage.recipe, data
        self.micro, self.accumulation = micro, accumulation
        self.stream = self.data.batches(self.micro)
        self.set_debug(stage.train.debug)
        self.plateau = new_plateau(1.0 if stage.start == stage.lr_start else self.plateau["factor"])
        if same:
            set_param_groups(self.engine, stage.train)
            return
        self.current_parts = names
        self.weights.set_trainable(names, torch.bfloat16 if stage.train.precision == "bf16" else torch.float32)
        self.model.clear_fingerprints()
        self.engine = start_engine(Trainable(self.model, names), stage.train, stage.zero, self.rank_info)
        self.start_ema(kept)
        if before is not None:
            self.progress.say(f"stage {stage.name}: training {', '.join(names)}; optimizer state reset")

    def write_engine_config(self) -> None:
        """Write the engine's configuration into the run's folder."""
        if self.rank_info.is_first:
            config = deepspeed_config(self.stage.train, self.stage.zero, self.rank_info.world_size, self.rank_info.device.type)
            storage.atomic_write(self.out / "deepspeed.json", json.dumps(config, indent=1) + "\n")

    def start_ema(self, kept: Mapping[str, Any]) -> None:
        """Start the EMA from the engine's weights, or from those returned by `release_engine`.

        The warm-up restarts with each newly trained weight: a high decay would hold that weight at its initial value.
        """
        train, self.ema = self.stage.train, None
        if train.ema.decay:
            self.ema = EMA(train.ema, master_weights(self.engine))
            known = kept.get("known", set())
            self.in_ema = known & set(trained_names(self.engine))
            if known >= set(trained_names(self.engine)):
                self.ema.updates = kept["updates"]
            self.set_ema_weights(kept.get("weights", {}))
        else:
            self.in_ema = set()

    def release_engine(self, names: list[str]) -> dict:
        """Release the engine and return the averaged weights; parts not in `names` keep them."""
        if self.engine is None:
            return {}
        averaged, updates = self.kept_weights(), self.ema.updates if self.ema else 0
        unwrap(self.engine)
        self.engine = None
        for name in set(self.current_parts) - set(names):
            load_trained(self.model.part(name), name, averaged)
        return {"weights": averaged, "updates": updates, "known": self.in_ema}

    def set_debug(self, on: bool) -> None:
        """Switch the checks of every part's inputs and outputs (`train.debug`) on or off."""
        for handle in self.debug_hooks:
            handle.remove()
        self.debug_hooks = debug_checks.add_hooks(self.model) if on else []

    def kept_weights(self) -> dict[str, Tensor]:
        """The weights to save, unsharded in float32, named as in `Trainable`: from the EMA if updated, else the raw weights. On all ranks."""
        averaged = self.ema_weights() if self.in_ema else {}
        if averaged and averaged.keys() <= self.in_ema:
            return averaged
        return gather_weights(self.engine) | {name: value for name, value in averaged.items() if name in self.in_ema}

    def ema_weights(self) -> dict[str, Tensor]:
        """The EMA of every trained weight, unsharded; without an update, the initial value. On all ranks."""
        with swap_weights(self.engine, self.ema.shards):
            return gather_weights(self.engine)

    def set_ema_weights(self, weights: Mapping[str, Tensor]) -> None:
        with swap_weights(self.engine, self.ema.shards):
            set_weights(self.engine, weights)

    # ------------------------------------------------------------------------------------------------- steps

    def run_steps(self) -> None:
        """Run all remaining optimizer steps; on an error, save the last complete state first."""
        try:
            self.snapshot = failure.take_snapshot(self)
            self.remaining_steps()
        except Exception as error:
            failure.save_and_explain(self, error)
            raise

    def remaining_steps(self) -> None:
        total, losses, terms, step_seconds = self.stages[-1].end, [], {}, 0.0
        while self.step < total:
            if self.step >= self.stage.end:
                self.enter_stage(stage_at(self.stages, self.step))
                self.snapshot = failure.take_snapshot(self)
                self.write_engine_config()
            train, begun = self.stage.train, time.monotonic()
            rate = learning_rate(self.stage, self.step) * self.plateau["factor"]
            for group in self.engine.optimizer.param_groups:
                group["lr"] = rate
            loss, stop, named = self.train_step()
            norm = float(self.engine.get_global_grad_norm())
            if not math.isfinite(norm) or norm < 0:
                failure.stop_non_finite(self, "the gradient norm", norm, named)
            self.step += 1
            self.samples += train.batch
            last = self.step == total
            if self.ema:
                if self.ema.update(master_weights(self.engine), self.step):
                    self.in_ema = set(trained_names(self.engine))
            self.snapshot = failure.take_snapshot(self)
            losses.append(loss)
            for name, value in named.items():
                terms.setdefault(name, []).append(value)
            step_seconds += time.monotonic() - begun
            self.metrics = {"step": self.step, "stage": self.stage.name, "loss": loss, "lr": rate, "grad_norm": norm, "samples": self.samples}
            if self.step % train.log_every == 0 or last:
                n = len(losses)
                means = distributed.mean_over_ranks(self.rank_info, {name: sum(values) / len(values) for name, values in terms.items()})
                self.counts = counters.collect_counts(self)
                self.log({**self.metrics, "loss": sum(losses) / n, "terms": means, "seconds": step_seconds / n, **({"counts": self.counts} if self.counts else {})})
                losses, terms, step_seconds = [], {}, 0.0
            self.progress.show(self.step, f"loss {loss:.4f}")
            if train.validate_every and (self.step % train.validate_every == 0 or last):
                validation.validate(self)
            if self.rank_info.is_first and self.hook is not None:
                self.hook.mgzoo_step(run=self.run(), step=self.step, metrics=self.metrics)
            if stop or last or (train.save_every and self.step % train.save_every == 0):
                kept, self.snapshot = self.snapshot, None  # a save that fails is not tried again
                resuming.save_checkpoint(self)
                self.snapshot = kept
            if stop:
                interrupt.exit_on(stop)

    def train_step(self) -> tuple[float, int, dict[str, float]]:
        """One optimizer step: (mean loss over the global batch, signal received by any rank or 0, this rank's mean terms)."""
        total, terms = torch.zeros((), device=self.rank_info.device), {}
        for micro_step in range(self.accumulation):
            generator = self.seeded(self.step, micro_step * self.rank_info.world_size + self.rank_info.rank)
            example = failure.next_example(self)
            loss, named = self.engine(example, generator)
            total += loss.detach().float() / self.accumulation
            for name, value in named.items():
                terms[name] = terms.get(name, 0.0) + float(value) / self.accumulation
            self.engine.backward(loss)
            if micro_step == self.accumulation - 1:
                mean, stop = distributed.reduce_status(self.rank_info, float(total), self.interrupt.received)
                if not math.isfinite(mean):
                    failure.stop_non_finite(self, "the loss", mean, terms)
                self.snapshot = None  # a step that is half done is no state to go on from
            self.engine.step()
        return mean, stop, terms

    def seeded(self, *key) -> torch.Generator:
        return distributed.seeded_generator(self.rank_info.device, self.seed, *key)

    # ------------------------------------------------------------------------------------------ log and end

    def log(self, entry: Mapping[str, Any]) -> None:
        if self.rank_info.is_first:
            metrics_log.append_entry(self.out / "metrics.jsonl", entry)

    def run(self, artifact: Path | None = None) -> Run:
        return Run(folder=self.out, artifact=artifact, steps=self.step, metrics=dict(self.metrics))

    def close(self) -> None:
        """Release the resources of a run that ended early."""
        self.progress.close()
        self.set_debug(False)
        self.model.counting = False
        if self.engine is not None:
            with distributed.silence():
                self.engine.destroy()
