"""The training loop: data, task, engine, averages, validation and checkpoints, in the order in which they happen.

Every random draw of micro-batch m of step s comes from a seed made of (recipe seed, s, m), and micro-batch m is done by
rank ``m % world``: neither the number of ranks nor an interruption changes what is drawn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from mgzoo import adapters, precision
from mgzoo.parts import Data
from mgzoo.spec import MgzooError, as_seed
from mgzoo.train import borders, checkpoint, journal, ranks, resume, signals, zero
from mgzoo.train.averaging import Average
from mgzoo.train.ranks import Place
from mgzoo.train.stages import StagePlan, learning_rate, plans, stage_at
from mgzoo.train.weights import Weights, fill

FINISH_BATCHES = 16
START_BATCHES = 32


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run. folder: everything it wrote. artifact: the trained model (None while training). metrics: the last ones."""

    folder: Path
    artifact: Path | None
    steps: int
    metrics: Mapping[str, Any] = field(default_factory=dict)


def train(recipe, out: str | Path, resume: bool = False, model=None) -> Run:
    """Train a composed recipe into the folder `out`.

    resume: go on from the newest whole checkpoint in `out`. model: a model already built from the recipe (its weights are
    the starting point), default ``mgzoo.model.build``. The same call works in a plain process and under `torchrun` or the
    `deepspeed` launcher; `out` must be a folder that all ranks see. Raises MgzooError for what a user can mend. A SIGTERM
    saves and raises SystemExit(143), a Ctrl-C saves and raises KeyboardInterrupt.
    """
    from mgzoo import lock
    from mgzoo import model as models
    from mgzoo.discovery import discover

    spans = plans(recipe)
    if missing := [key for key, there in (("parts.task", recipe.parts.get("task")), ("data", recipe.data)) if there is None]:
        raise MgzooError(f"nothing can be trained without {' and '.join(missing)}", remedy="add it to the recipe", origin=str(recipe.source))
    if resume:
        lock.same_weights(recipe, Path(out) / "recipe.lock.json")
    place = ranks.distributed()
    registry = discover()
    if model is None:
        model = models.build(recipe, device=place.device.type)

    def open_data(span: StagePlan) -> Data:
        part = span.recipe.data
        stream = registry.build_class(part.component.id)
        return stream(part.config, seed=as_seed(recipe.seed + span.index), rank=place.rank, world=place.world)

    pinned = json.dumps(lock.lock(recipe), indent=2) + "\n" if place.first else ""
    return run(
        model,
        spans,
        open_data,
        out,
        place=place,
        seed=recipe.seed,
        resume=resume,
        digest=recipe.digest(),
        texts={"recipe.yaml": recipe.to_yaml(), "recipe.lock.json": pinned},
        write=models.save,
        hook=registry.hook,
    )


def run(
    model: nn.Module,
    spans: list[StagePlan],
    open_data: Callable[[StagePlan], Data],
    out: str | Path,
    *,
    place: Place,
    seed: int,
    resume: bool = False,
    digest: str = "",
    texts: Mapping[str, str] | None = None,
    write: Callable[..., Any] | None = None,
    hook=None,
) -> Run:
    """Train `model` through `spans`: what `train` does once the recipe has been taken apart.

    open_data: gives this rank's stream for a stage. digest: names the recipe. texts: files for the run folder.
    write: saves the artifact, called as ``write(model, folder, state=, metrics=, curve=)``. hook: relay of `mgzoo_step`
    and `mgzoo_saved`.
    """
    out = Path(out)
    if not resume and any((out / "checkpoints").glob("step-*")):
        raise MgzooError("this folder already holds a run", remedy="go on with --resume, or choose another --out", origin=str(out))
    loop = Loop(model, spans, open_data, out, place=place, seed=seed, digest=digest, hook=hook)
    if place.first:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (texts or {}).items():
            checkpoint.replace_text(out / name, text)
    try:
        with signals.Interrupt(lambda line: loop.progress.say(line)) as loop.interrupt:
            loop.begin(resume)
            loop.steps()
        return loop.finish(write)
    finally:
        loop.close()


class Loop:
    """One run in progress: the engine of the current stage and all that must outlive a stage or an interruption."""

    def __init__(self, model, spans, open_data, out: Path, *, place: Place, seed: int, digest: str = "", hook=None):
        self.model, self.spans, self.open_data, self.out = model, spans, open_data, out
        model.counting = True  # a line for each long caption would drown the rest
        self.place, self.seed, self.digest, self.hook = place, seed, digest, hook
        self.weights = Weights(model, place, [name for span in spans for name in self.trained(span)])
        self.progress = journal.Progress(0, spans[-1].last, place.first)
        self.span = self.engine = self.average = self.interrupt = None
        self.names: list[str] = []
        self.step = self.samples = 0
        self.saved = -1
        self.plateau = {"factor": 1.0, "best": None, "waited": 0}
        self.metrics: dict[str, Any] = {}
        self.watches: list = []

    # ------------------------------------------------------------------------------------------------ stages

    def begin(self, again: bool) -> None:
        """Enter the first stage, or the one that the newest whole checkpoint belongs to."""
        found = resume.find(self) if again else None
        self.set_precision(resume.precision(found))
        if found is not None:
            resume.load(self, found)
            self.progress = journal.Progress(self.step, self.spans[-1].last, self.place.first)
            self.progress.say(f"resuming from {found.name}")
        else:
            if again:
                self.progress.say(f"! no whole checkpoint in {self.out}: starting from step 0")
            self.start()
            self.enter(self.spans[0])
        if self.place.first:
            journal.truncate(self.out / "metrics.jsonl", self.step)

    def set_precision(self, begun: str | None) -> None:
        """Replace ``auto`` in every stage by one precision that all ranks take. begun: the one of the run that goes on."""
        if all(span.train.precision != "auto" for span in self.spans):
            return
        kind = self.place.device.type
        chosen, why = ranks.precision(self.place), precision.reason(kind)
        if begun is not None and begun != chosen:
            chosen, why = begun, f"as the run was begun; {why}"
        self.spans = [dataclasses.replace(span, train=dataclasses.replace(span.train, precision=chosen)) if span.train.precision == "auto" else span for span in self.spans]
        self.progress.say(f"precision: {chosen} ({why})")

    def start(self) -> None:
        """Let the task set first weights from the data (`task.start`), before anything is trained; rank 0's count."""
        task, span = self.model.task, self.spans[0]
        if not hasattr(task, "start"):
            return
        micro, _ = zero.micro_batches(span.train, self.place.world)
        stream = self.open_data(span).batches(micro)
        self.model.recipe = span.recipe
        self.seeded("start")
        with torch.no_grad():
            task.start(self.model, (task.prepare(self.model, next(stream)) for _ in range(START_BATCHES)))

    def trained(self, span: StagePlan) -> list[str]:
        """The parts that a stage trains: what the task wants, less what the recipe freezes and what has no weights."""
        wanted = [name for name in self.model.task.trained(self.model) if name not in span.frozen]
        names = [name for name in wanted if name in self.model.part_names() and any(True for _ in self.model.part(name).parameters())]
        if not names:
            raise MgzooError(
                f"stage {span.name} trains nothing: all that the task trains is frozen",
                remedy=f"leave one of these unfrozen: {', '.join(self.model.task.trained(self.model))}",
            )
        return names

    def enter(self, span: StagePlan) -> None:
        """Start a stage: its data, and a new engine where what is trained or how it is batched differs from the stage before."""
        before, names = self.span, self.trained(span)
        same = before is not None and names == self.names and zero.alike(before, span)
        kept = {} if same else self.leave(names)
        self.span, self.model.recipe = span, span.recipe
        self.micro, self.accumulation = zero.micro_batches(span.train, self.place.world)
        self.data = self.open_data(span)
        self.stream = self.data.batches(self.micro)
        self.watch(span.train.debug)
        self.plateau = {"factor": 1.0 if span.first == span.warm_first else self.plateau["factor"], "best": None, "waited": 0}
        if same:
            for group in self.engine.optimizer.param_groups:
                group["betas"] = tuple(span.train.betas)
                group["weight_decay"] = span.train.weight_decay if group["weight_decay"] else 0.0
            return
        self.names = names
        self.weights.set(names, torch.bfloat16 if span.train.precision == "bf16" else torch.float32)
        self.model.forget_identities()
        self.engine = zero.start(zero.Trainable(self.model, names), span.train, span.zero, self.place)
        self.average = Average(span.train.ema, zero.masters(self.engine)) if span.train.ema.decay else None
        if self.average and kept:
            self.average.updates = kept["updates"]
            self.put_average(kept["weights"])
        if before is not None:
            self.progress.say(f"stage {span.name}: training {', '.join(names)}; the optimiser's moments start anew")
        if self.place.first:
            config = zero.deepspeed_config(span.train, span.zero, self.place.world, self.place.device.type)
            checkpoint.replace_text(self.out / "deepspeed.json", json.dumps(config, indent=1) + "\n")

    def leave(self, names: list[str]) -> dict:
        """Take the engine down and return the averaged weights; parts that `names` trains no longer settle on them."""
        if self.engine is None:
            return {}
        averaged, updates = self.averaged(), self.average.updates if self.average else 0
        zero.release(self.engine)
        self.engine = None
        for name in set(self.names) - set(names):
            fill(self.model.part(name), name, averaged)
        return {"weights": averaged, "updates": updates}

    def watch(self, on: bool) -> None:
        """Look at every part's border (`train.debug`), or stop looking."""
        for handle in self.watches:
            handle.remove()
        self.watches = borders.watch(self.model) if on else []

    def averaged(self) -> dict[str, Tensor]:
        """The weights to keep, whole and in float32, named as in `zero.Trainable`: averaged where averaging is on. On all ranks."""
        if self.average is None:
            return zero.full(self.engine)
        with zero.holding(self.engine, self.average.shards):
            return zero.full(self.engine)

    def put_average(self, weights: Mapping[str, Tensor]) -> None:
        with zero.holding(self.engine, self.average.shards):
            zero.put(self.engine, weights)

    # ------------------------------------------------------------------------------------------------- steps

    def steps(self) -> None:
        """All remaining optimiser steps."""
        total, losses, terms, busy = self.spans[-1].last, [], {}, 0.0
        while self.step < total:
            if self.step >= self.span.last:
                self.enter(stage_at(self.spans, self.step))
            train, begun = self.span.train, time.monotonic()
            rate = learning_rate(self.span, self.step) * self.plateau["factor"]
            for group in self.engine.optimizer.param_groups:
                group["lr"] = rate
            loss, stop, named = self.descend()
            norm = float(self.engine.get_global_grad_norm())
            if not math.isfinite(norm) or norm < 0:
                self.refuse("the gradient norm", norm, named)
            self.step += 1
            self.samples += train.batch
            last = self.step == total
            if self.average:
                self.average.update(zero.masters(self.engine), self.step)
            losses.append(loss)
            for name, value in named.items():
                terms.setdefault(name, []).append(value)
            busy += time.monotonic() - begun
            self.metrics = {"step": self.step, "stage": self.span.name, "loss": loss, "lr": rate, "grad_norm": norm, "samples": self.samples}
            if self.step % train.log_every == 0 or last:
                n = len(losses)
                means = ranks.mean(self.place, {name: sum(values) / len(values) for name, values in terms.items()})
                self.log({**self.metrics, "loss": sum(losses) / n, "terms": means, "seconds": busy / n})
                losses, terms, busy = [], {}, 0.0
            self.progress.show(self.step, f"loss {loss:.4f}")
            if train.validate_every and (self.step % train.validate_every == 0 or last):
                self.validate()
            if self.place.first and self.hook is not None:
                self.hook.mgzoo_step(run=self.run(), step=self.step, metrics=self.metrics)
            if stop or last or (train.save_every and self.step % train.save_every == 0):
                resume.save(self)
            if stop:
                signals.leave(stop)

    def descend(self) -> tuple[float, int, dict[str, float]]:
        """One optimiser step: (mean loss over the global batch, signal heard by any rank, this rank's mean terms)."""
        total, terms = torch.zeros((), device=self.place.device), {}
        for turn in range(self.accumulation):
            generator = self.seeded(self.step, turn * self.place.world + self.place.rank)
            clips = next(self.stream)
            with torch.no_grad():
                example = self.model.task.prepare(self.model, clips)
            if self.span.train.debug:
                borders.check_example(example)
            loss, named = self.engine(example, generator)
            total += loss.detach().float() / self.accumulation
            for name, value in named.items():
                terms[name] = terms.get(name, 0.0) + float(value) / self.accumulation
            self.engine.backward(loss)
            if turn == self.accumulation - 1:
                mean, stop = ranks.agree(self.place, float(total), self.interrupt.heard)
                if not math.isfinite(mean):
                    self.refuse("the loss", mean, terms)
            self.engine.step()
        return mean, stop, terms

    def seeded(self, *key) -> torch.Generator:
        return ranks.seeded(self.place.device, self.seed, *key)

    def refuse(self, what: str, value: float, terms: Mapping[str, float]) -> None:
        """Stop a run that has gone wrong, before it is saved."""
        left = checkpoint.current(self.out / "checkpoints")
        said = ", ".join(f"{name} {number:.6g}" for name, number in terms.items())
        raise MgzooError(
            f"{what} is {value} at step {self.step + 1} ({said}): training stops",
            remedy=f"lower train.lr, or run with train.debug=true to find the part; last good checkpoint: {left.name if left else 'none yet'}",
            origin=str(self.out),
        )

    # -------------------------------------------------------------------------------------------- validation

    def measure(self, ask: Callable[..., Mapping[str, float]]) -> dict[str, float]:
        """Mean of the task's held-out measures over the held-out clips, on noise that is the same every time."""
        train = self.span.train
        clips = list(self.data.held_out())[: train.validation_samples]
        sums: dict[str, float] = {}
        with torch.no_grad():
            for first in range(0, len(clips), train.validation_batch):
                batch = clips[first : first + train.validation_batch]
                generator = self.seeded("validation", first)
                for name, value in ask(self.model.task.prepare(self.model, batch), generator).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(batch) / len(clips)
        return sums

    def validate(self) -> None:
        """Log the held-out measures; the learning rate halves after `train.plateau` validations without improvement."""
        self.engine.eval()
        held = self.measure(lambda example, generator: self.engine(example, generator, measure=True))
        self.engine.train()
        if not held:
            return
        self.metrics |= {f"held_out_{name}": value for name, value in held.items()}
        self.log({"step": self.step, "stage": self.span.name, "validation": held})
        state, patience = self.plateau, self.span.train.plateau
        if state["best"] is None or held["loss"] < state["best"]:
            state.update(best=held["loss"], waited=0)
            return
        state["waited"] += 1
        if patience and state["waited"] >= patience:
            state.update(factor=state["factor"] / 2, waited=0)
            self.progress.say(f"step {self.step}: no improvement in {patience} validations, the learning rate is halved")

    # ------------------------------------------------------------------------------------------- what is kept

    def log(self, entry: Mapping[str, Any]) -> None:
        if self.place.first:
            journal.note(self.out / "metrics.jsonl", entry)

    def run(self, artifact: Path | None = None) -> Run:
        return Run(folder=self.out, artifact=artifact, steps=self.step, metrics=dict(self.metrics))

    def finish(self, write: Callable[..., Any] | None) -> Run:
        """Put the kept weights in the model, let the task calibrate, measure them, and write curve and artifact."""
        batches = [next(self.stream) for _ in range(FINISH_BATCHES)] if hasattr(self.model.task, "finish") else []
        names, kept = self.names, self.leave([])["weights"]
        self.watch(False)
        for name in names:
            fill(self.model.part(name), name, kept)
            self.model.part(name).eval()
        if batches:
            self.seeded("finish")
            with torch.no_grad():
                self.model.task.finish(self.model, [self.model.task.prepare(self.model, batch) for batch in batches])
        if self.span.train.validate_every and self.place.first:
            with contextlib.ExitStack() as precise:
                for name in names:
                    precise.enter_context(adapters.agreeing(self.model.part(name)))
                held = self.measure(lambda example, generator: self.model.task.validate(self.model, example, generator))
            self.metrics |= {f"held_out_{name}": value for name, value in held.items()}
            self.log({"step": self.step, "stage": self.span.name, "kept": held})
        for name in self.model.part_names():
            self.weights.give_back(name)
        self.model.forget_identities()
        artifact = self.out / "artifact" if write is not None else None
        if self.place.first:
            journal.draw(self.out / "metrics.jsonl", self.out / "curve.png")
            if artifact:
                state = {name: self.weights.state(name) for name in names}
                about = {"precision": self.span.train.precision, "processor": precision.processor(self.place.device.type)}
                write(self.model, artifact, state=state, metrics=self.metrics | about, curve=self.out / "curve.png")
                if self.hook is not None:
                    self.hook.mgzoo_saved(run=self.run(artifact), path=artifact)
        distributed.barrier()
        return self.run(artifact)

    def close(self) -> None:
        """Put down what a run that ended early still holds."""
        self.progress.close()
        self.watch(False)
        self.model.counting = False
        if self.engine is not None:
            with ranks.silence():
                self.engine.destroy()
