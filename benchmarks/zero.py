"""ZeRO 1, 2 and 3 with mgzoo's configuration against PyTorch's DistributedDataParallel, on two ranks.

    python benchmarks/zero.py [--rounds 6] [--block 3] [--micro 8]

Two gloo ranks on this machine, one thread each. The model is tiny/emoji_t2v's (18 M parameters are trained), on latents of noise, the same
batch for all. Ours is the engine of `mgzoo.train.engine`, its configuration and CPUAdam as shipped: bf16 weights, float32 masters, bf16 gradients
summed in float32 (`mgzoo.train.cpu_collectives`), clipping. The peers are DDP around the same module with torch's fused AdamW and clipping: `autocast` (float32 weights
and gradients under torch.autocast, as most training scripts have it; the goals are against this one) and `masters` (bf16 weights and
gradients, reduced in bf16, with float32 copies for the optimiser); float32 throughout in rows of their own. Blocks of steps take turns
in one run. A ratio is of one round: our step time over DDP's, of the slower rank; goals 1.0, 1.0 and 1.1.
Left out: several machines, real networks, the loop around the engine (benchmarks/training.py), memory (benchmarks/memory.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch
from common import arguments, ratios, spread, table, write

GOALS = {"ZeRO 1": 1.0, "ZeRO 2": 1.0, "ZeRO 3": 1.1}
RANKS = 2


def example(model, recipe, micro: int, rank: int):
    """A batch of latents of noise, another on each rank."""
    from mgzoo.parts import Example

    config = recipe.data.config
    latent = recipe.parts["autoencoder"].config.latent_spec()
    generator = torch.Generator().manual_seed(rank)
    latents = torch.randn(micro, latent.channels, *latent.axes(config.frames, config.height, config.width), generator=generator)
    return Example(latents=latents, inputs={"text": [model.task.text(f"a clip of noise, number {i}", 5) for i in range(micro)]})


def engine(recipe, stage: int, micro: int, rank_info) -> Callable[[], None]:
    """A step of ours."""
    import mgzoo
    from mgzoo.recipe.schema import Zero
    from mgzoo.train.engine import start_engine
    from mgzoo.train.trainable import Trainable

    model = mgzoo.build(recipe, weights=False)
    batch, generator = example(model, recipe, micro, rank_info.rank), torch.Generator().manual_seed(rank_info.rank)
    made = start_engine(Trainable(model, ["backbone", "encoders.text"]), recipe.train, Zero(stage=stage), rank_info)

    def step() -> None:
        loss, _ = made(batch, generator)
        made.backward(loss)
        made.step()

    return step


def ddp(recipe, scheme: str, micro: int, rank_info) -> Callable[[], None]:
    """A step of torch's DistributedDataParallel."""
    from plain_torch import Plain
    from torch.nn.parallel import DistributedDataParallel

    import mgzoo
    from mgzoo.train.trainable import Trainable

    model = mgzoo.build(recipe, weights=False)
    batch, generator = example(model, recipe, micro, rank_info.rank), torch.Generator().manual_seed(rank_info.rank)
    module = Trainable(model, ["backbone", "encoders.text"])
    page = Plain([module], lambda rows: parallel(batch, generator)[0], recipe.train, scheme, ema=False)
    parallel = DistributedDataParallel(module, gradient_as_bucket_view=scheme != "masters")
    return lambda: page.step(())


def worker(options, path: Path) -> None:
    """One rank: every case in turn, for both precisions."""
    import mgzoo
    from mgzoo.train import distributed

    torch.set_num_threads(1)
    rank_info, found = distributed.init_distributed(), {}
    for precision, schemes in (("bf16", ("autocast", "masters")), ("fp32", ("fp32",))):
        recipe = mgzoo.compose("tiny/emoji_t2v", [f"train.precision={precision}", f"train.batch={RANKS * options.micro}", "stages=[]"])
        cases = {f"DDP {scheme}": ddp(recipe, scheme, options.micro, rank_info) for scheme in schemes}
        cases |= {f"ZeRO {stage}": engine(recipe, stage, options.micro, rank_info) for stage in (1, 2, 3)}
        found[precision] = {name: [] for name in cases}
        for number in range(options.rounds + 1):
            for name, step in cases.items():
                torch.distributed.barrier()
                wall, cpu = time.perf_counter(), time.process_time()
                for _ in range(options.block):
                    step()
                took = torch.tensor([time.perf_counter() - wall, time.process_time() - cpu], dtype=torch.float64) / options.block
                torch.distributed.all_reduce(took, torch.distributed.ReduceOp.MAX)
                if number:
                    found[precision][name].append(took.tolist())
    if rank_info.is_first:
        path.write_text(json.dumps(found))


def main() -> None:
    parser = arguments(__doc__, rounds=6, block=3, micro=8)
    parser.add_argument("--worker", type=Path, help="where a rank writes; for this program's own use")
    options = parser.parse_args()
    if options.worker:
        return worker(options, options.worker)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        launch = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={RANKS}")
        sizes = [f"--{key}={getattr(options, key)}" for key in ("rounds", "block", "micro")]
        subprocess.run([sys.executable, *launch, __file__, *sizes, f"--worker={path}"], check=True, env={**os.environ, "MGZOO_HOME": folder})
        found = json.loads(path.read_text())
    figures, rows = {}, []
    for precision, cases in found.items():
        base = next(iter(cases))
        figures[precision] = {}
        for name, pairs in cases.items():
            wall, cpu = ([pair[i] for pair in pairs] for i in (0, 1))
            over, cpu_over = (ratios([pair[i] for pair in cases[base]], times) for i, times in enumerate((wall, cpu)))
            figures[precision][name] = {"wall": spread(wall), "cpu": spread(cpu), "over_ddp": over, "cpu_over_ddp": cpu_over}
            goal = GOALS.get(name)
            rows.append({"precision": precision, "case": name, "s/step": spread(wall)["median"], "cpu s/step": spread(cpu)["median"]} | {
                key: f"{one['median']:.3f} ({one['min']:.3f}-{one['max']:.3f})" for key, one in ((f"x {base.split()[0]}", over), ("cpu", cpu_over))
            } | {"goal": f"<= {goal}: {'met' if over['median'] <= goal else 'MISSED'}" if goal else "is 1"})  # fmt: skip
    print(table(rows))
    sizes = {key: getattr(options, key) for key in ("rounds", "block", "micro")}
    print(write(options.out, "zero", {"ranks": RANKS, **sizes, "rows": rows, "seconds": figures}, ("precision", "case", "s/step")))


if __name__ == "__main__":
    main()
