"""Automatic precision against bfloat16: a training step, a clip, encoding and attention.

    python benchmarks/precision.py [--runs 3] [--against OTHER/.venv/bin/python] [--demo] [--tests]

Every case is a process of its own with one thread, started in turn with its counterpart: the same code told to compute in bfloat16
(`MGZOO_PRECISION=bf16`), or another checkout by the Python it is installed in. On a CPU without bfloat16 instructions, or under
``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2``, the ratio is the gain; on one that has them both compute the same, and it should be 1.
--demo, --tests: also the README's two commands, once each, after their installation. Left out elsewhere: importing and compiling.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, ratios, spread, table, write

ROOT = Path(__file__).parent.parent
CASES = ("training step", "clip", "encoding", "attention")
TARGETS = {"training step": 8.0, "clip": 4.0, "encoding": 5.0}
PROMPT = "man dancing: light skin tone"


def training_step() -> float:
    """Seconds of a step of tiny/circle on pictures: the median of the later steps of a short run."""
    import mgzoo

    recipe = mgzoo.compose(ROOT / "recipes/tiny/circle.yaml", ["stages=[{name: t2i, steps: 9, set: {data.config.frames: 1}}]", "train.log_every=1"])
    with tempfile.TemporaryDirectory() as folder:
        mgzoo.train(recipe, out=Path(folder) / "run")
        lines = [json.loads(line) for line in (Path(folder) / "run/metrics.jsonl").read_text().splitlines()]
    return sorted(line["seconds"] for line in lines if "seconds" in line)[len(lines) // 4]


def clip() -> float:
    """Seconds of one clip of registry/emoji-t2v, the second one."""
    import mgzoo

    model = mgzoo.load("registry/emoji-t2v")
    model.generate(PROMPT, seed=0, steps=2)
    begun = time.perf_counter()
    model.generate(PROMPT, seed=0)
    return time.perf_counter() - begun


def encoding() -> float:
    """Seconds in which the shipped autoencoder encodes 32 clips of 16 frames of 64x64."""
    import torch

    import mgzoo

    torch.manual_seed(0)
    model, media = mgzoo.load("registry/tae-emoji"), torch.rand(4, 3, 16, 64, 64) * 2 - 1
    with torch.inference_mode():
        model.autoencoder.encode(media)
        begun = time.perf_counter()
        for _ in range(8):
            model.autoencoder.encode(media)
    return time.perf_counter() - begun


def attention() -> float:
    """Seconds of attention over 1,024 tokens with 4 heads of 64, forward and backward, in bfloat16."""
    import torch

    from mgzoo_backbones.attention import Segments, attend

    q, k, v = (torch.randn(1024, 4, 64).bfloat16().requires_grad_() for _ in range(3))
    whole, taken = Segments(lengths=(1024,), device=torch.device("cpu")), []
    for _ in range(4):
        begun = time.perf_counter()
        attend(q, k, v, whole, whole).sum().backward()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def child(python: str, case: str, **variables: str) -> float:
    """One case in a process of its own, with one thread and no cache of before."""
    with tempfile.TemporaryDirectory() as home:
        one = {"OMP_NUM_THREADS": "1", "MGZOO_HOME": home, "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"}
        if python != sys.executable:  # two environments that share one build of DeepSpeed's optimizer make it in turns
            one["TORCH_EXTENSIONS_DIR"] = str(Path(python).absolute().parent.parent / "torch_extensions")
        answer = subprocess.run(
            [python, __file__, "--case", case], cwd=ROOT, env=os.environ | one | variables, check=True, capture_output=True, text=True
        )
    return float(answer.stdout.splitlines()[-1])


def whole(name: str) -> int:
    """Seconds of the demo or of the tests, as the Makefile runs them."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = {"demo": ("scripts/demo.py", "--out", folder + "/demo"), "test": ("-m", "pytest", "-n", "2", "--dist", "loadfile", "-q")}[name]
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=sys.stderr)
    return round(time.perf_counter() - begun)


def main() -> None:
    parser = arguments(__doc__, runs=3)
    parser.add_argument("--against", help="Python of another checkout (default: this one in bfloat16)")
    parser.add_argument("--demo", action="store_true", help="also time the demo")
    parser.add_argument("--tests", action="store_true", help="also time all tests")
    parser.add_argument("--case", choices=CASES, help="measure one case and print its seconds")
    options = parser.parse_args()
    if options.case:
        print({"training step": training_step, "clip": clip, "encoding": encoding, "attention": attention}[options.case]())
        return
    from mgzoo import precision

    other = {} if options.against else {precision.VARIABLE: "bf16"}
    rows, samples = [], {}
    for case in CASES:
        pairs = [(child(sys.executable, case), child(options.against or sys.executable, case, **other)) for _ in range(options.runs)]
        ours, theirs = ([pair[i] for pair in pairs] for i in (0, 1))
        samples[case] = {"ours": spread(ours), "bf16": spread(theirs), "ratio": ratios(ours, theirs)}
        rows.append({"case": case, "ours s": spread(ours)["median"], "bf16 s": spread(theirs)["median"], "x": samples[case]["ratio"]["median"],
                     "aim": TARGETS.get(case, "–") if not precision.computes_bf16("cpu") else 1.0})
    print(table(rows))
    report = {"rows": rows, "seconds": samples, "computes in": precision.preferred("cpu"), "processor": precision.processor("cpu")}
    if more := [{"command": f"make {name}", "seconds": whole(name), "aim": aim} for name, aim, on in (("demo", 600, options.demo), ("test", 1200, options.tests)) if on]:
        print(table(more))
        rows += more
    print(write(options.out, "precision", report))


if __name__ == "__main__":
    main()
