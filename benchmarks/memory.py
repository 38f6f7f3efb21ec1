"""Memory per rank planned by `mgzoo plan` against the measured memory of a two-rank training, for ZeRO 1, 2 and 3.

    python benchmarks/memory.py [--width 768] [--depth 8] [--batch 4]

The model is tiny/emoji_t2v's with a larger backbone (80 M parameters by default), trained by mgzoo's loop as it is on two gloo ranks, five
steps, bf16. Measured is the resident set of rank 0 over what the same process held after it had trained a tiny model (so that libraries, kernels
and caches are not counted): `steps` is its highest point within steps 3 to 5, `start` that while the engine is set up. Fresh processes for
every stage. `in use` is what of the highest point glibc had given out (mallinfo2, looked at every 2 ms): the rest is memory that was freed and kept.
Predicted is `mgzoo.plan.plan(recipe, gpus=2, device="cpu")`, on device. On a CPU both are host memory.
Left out: offload, which means nothing on a CPU; saving.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")

from common import arguments, table, write
from plain_torch import few_clips

RANKS, CLIPS, STEPS, SETTLED = 2, 16, 5, 2
MB = 2**20


class Enough(Exception):
    """Ends a training when all has been measured."""


class Watched:
    """A data stream that says how many batches were taken so far."""

    def __init__(self, stream, at: Callable[[int], None]):
        self.stream, self.at = stream, at

    def batches(self, size: int):
        for number, batch in enumerate(self.stream.batches(size)):
            self.at(number)
            yield batch


def resident(field: str) -> float:
    """This process's VmRSS or VmHWM (the highest since `forget_peak`) in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


class Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]


def in_use() -> float:
    """MiB that glibc has given out and not got back."""
    libc = ctypes.CDLL("libc.so.6")
    libc.mallinfo2.restype = Mallinfo
    info = libc.mallinfo2()
    return (info.uordblks + info.hblkhd) / MB


class Peak:
    """The highest `in_use` since `value` was last set."""

    def __init__(self):
        self.value, self.on = 0.0, True
        threading.Thread(target=self.look, daemon=True).start()

    def look(self) -> None:
        while self.on:
            self.value = max(self.value, in_use())
            time.sleep(0.002)


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def recipe_of(shard: Path, batch: int, stage: int, *overrides: str):
    import mgzoo

    common = [f"data.config.path={shard}", "data.config.held_out=[]", "stages=[]", f"train.batch={batch}", f"train.steps={STEPS + 1}"]
    return mgzoo.compose("tiny/emoji_t2v", [*common, "train.validate_every=0", "train.save_every=0", f"zero.stage={stage}", *overrides])


def large(options) -> list[str]:
    config = {"width": options.width, "depth": options.depth, "heads": options.width // 64, "ffn": options.width * 8 // 3}
    return [f"parts.backbone.config.{key}={value}" for key, value in config.items()]


def train(recipe, out: Path, at: Callable[[int], None]) -> None:
    """mgzoo's loop until `at` has had enough."""
    import mgzoo
    from mgzoo.discovery import discover
    from mgzoo.train import distributed, loop
    from mgzoo.train.stages import plan_stages

    rank_info = distributed.init_distributed()
    data = discover().build_class(recipe.data.component.id)
    open_data = lambda span: Watched(data(recipe.data.config, seed=0, rank=rank_info.rank, world=rank_info.world_size), at)
    try:
        loop.run(mgzoo.build(recipe), plan_stages(recipe), open_data, out, rank_info=rank_info, seed=0)
    except Enough:
        pass


def worker(options, path: Path) -> None:
    """One rank: a tiny training, then the one that is measured."""
    import torch

    torch.set_num_threads(1)
    shard, found = path.parent / "few.tar", {}

    def warm(number: int) -> None:
        if number == SETTLED:
            raise Enough

    def watch(number: int) -> None:
        if number == 0:
            found["start"] = resident("VmHWM") - before
        if number == SETTLED:
            forget_peak()
            peak.value = 0.0
        if number == STEPS:
            found["steps"], found["in use"] = resident("VmHWM") - before, peak.value - held
            raise Enough

    train(recipe_of(shard, options.batch, options.stage, "parts.backbone.config.depth=1"), path.parent / "tiny", warm)
    gc.collect()
    before, held, peak = resident("VmRSS"), in_use(), Peak()
    forget_peak()
    train(recipe_of(shard, options.batch, options.stage, *large(options)), path.parent / "large", watch)
    peak.on = False
    if int(os.environ["RANK"]) == 0:
        path.write_text(json.dumps(found))


def main() -> None:
    parser = arguments(__doc__, width=768, depth=8, batch=4, stage=0)
    parser.add_argument("--worker", type=Path, help="where a rank writes; for this program's own use, as is --stage")
    options = parser.parse_args()
    if options.worker:
        return worker(options, options.worker)
    from mgzoo.plan import plan

    figures, rows = {}, []
    for stage in (1, 2, 3):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            few_clips(folder, CLIPS)
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={RANKS}", __file__, f"--stage={stage}"]
            command += [f"--{key}={getattr(options, key)}" for key in ("width", "depth", "batch")]
            subprocess.run([*command, f"--worker={folder / 'found.json'}"], check=True, env={**os.environ, "MGZOO_HOME": name})
            found = json.loads((folder / "found.json").read_text())
            answer = plan(recipe_of(folder / "few.tar", options.batch, stage, *large(options)), gpus=RANKS, device="cpu")
        (here,) = answer.stages
        row = next(row for row in here.memory if (row.zero, row.offload) == (stage, False))
        predicted = {key: getattr(row, key) / MB for key in ("weights", "gradients", "optimizer", "device")}
        off = found["steps"] / predicted["device"] - 1
        figures[stage] = {"predicted_mib": predicted, "measured_mib": found, "off": round(off, 3), "trained_parameters": here.trained_parameters}
        rows.append({"ZeRO": stage, "parameters": f"{here.trained_parameters / 1e6:.1f} M"} | {f"{key} MiB": round(value) for key, value in predicted.items()} | {
            "measured, steps": round(found["steps"]), "in use": round(found["in use"]), "measured, start": round(found["start"]),
            "steps / plan": f"{1 + off:.3f}", "in use / plan": f"{found['in use'] / predicted['device']:.3f}"
        })  # fmt: skip
    print(table(rows))
    print(write(options.out, "memory", {"ranks": RANKS, "batch": options.batch, "rows": rows, "figures": figures}, ("", "ZeRO", "measured, steps")))


if __name__ == "__main__":
    main()
