"""mgzoo's training loop against a plain PyTorch loop, and training from cached latents against encoding in every step.

    python benchmarks/training.py [--rounds 6] [--block 6] [--batch 32] [--clips 192]

The model is tiny/emoji_t2v's (18 M parameters are trained: backbone and text encoder; 16 frames of 64x64), its latents cached. Ours
is `mgzoo.train.loop`, whole, as that recipe has it: DeepSpeed ZeRO 1 on one process with its CPUAdam, clipping, moving average,
metrics log every ten steps, the clip stream. Plain (benchmarks/plain_torch.py) has the same weights, loss, clipping and average in one page
around torch's fused AdamW, and takes its batches from one tensor of latents. Bfloat16 with float32 masters in both (`masters`), beside the
common alternative for the plain loop (`autocast`); float32 apart. Blocks of steps take turns in one run, one thread. A ratio is of
one round: theirs / ours, so that 0.95 means that ours takes 5 % longer; of CPU seconds too, since wall time has the machine's other work in it.

Cached against uncached: mgzoo's loop alone, text encoder frozen, blocks with the cache and blocks without (clips decoded once, then kept
in memory; latents and text encoded in every step).

Left out: validation, checkpoints, the first steps, several ranks (benchmarks/zero.py).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch
from common import arguments, ratios, spread, table, write
from plain_torch import Plain, few_clips

import mgzoo
from mgzoo.discovery import discover
from mgzoo.model.feature_cache import Cache
from mgzoo.parts import Example
from mgzoo.train import distributed, loop
from mgzoo.train.stages import plan_stages

WARM = 4


class Turns:
    """A listener of mgzoo's training that lets other cases have their blocks between blocks of ours.

    cases: name -> what to call for a block. before: called with the number of our coming block (several kinds may take turns).
    """

    def __init__(self, block: int, cases: Mapping[str, Callable[[], None]], name: Callable[[int], str], before: Callable[[int], None] = lambda n: None):
        self.block, self.cases, self.name, self.before = block, cases, name, before
        self.blocks, self.measured = 0, {}

    def mgzoo_step(self, run, step, metrics) -> None:
        if step < WARM or (step - WARM) % self.block:
            return
        if step > WARM:
            self.note(self.name(self.blocks))
            self.blocks += 1
        for name, case in self.cases.items():
            self.clock = time.perf_counter(), time.process_time()
            case()
            if step > WARM:  # the first of each only warms up
                self.note(name)
        self.before(self.blocks)
        self.clock = time.perf_counter(), time.process_time()

    def mgzoo_saved(self, run, path) -> None:
        pass

    def note(self, name: str) -> None:
        wall, cpu = self.clock
        self.measured.setdefault(name, []).append(((time.perf_counter() - wall) / self.block, (time.process_time() - cpu) / self.block))


def recipe_of(shard: Path, options, *overrides: str):
    """tiny/emoji_t2v on a few clips, one stage."""
    common = [f"data.config.path={shard}", "data.config.held_out=[]", "stages=[]", f"train.batch={options.batch}"]
    return mgzoo.compose("tiny/emoji_t2v", [*common, "train.validate_every=0", "train.save_every=0", "train.warmup=0", *overrides])


def train(recipe, model, out: Path, rank_info, turns: Turns) -> None:
    """mgzoo's loop as `mgzoo.train` calls it, with a listener of our own."""
    (span,) = plan_stages(recipe)
    stream = discover().build_class(recipe.data.component.id)
    loop.run(model, [span], lambda span: stream(recipe.data.config, seed=0), out, rank_info=rank_info, seed=0, hook=turns)


def encoded(model, recipe) -> tuple[torch.Tensor, list[str]]:
    """(latents of all clips, their words), by way of the cache."""
    stream = discover().build_class(recipe.data.component.id)(recipe.data.config)
    clips = next(stream.batches(len(stream)))
    return torch.stack(model.encode_clips(clips)), [model.task.text(clip.caption, clip.fps) for clip in clips]


def plain(recipe, scheme: str) -> Callable[[], None]:
    """A step of the plain loop on a model of its own with the same first weights."""
    model = mgzoo.build(recipe)
    latents, words = encoded(model, recipe)
    generator = torch.Generator().manual_seed(0)

    def loss(rows):
        example = Example(latents=latents[rows], inputs={"text": [words[i] for i in rows]})
        return model.task.loss(model, example, generator).total

    page = Plain([model.backbone, model.encoders["text"]], loss, recipe.train, scheme)
    return lambda: page.step(torch.randperm(len(words), generator=generator)[: recipe.train.batch].tolist())


def against_plain(precision: str, shard: Path, options, rank_info, out: Path) -> dict:
    """Seconds of a step of ours and of the plain loops."""
    recipe = recipe_of(shard, options, f"train.precision={precision}", f"train.steps={WARM + options.rounds * options.block}")
    model = mgzoo.build(recipe)
    encoded(model, recipe)
    steps = {f"plain {scheme}": plain(recipe, scheme) for scheme in (("masters", "autocast") if precision == "bf16" else ("fp32",))}
    cases = {name: lambda step=step: [step() for _ in range(options.block)] for name, step in steps.items()}
    turns = Turns(options.block, cases, lambda number: "mgzoo")
    train(recipe, model, out / precision, rank_info, turns)
    return turns.measured


def against_uncached(shard: Path, options, rank_info, out: Path) -> dict:
    """Seconds of a step of ours with and without the cache."""
    settings = (f"train.steps={WARM + 2 * options.rounds * options.block}", "parts.encoders.text.frozen=true")
    recipe = recipe_of(shard, options, *settings)
    model = mgzoo.build(recipe)
    encoded(model, recipe)
    caches = {"cached": model.cache, "uncached": Cache(disk=False, memory=0)}
    name = lambda number: list(caches)[number % 2]
    turns = Turns(options.block, {}, name, lambda number: setattr(model, "cache", caches[name(number)]))
    train(recipe, model, out / "uncached", rank_info, turns)
    return turns.measured


def report(measured: dict, first: str) -> tuple[dict, list[dict]]:
    """Figures and rows of one comparison; the ratios are over `first`."""
    figures, rows = {}, []
    for name, pairs in measured.items():
        wall, cpu = ([pair[i] for pair in pairs] for i in (0, 1))
        base = [[pair[i] for pair in measured[first]] for i in (0, 1)]
        figures[name] = {"wall": spread(wall), "cpu": spread(cpu), "over_" + first: ratios(base[0], wall), "cpu_over_" + first: ratios(base[1], cpu)}
        shown = [figures[name][key] for key in ("over_" + first, "cpu_over_" + first)]
        rows.append({"loop": name, "s/step": spread(wall)["median"], "cpu s/step": spread(cpu)["median"], "vs": first} | {
            key: f"{one['median']:.3f} ({one['min']:.3f}-{one['max']:.3f})" for key, one in zip(("wall ratio", "cpu ratio"), shown)
        })  # fmt: skip
    return figures, rows


def main() -> None:
    options = arguments(__doc__, rounds=6, block=6, batch=32, clips=192).parse_args()
    torch.set_num_threads(1)
    figures, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MGZOO_HOME"] = folder
        shard, rank_info = few_clips(Path(folder), options.clips), distributed.init_distributed()
        for name, measured, first in (
            ("bf16", lambda: against_plain("bf16", shard, options, rank_info, Path(folder)), "mgzoo"),
            ("fp32", lambda: against_plain("fp32", shard, options, rank_info, Path(folder)), "mgzoo"),
            ("cache", lambda: against_uncached(shard, options, rank_info, Path(folder)), "cached"),
        ):
            figures[name], more = report(measured(), first)
            rows += [{"what": name, **row} for row in more]
    print(table(rows))
    print(write(options.out, "training", {"rounds": options.rounds, "block": options.block, "batch": options.batch, "rows": rows, "seconds": figures}, ("what", "loop", "s/step")))


if __name__ == "__main__":
    main()
