"""Laws of training that need processes of their own: ranks, kills and resumed runs. All of them run once, in `runs`."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mgzoo.train import metrics_log

WORKER = Path(__file__).with_name("toy_training.py")
KILL_AT, TERM_AT = random.randrange(9, 39), random.randrange(5, 19)
EXACT = {"dropout": 0.0, "micro_batch": 4, "save_every": 10}  # fp32, two micro-batches a step in all
LIVE = {"precision": "bf16", "save_every": 4, "validate_every": 8}  # bf16 with dropout


def worker(folder: Path, ranks: int = 1, **jobs) -> int:
    """Run jobs one after the other in a fresh process per rank; returns the exit code of rank 0."""
    plan = folder / "plan.json"
    folder.mkdir(parents=True, exist_ok=True)
    plan.write_text(json.dumps(jobs))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    clean = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    clean |= {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = []
    for rank in range(ranks):
        placed = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)} if ranks > 1 else {}
        with (folder / f"rank{rank}.log").open("w") as log:
            started.append(subprocess.Popen([sys.executable, str(WORKER), str(plan)], env={**clean, **placed}, stderr=log, stdout=log))
    return [process.wait() for process in started][0]


def back_to(folder: Path, step: int) -> Path:
    """Make a run look as it did when the checkpoint of `step` was its newest."""
    for later in (folder / "checkpoints").glob("step-*"):
        if int(later.name[5:]) > step:
            shutil.rmtree(later)
    (folder / "checkpoints" / "latest").write_text(f"step-{step:06d}\n")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Folders of runs: one/ by one rank, two/ by two, on/ begun by two and gone on with by one."""
    root = tmp_path_factory.mktemp("laws")
    zeros = {f"zero{stage}": {**EXACT, "stage": stage} for stage in (1, 2, 3)}
    first = worker(
        root / "one",
        **zeros,
        whole={**LIVE, "micro_batch": 4},
        whole3={**LIVE, "stage": 3},
        killed={**LIVE, "micro_batch": 4, "interrupt": {KILL_AT: "SIGKILL"}},
    )
    assert first == -signal.SIGKILL, (root / "one/rank0.log").read_text()
    assert worker(root / "two", ranks=2, **zeros) == 0, (root / "two/rank0.log").read_text() + (root / "two/rank1.log").read_text()
    for stage in (1, 2, 3):
        back_to(Path(shutil.copytree(root / f"two/zero{stage}", root / f"one/on{stage}")), 10)
    back_to(Path(shutil.copytree(root / "two/zero1", root / "one/on1to2")), 10)
    second = worker(
        root / "one",
        killed={**LIVE, "micro_batch": 4, "resume": True},
        on1={**EXACT, "stage": 1, "resume": True},
        on2={**EXACT, "stage": 2, "resume": True},
        on3={**EXACT, "stage": 3, "resume": True},
        on1to2={**EXACT, "stage": 2, "resume": True},
        stopped={**LIVE, "stage": 3, "interrupt": {TERM_AT: "SIGTERM"}},
    )
    assert second == 128 + signal.SIGTERM, (root / "one/rank0.log").read_text()
    assert worker(root / "one", stopped={**LIVE, "stage": 3, "resume": True}) == 0, (root / "one/rank0.log").read_text()
    return root


@pytest.fixture(scope="module")
def toy():
    spec = importlib.util.spec_from_file_location("toy_training", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(folder: Path) -> list[dict]:
    return [line for line in metrics_log.read_log(folder / "metrics.jsonl") if "loss" in line]


def weights(folder: Path) -> dict:
    return load_file(folder / "artifact" / "toy.safetensors")


@pytest.fixture(scope="module")
def plain(toy):
    return toy.plain_loop(micro_batch=4)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("ranks", ["one", "two"])
def test_zero_is_a_plain_loop(runs, plain, ranks, stage):
    """Losses, gradient norms and averaged weights over twenty steps, in float32: within 2e-6 (sums in another order)."""
    losses, norms, average = plain
    lines = told(runs / ranks / f"zero{stage}")
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert [line["loss"] for line in lines] == pytest.approx(losses, abs=2e-6)
    assert [line["grad_norm"] for line in lines] == pytest.approx(norms, rel=2e-6)
    assert norms[0] > 1.0, "clipping must have been at work"
    got = weights(runs / ranks / f"zero{stage}")
    for key, value in average.items():
        part, _, name = key.replace("encoders.shift.", "encoders.shift/").replace("backbone.", "backbone/").partition("/")
        if not name.startswith("spare"):  # the plain loop leaves weights without a gradient alone, ZeRO decays them
            assert (got[f"{part}/{name}"] - value).abs().max() < 2e-6, key


def test_another_seed_is_not_the_same_loop(plain, toy):
    assert abs(toy.plain_loop(micro_batch=8)[0][-1] - plain[0][-1]) > 1e-3


@pytest.mark.parametrize(
    ("whole", "broken", "at"), [("whole", "killed", KILL_AT), ("whole3", "stopped", TERM_AT)], ids=["killed", "stopped"]
)
def test_killed_and_resumed_is_not_killed_bit_for_bit(runs, whole, broken, at):
    """SIGKILL under ZeRO 1 (accumulating) and SIGTERM under ZeRO 3 at a random batch, in bf16 with dropout."""
    artifacts = [(runs / "one" / name / "artifact" / "toy.safetensors").read_bytes() for name in (whole, broken)]
    assert artifacts[0] == artifacts[1], f"interrupted at batch {at}"
    untimed = [[{k: v for k, v in line.items() if k != "seconds"} for line in metrics_log.read_log(runs / "one" / name / "metrics.jsonl")] for name in (whole, broken)]
    assert untimed[0] == untimed[1]


def test_weights_move(runs, toy):
    """The counter-example to the law above: what was compared had been trained."""
    start = toy.Model().backbone.state_dict()
    assert (weights(runs / "one/whole")["backbone/into.weight"] - start["into.weight"]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["on1", "on2", "on3", "on1to2"])
def test_two_ranks_resumed_on_one_go_on_as_two(runs, plain, name):
    """Through the universal format, ZeRO 1 and 2 also into each other; float32, within 2e-6."""
    log = told(runs / "one" / name)
    assert [line["loss"] for line in log] == pytest.approx(plain[0], abs=2e-6)
    assert [line["grad_norm"] for line in log] == pytest.approx(plain[1], rel=2e-5)
    two = weights(runs / "two" / f"zero{name[2]}")
    one = weights(runs / "one" / name)
    counted = one.pop("encoders.shift/seen"), two["encoders.shift/seen"]
    assert counted == (120, 80)  # a buffer, of the samples that this rank saw: half of ten steps, then all of ten; it is not lost on the way
    for key, value in one.items():
        assert (two[key] - value).abs().max() < 2e-6, key
    assert not list((runs / "one" / name / "checkpoints").glob(".tmp-*"))


def test_sigterm_saves_the_step_it_was_in(runs):
    log = (runs / "one/stopped/metrics.jsonl").read_text()
    assert log.count('"validation"') == 3  # at 8, 16 and 20, none of them twice
