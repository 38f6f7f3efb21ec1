"""The training loop: data, task, engine, averages, validation and checkpoints, in the order in which they happen.

Every random draw of micro-batch m of step s comes from a seed made of (recipe seed, s, m), and micro-batch m is done by
rank ``m % world``: neither the number of ranks nor an interruption changes what is drawn.
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
from mgzoo.model.lora import ranks_too_large
from mgzoo.parts import Data
from mgzoo.recipe.settings import setting_notes
from mgzoo.spec import MgzooError, as_seed
from mgzoo.train import borders, counts, failure, journal, ranks, signals, validation, zero
from mgzoo.train import resume as resuming
from mgzoo.train.averaging import Average
from mgzoo.train.finish import finish
from mgzoo.train.ranks import Place
from mgzoo.train.stages import StagePlan, learning_rate, plans, stage_at
from mgzoo.train.weights import Weights, fill

START_BATCHES = 32


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run. folder: everything it wrote. artifact: the trained model (None while training). metrics: the last ones."""

    folder: Path
    artifact: Path | None
    steps: int
    metrics: Mapping[str, Any] = field(default_factory=dict)


def train(recipe, out: str | Path, resume: bool = False, model=None, accept_changes: bool = False) -> Run:
    """Train a composed recipe into the folder `out`.

    resume: go on from the newest whole checkpoint in `out`; what has changed since it was saved is said. model: a model already built
    from the recipe (its weights are the starting point), default ``mgzoo.model.build.build``. accept_changes: go on with other data and other
    weights under the same names too, which is refused otherwise. The same call works in a plain process and under `torchrun` or the
    `deepspeed` launcher; `out` must be a folder that all ranks see. Raises MgzooError for what a user can mend. A SIGTERM
    saves and raises SystemExit(143), a Ctrl-C saves and raises KeyboardInterrupt.
    """
    from mgzoo.discovery import discover
    from mgzoo.model.build import build
    from mgzoo.model.save import save
    from mgzoo.recipe.lock import lock_recipe

    storage.refuse_address(out)
    spans = plans(recipe)
    if missing := [key for key, there in (("parts.task", recipe.parts.get("task")), ("data", recipe.data)) if there is None]:
        raise MgzooError(f"nothing can be trained without {' and '.join(missing)}", remedy="add it to the recipe", origin=str(recipe.source))
    place, out = ranks.distributed(), Path(out)
    found = resuming.find(out, place, resume)
    made = ranks.from_first(place, lambda: {"lock": lock_recipe(recipe), "recipe": recipe.tree})
    changed = ranks.from_first(place, lambda: resuming.compare(recipe, made, found, out, accept_changes)) if found else ([], None)
    registry = discover()
    if model is None:
        model = build(recipe, device=place.device.type)

    for name, part in recipe.parts.items():
        for what, remedy in ranks_too_large(model.part(name), part.adapter) if part.adapter else ():
            raise MgzooError(what, remedy=remedy, origin=str(recipe.origin(f"parts.{name}.adapter.rank") or ""))

    def open_data(span: StagePlan) -> Data:
        part = span.recipe.data
        stream = registry.build_class(part.component.id)
        return stream(part.config, seed=as_seed(recipe.seed + span.index), rank=place.rank, world=place.world)

    return run(
        model,
        spans,
        open_data,
        out,
        place=place,
        seed=recipe.seed,
        resume=found if found else resume,
        changed=changed,
        made=made,
        texts={"recipe.yaml": recipe.to_yaml(), "recipe.lock.json": json.dumps(made["lock"], indent=2) + "\n"},
        write=save,
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
    resume: bool | Path = False,
    changed: tuple[list[str], dict | None] = ([], None),
    made: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
    write: Callable[..., Any] | None = None,
    hook=None,
) -> Run:
    """Train `model` through `spans`: what `train` does once the recipe has been taken apart.

    open_data: gives this rank's stream for a stage. resume: whether to go on, or the checkpoint to go on from. changed: what `resume.compare`
    gave. made: what every checkpoint tells of how it was made. texts: files for the run folder, written once it is sure that there is a run.
    write: saves the artifact, called as ``write(model, folder, state=, metrics=, curve=)``. hook: relay of `mgzoo_step`
    and `mgzoo_saved`.
    """
    out = Path(out)
    found = resume if isinstance(resume, Path) else resuming.find(out, place, resume)
    loop = Loop(model, spans, open_data, out, place=place, seed=seed, made=made, hook=hook)
    try:
        with signals.Interrupt(lambda line: loop.progress.say(line)) as loop.interrupt:
            loop.begin(found, bool(resume), changed)
            if place.first:
                for name, text in (texts or {}).items():
                    storage.atomic_write(out / name, text)
            loop.steps()
        return finish(loop, write)
    except Exception as error:
        if loop.step and loop.step == loop.spans[-1].last:
            failure.end(loop, error)
        raise
    finally:
        loop.close()


class Loop:
    """One run in progress: the engine of the current stage and all that must outlive a stage or an interruption."""

    def __init__(self, model, spans, open_data, out: Path, *, place: Place, seed: int, made: Mapping[str, Any] | None = None, hook=None):
        self.model, self.spans, self.open_data, self.out = model, spans, open_data, out
        model.counting = True  # a line for each long caption would drown the rest
        self.place, self.seed, self.made, self.hook = place, seed, made or {}, hook
        self.weights = Weights(model, place, [name for span in spans for name in self.trained(span)])
        self.progress = journal.Progress(0, spans[-1].last, place.first)
        self.span = self.engine = self.average = self.interrupt = self.standing = None
        self.agreed = True  # whether every rank knows of an error in the micro-batch that was drawn last
        self.counts: dict[str, int] = {}
        self.names: list[str] = []
        self.in_average: set[str] = set()  # weights of which the average has taken in at least one update
        self.step = self.samples = 0
        self.saved = -1
        self.plateau = {"factor": 1.0, "best": None, "waited": 0}
        self.metrics: dict[str, Any] = {}
        self.watches: list = []

    # ------------------------------------------------------------------------------------------------ stages

    def begin(self, found: Path | None, again: bool, changed: tuple[list[str], dict | None] = ([], None)) -> None:
        """Enter the first stage, or the one that the checkpoint `found` belongs to. Nothing is written before all of it went well."""
        self.set_precision(resuming.precision(found))
        if found is not None:
            resuming.load(self, found)
            self.progress = journal.Progress(self.step, self.spans[-1].last, self.place.first)
            self.progress.say(f"resuming from {found.name}")
            for line in changed[0]:
                self.progress.say(f"! changed since then: {line}")
        else:
            if again:
                self.progress.say(f"! no whole checkpoint in {self.out}: starting from step 0")
            self.start()
            self.enter(self.spans[0])
        if self.place.first:
            self.out.mkdir(parents=True, exist_ok=True)
            journal.truncate(self.out / "metrics.jsonl", self.step)
            if changed[0]:  # what the steps before saw, when recipe.lock.json no longer tells it
                journal.note(self.out / "changes.jsonl", {"step": self.step, "changed": changed[0], "lock": changed[1]})
        self.note_engine()
        validation.say_nothing_held_out(self)
        for line in setting_notes(self.spans):
            self.progress.say(f"! {line}")

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
        micro, accumulation = zero.micro_batches(span.train, self.place.world)
        data = self.open_data(span)  # before anything is taken down: it may not be there
        self.standing = None
        kept = {} if same else self.leave(names)
        self.span, self.model.recipe, self.data = span, span.recipe, data
        self.micro, self.accumulation = micro, accumulation
        self.stream = self.data.batches(self.micro)
        self.watch(span.train.debug)
        self.plateau = {"factor": 1.0 if span.first == span.warm_first else self.plateau["factor"], "best": None, "waited": 0}
        if same:
            zero.set_groups(self.engine, span.train)
            return
        self.names = names
        self.weights.set(names, torch.bfloat16 if span.train.precision == "bf16" else torch.float32)
        self.model.forget_identities()
        self.engine = zero.start(zero.Trainable(self.model, names), span.train, span.zero, self.place)
        self.start_average(kept)
        if before is not None:
            self.progress.say(f"stage {span.name}: training {', '.join(names)}; the optimiser's moments start anew")

    def note_engine(self) -> None:
        """Write the engine's configuration into the run's folder."""
        if self.place.first:
            config = zero.deepspeed_config(self.span.train, self.span.zero, self.place.world, self.place.device.type)
            storage.atomic_write(self.out / "deepspeed.json", json.dumps(config, indent=1) + "\n")

    def start_average(self, kept: Mapping[str, Any]) -> None:
        """Let the average begin at the weights as the engine has them now, or where `leave` left it.

        Its warm-up begins anew where a weight joins that it does not know: a long memory would hold that one at its first value.
        """
        train, self.average = self.span.train, None
        if train.ema.decay:
            self.average = Average(train.ema, zero.masters(self.engine))
            known = kept.get("known", set())
            self.in_average = known & set(zero.names(self.engine))
            if known >= set(zero.names(self.engine)):
                self.average.updates = kept["updates"]
            self.put_average(kept.get("weights", {}))
        else:
            self.in_average = set()

    def leave(self, names: list[str]) -> dict:
        """Take the engine down and return the averaged weights; parts that `names` trains no longer settle on them."""
        if self.engine is None:
            return {}
        averaged, updates = self.averaged(), self.average.updates if self.average else 0
        zero.release(self.engine)
        self.engine = None
        for name in set(self.names) - set(names):
            fill(self.model.part(name), name, averaged)
        return {"weights": averaged, "updates": updates, "known": self.in_average}

    def watch(self, on: bool) -> None:
        """Look at every part's border (`train.debug`), or stop looking."""
        for handle in self.watches:
            handle.remove()
        self.watches = borders.watch(self.model) if on else []

    def averaged(self) -> dict[str, Tensor]:
        """The weights to keep, whole and in float32, named as in `zero.Trainable`: averaged where the average has taken them in. On all ranks."""
        averaged = self.average_weights() if self.in_average else {}
        if averaged and averaged.keys() <= self.in_average:
            return averaged
        return zero.full(self.engine) | {name: value for name, value in averaged.items() if name in self.in_average}

    def average_weights(self) -> dict[str, Tensor]:
        """The average as it stands, whole; of weights that it has not taken in yet, where it began. On all ranks."""
        with zero.holding(self.engine, self.average.shards):
            return zero.full(self.engine)

    def put_average(self, weights: Mapping[str, Tensor]) -> None:
        with zero.holding(self.engine, self.average.shards):
            zero.put(self.engine, weights)

    # ------------------------------------------------------------------------------------------------- steps

    def steps(self) -> None:
        """All remaining optimiser steps; what is whole is saved where they cannot be done."""
        try:
            self.standing = failure.standing(self)
            self.remaining_steps()
        except Exception as error:
            failure.end(self, error)
            raise

    def remaining_steps(self) -> None:
        total, losses, terms, busy = self.spans[-1].last, [], {}, 0.0
        while self.step < total:
            if self.step >= self.span.last:
                self.enter(stage_at(self.spans, self.step))
                self.standing = failure.standing(self)
                self.note_engine()
            train, begun = self.span.train, time.monotonic()
            rate = learning_rate(self.span, self.step) * self.plateau["factor"]
            for group in self.engine.optimizer.param_groups:
                group["lr"] = rate
            loss, stop, named = self.descend()
            norm = float(self.engine.get_global_grad_norm())
            if not math.isfinite(norm) or norm < 0:
                failure.refuse(self, "the gradient norm", norm, named)
            self.step += 1
            self.samples += train.batch
            last = self.step == total
            if self.average:
                if self.average.update(zero.masters(self.engine), self.step):
                    self.in_average = set(zero.names(self.engine))
            self.standing = failure.standing(self)
            losses.append(loss)
            for name, value in named.items():
                terms.setdefault(name, []).append(value)
            busy += time.monotonic() - begun
            self.metrics = {"step": self.step, "stage": self.span.name, "loss": loss, "lr": rate, "grad_norm": norm, "samples": self.samples}
            if self.step % train.log_every == 0 or last:
                n = len(losses)
                means = ranks.mean(self.place, {name: sum(values) / len(values) for name, values in terms.items()})
                self.counts = counts.counted(self)
                self.log({**self.metrics, "loss": sum(losses) / n, "terms": means, "seconds": busy / n, **({"counts": self.counts} if self.counts else {})})
                losses, terms, busy = [], {}, 0.0
            self.progress.show(self.step, f"loss {loss:.4f}")
            if train.validate_every and (self.step % train.validate_every == 0 or last):
                validation.validate(self)
            if self.place.first and self.hook is not None:
                self.hook.mgzoo_step(run=self.run(), step=self.step, metrics=self.metrics)
            if stop or last or (train.save_every and self.step % train.save_every == 0):
                kept, self.standing = self.standing, None  # a save that fails is not tried again
                resuming.save(self)
                self.standing = kept
            if stop:
                signals.leave(stop)

    def descend(self) -> tuple[float, int, dict[str, float]]:
        """One optimiser step: (mean loss over the global batch, signal heard by any rank, this rank's mean terms)."""
        total, terms = torch.zeros((), device=self.place.device), {}
        for turn in range(self.accumulation):
            generator = self.seeded(self.step, turn * self.place.world + self.place.rank)
            example = failure.draw(self)
            loss, named = self.engine(example, generator)
            total += loss.detach().float() / self.accumulation
            for name, value in named.items():
                terms[name] = terms.get(name, 0.0) + float(value) / self.accumulation
            self.engine.backward(loss)
            if turn == self.accumulation - 1:
                mean, stop = ranks.agree(self.place, float(total), self.interrupt.heard)
                if not math.isfinite(mean):
                    failure.refuse(self, "the loss", mean, terms)
                self.standing = None  # a step that is half done is no state to go on from
            self.engine.step()
        return mean, stop, terms

    def seeded(self, *key) -> torch.Generator:
        return ranks.seeded(self.place.device, self.seed, *key)

    # ------------------------------------------------------------------------------------------- what is kept

    def log(self, entry: Mapping[str, Any]) -> None:
        if self.place.first:
            journal.note(self.out / "metrics.jsonl", entry)

    def run(self, artifact: Path | None = None) -> Run:
        return Run(folder=self.out, artifact=artifact, steps=self.step, metrics=dict(self.metrics))

    def close(self) -> None:
        """Put down what a run that ended early still holds."""
        self.progress.close()
        self.watch(False)
        self.model.counting = False
        if self.engine is not None:
            with ranks.silence():
                self.engine.destroy()
