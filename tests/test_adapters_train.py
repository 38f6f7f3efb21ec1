"""Laws of training an adapter, in processes of their own: it is a plain loop, it resumes exactly, and only it changes."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mgzoo
from mgzoo import cli, storage
from mgzoo.artifact.manifest import commit_of
from mgzoo.hub.lookup import find_local
from mgzoo.model.build import build
from mgzoo.model.lora import adapter_state_dict
from mgzoo.model.save import save
from mgzoo.recipe.compose import compose
from mgzoo.share.pull import pull
from mgzoo.share.push import push
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError
from mgzoo.train import metrics_log

torch.set_num_threads(1)

WORKER = Path(__file__).with_name("adapter_training.py")
KILL_AT = random.randrange(5, 19)
EXACT = {"micro_batch": 4}  # fp32, two micro-batches a step in all
LIVE = {"precision": "bf16", "save_every": 4, "validate_every": 8, "dropout": 0.25}


def worker(folder: Path, ranks: int = 1, **jobs) -> int:
    """Run jobs one after the other in a fresh process per rank; returns the exit code of rank 0."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(jobs))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    clean = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    clean |= {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = []
    for rank in range(ranks):
        placed = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)} if ranks > 1 else {}
        with (folder / f"rank{rank}.log").open("w") as log:
            started.append(subprocess.Popen([sys.executable, str(WORKER), str(folder / "plan.json")], env={**clean, **placed}, stderr=log, stdout=log))
    return [process.wait() for process in started][0]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """two/: by two ranks. one/: a whole run, and one that is killed and goes on."""
    root = tmp_path_factory.mktemp("adapters")
    zeros = {f"zero{stage}": {**EXACT, "stage": stage} for stage in (1, 3)}
    assert worker(root / "two", ranks=2, **zeros) == 0, (root / "two/rank0.log").read_text() + (root / "two/rank1.log").read_text()
    whole = {f"whole{stage}": {**LIVE, "stage": stage} for stage in (1, 3)}
    assert worker(root / "one", **whole, killed={**LIVE, "stage": 3, "interrupt": {KILL_AT: "SIGKILL"}}) == -signal.SIGKILL, (root / "one/rank0.log").read_text()
    assert worker(root / "one", killed={**LIVE, "stage": 3, "resume": True}) == 0, (root / "one/rank0.log").read_text()
    return root


@pytest.fixture(scope="module")
def toy():
    spec = importlib.util.spec_from_file_location("adapter_training", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plain(toy):
    return toy.plain_loop(micro_batch=4)


def told(folder: Path) -> list[dict]:
    return [line for line in metrics_log.read_log(folder / "metrics.jsonl") if "loss" in line]


def weights(folder: Path) -> dict:
    return load_file(folder / "artifact" / "toy.safetensors")


@pytest.mark.parametrize("stage", [1, 3])
def test_an_adapter_under_zero_on_two_ranks_is_a_plain_loop(runs, plain, stage):
    """Losses, gradient norms and averaged weights over twenty steps, in float32: within 2e-6 (sums in another order)."""
    losses, norms, average = plain
    lines = told(runs / f"two/zero{stage}")
    assert [line["loss"] for line in lines] == pytest.approx(losses, abs=2e-6)
    assert [line["grad_norm"] for line in lines] == pytest.approx(norms, rel=2e-6)
    got = weights(runs / f"two/zero{stage}")
    assert len(average) == 4
    for key, value in average.items():
        assert (got[f"backbone/{key}"] - value).abs().max() < 2e-6 < value.abs().max(), key


def test_two_micro_batches_in_one_are_not_the_same_loop(plain, toy):
    assert abs(toy.plain_loop(micro_batch=8)[0][-1] - plain[0][-1]) > 1e-3


def test_killed_and_resumed_is_not_killed_bit_for_bit(runs):
    """SIGKILL at a random batch, under ZeRO 3, in bf16 with dropout in the adapter."""
    artifacts = [(runs / "one" / name / "artifact" / "toy.safetensors").read_bytes() for name in ("whole3", "killed")]
    assert artifacts[0] == artifacts[1], f"interrupted at batch {KILL_AT}"
    untimed = [[{k: v for k, v in line.items() if k != "seconds"} for line in metrics_log.read_log(runs / "one" / name / "metrics.jsonl")] for name in ("whole3", "killed")]
    assert untimed[0] == untimed[1]


@pytest.mark.parametrize("name", ["two/zero1", "two/zero3", "one/whole1", "one/whole3"])
def test_only_the_adapter_changes(runs, toy, name):
    """Also in bf16, where the base is rounded while it rests; running statistics stay too."""
    start, got = toy.adapted().backbone.state_dict(), weights(runs / name)
    changed = {key for key, value in start.items() if not torch.equal(got[f"backbone/{key}"], value)}
    assert changed == set(adapter_state_dict(toy.adapted().backbone)) and len(changed) == 4


@pytest.mark.parametrize("name", ["whole1", "whole3"])
def test_a_checkpoint_and_its_average_hold_the_adapter_alone(runs, name):
    folder = runs / "one" / name / "checkpoints/step-000020"
    assert set(load_file(folder / "average.safetensors")) == {f"backbone.{layer}.lora_{x}.weight" for layer in ("into", "out") for x in "AB"}
    states = [torch.load(path, weights_only=False, map_location="cpu") for path in (folder / "engine").glob("*model_states.pt")]
    assert states and not any("backbone.into.weight" in str(state["param_shapes"]) or "norm" in str(state["module"].keys()) for state in states)


BASE = """\
schema: 1
parts:
  autoencoder:
    use: autoencoders.tae.v1
    config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0], attention: false}
    frozen: true
  encoders:
    text: {use: encoders.bytes.v1, config: {width: 16, depth: 1, heads: 2, buckets: 32, max_len: 16}}
  backbone: {use: backbones.llama3.v1, config: {depth: 2, width: 32, heads: 2, ffn: 32, max_len: [4, 4, 4], frequency_dim: 16}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 32, width: 32}}
"""
ADAPTED = """\
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, weights: registry/base, frozen: true}
  encoders:
    text: {use: encoders.bytes.v1, weights: registry/base, frozen: true}
  backbone: {use: backbones.llama3.v1, weights: registry/base, adapter: {rank: 8, targets: [embed, output, w13, w2]}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 32, width: 32}}
data: {use: video.shapes.v1, config: {frames: 8, height: 32, width: 32, clips: 16}}
train: {steps: 60, batch: 8, lr: 2.0e-2, warmup: 5, log_every: 1, precision: bf16, save_every: 30, condition_dropout: 0, ema: {decay: 0.9}}
"""


def test_the_whole_circle(tmp_path, monkeypatch, capsys):
    """Train, push, pull, verify, generate, show; the loss falls; and a run is not resumed on a base that has moved."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry").mkdir()
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "lora.yaml").write_text(ADAPTED)
    base = build(compose("base.yaml"))
    for p in base.backbone.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    push(save(base, tmp_path / "base"), "registry/base@v1", probe=False)
    recipe = compose("lora.yaml")
    run = mgzoo.train(recipe, "run")
    losses = [line["loss"] for line in told(run.folder)]
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])

    push(run.artifact, "registry/lora@v1")
    pulled = pull("registry/lora@v1", "pulled")
    assert verify(pulled) == []
    assert cli.run(["generate", "registry/lora@v1", "a red disc", "--out", "disc.mp4"]) == 0
    capsys.readouterr()
    for thing in ("run", "registry/lora@v1", "disc.mp4"):
        assert cli.run(["show", thing, "--json"]) == 0
        row = json.loads(capsys.readouterr().out)["provenance"]["backbone"]
        assert (row["use"], row["distribution"], row["adapter"], row["trained"]) == ("backbones.llama3.v1", "mgzoo-backbones", True, True)
        assert row["commit"] == commit_of(pulled) and row["from"][0]["repo"] == "registry/base"
        assert row["from"][0]["digest"] == storage.digest_file(find_local("registry/base@v1") / "mgzoo.json")

    (tmp_path / "again").mkdir()
    for name in ("recipe.lock.json", "checkpoints"):
        os.rename(tmp_path / "run" / name, tmp_path / "again" / name)
    before = commit_of(find_local("registry/base"))
    next(base.backbone.parameters()).data += 1
    push(save(base, tmp_path / "base"), "registry/base", probe=False)
    now = commit_of(find_local("registry/base"))
    with pytest.raises(MgzooError) as caught:
        mgzoo.train(recipe, "again", resume=True)
    assert str(caught.value) == (
        f"again/recipe.lock.json: registry/base is now at {now}; the run started with registry/base@{before}\n"
        "    -> restore it, start a new run, or accept the changes: --accept-changes"
    )


def test_it_learns_what_the_base_lacks(toy, tmp_path):
    """And the base's own dropout is not at work: the first loss is the base's."""
    _, model = toy.job(tmp_path / "run", steps=150, batch=32, lr=3e-2, ema=0.9)
    losses = [line["loss"] for line in told(tmp_path / "run")]
    assert sum(losses[-10:]) / 10 < 0.75 * losses[0]
    assert not any(module.training for module in model.backbone.modules())
