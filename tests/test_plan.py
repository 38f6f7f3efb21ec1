"""What a recipe costs: against the ZeRO paper, the Movie Gen paper, and arithmetic done here."""

import json
import os
import subprocess
import sys

import pytest

from mgzoo import plan as plans
from mgzoo.artifact.manifest import FileEntry, Manifest, PartEntry
from mgzoo.contracts import contract_of
from mgzoo.discovery import discover
from mgzoo.formatting import format_bytes, format_count
from mgzoo.plan import Memory, PartFigures, Plan, StageFigures, WeightsFigures, memory, plan
from mgzoo.recipe.compose import compose, recipe_names
from mgzoo.recipe.schema import Ema, Train

PAPER_30B = 29_303_513_088
NO_AVERAGE = Train(ema=Ema(decay=0))

SMALL = """\
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, frozen: true}
  encoders:
    text: {use: encoders.bytes.v1, config: {size: tiny}}
  backbone: {use: backbones.llama3.v1, config: {size: tiny}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.linear_quadratic.v1}
  task: {use: video.text_to_video.v1, config: {frames: 16, height: 64, width: 64}}
data: {use: video.clips.v1, config: {path: clips, frames: 16, height: 64, width: 64}}
train: {batch: 64}
stages:
  - {name: t2i, steps: 400, set: {data.config.frames: 1}}
  - {name: t2v, steps: 3000}
"""


@pytest.fixture
def small(tmp_path):
    """Composes SMALL with overrides."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return lambda *overrides: compose(path, overrides)


def row(rows, zero, offload=False):
    return next(r for r in rows if (r.zero, r.offload) == (zero, offload))


def test_memory_is_the_zero_papers():
    """ZeRO (Rajbhandari et al. 2020), figure 1: 7.5 B parameters on 64 ranks, K = 12."""
    rows = memory(7_500_000_000, 0, 64, NO_AVERAGE)
    assert [round(row(rows, zero).device / 1e9, 1) for zero in range(4)] == [120.0, 31.4, 16.6, 1.9]


def test_offload_moves_what_it_says_and_loses_nothing():
    rows = memory(1000, 100, 4, NO_AVERAGE, activations=7)
    for zero in (1, 2, 3):
        stays, moves = row(rows, zero), row(rows, zero, offload=True)
        gradients_for_the_host = 4 * 1000 / 4
        assert stays.device + gradients_for_the_host == moves.device + moves.host
        assert stays.host == 0
    assert row(rows, 2, offload=True).device == 2 * 1000 + 2 * 1000 / 4 + 2 * 100 + 7
    assert row(rows, 3, offload=True).device == 2 * 1000 / 4 + 2 * 100 + 7
    assert not any(r.zero == 0 and r.offload for r in rows)


def test_average_and_precision_count():
    assert row(memory(1000, 0, 1, Train()), 0).device == 20 * 1000
    assert row(memory(1000, 0, 1, NO_AVERAGE), 0).device == 16 * 1000
    assert row(memory(1000, 0, 1, Train(ema=Ema(decay=0), precision="fp32")), 0).device == 20 * 1000
    assert row(memory(1000, 10, 8, Train()), 1).optimizer == 16 * 1000 / 8


def test_buffers_of_a_cpu_are_narrower():
    """Gradients travel there as they are: no float32 copies of a bucket, in stage 3 one sorted by rank."""
    buffers = lambda device, **train: [row(memory(1000, 0, 2, Train(**{"precision": "bf16", **train}), bucket=100, device=device), zero, True).buffers for zero in (1, 2, 3)]
    assert buffers("cuda") == [400, 600, 200 + 400 + 400 + 2000]
    assert buffers("cpu") == [0, 200, 200 + 200 + 2000]
    assert buffers("cpu", precision="fp32") == buffers("cuda", precision="fp32") == [0, 400, 400 + 400 + 4000]


@pytest.fixture(scope="module")
def thirty():
    return plan(compose("movie_gen/t2v_30b"), gpus=6144)


def test_the_30b_recipe_is_the_papers(thirty):
    backbone = next(p for p in thirty.parts if p.name == "backbone")
    assert backbone.parameters == PAPER_30B
    assert [p.name for p in thirty.parts if p.trained] == ["backbone"]
    largest = max(thirty.stages, key=lambda s: s.tokens)
    assert (largest.size, largest.latent, largest.tokens) == ((256, 768, 768), (32, 96, 96), 73_728)
    assert largest.condition_tokens == 512 + 128 + 256
    images = thirty.stages[0]
    assert (images.size, images.tokens) == ((1, 256, 256), 256)


def test_flops_of_the_30b_step(thirty):
    """2 FLOPs per weight and token (keys and values of the text aside), 4 d per pair of tokens and layer: within 1 %."""
    largest = max(thirty.stages, key=lambda s: s.tokens)
    n, d, layers, text = 73_728, 6144, 48, 896
    per_token = 2 * layers * (6 * d * d + 3 * d * 16384) + 4 * d * layers * (n + text)
    assert largest.forward_trained == pytest.approx(per_token * n, rel=0.01)
    assert largest.step_flops == largest.batch * (3 * largest.forward_trained + largest.forward_frozen)


def test_memory_of_the_30b_stage(thirty):
    largest = max(thirty.stages, key=lambda s: s.tokens)
    three = row(largest.memory, 3)
    assert (three.weights, three.gradients) == (2 * PAPER_30B / 6144,) * 2
    assert three.optimizer == 16 * PAPER_30B / 6144
    frozen = 2 * largest.frozen_parameters
    assert three.device == three.weights + three.gradients + three.optimizer + three.buffers + frozen + largest.activations_checkpointed
    assert three.buffers == (2 + 4 + 4) * 50_000_000 + 2 * 1_000_000_000  # a bucket and its float32 copies, gathered weights
    assert row(largest.memory, 0).weights == 2 * PAPER_30B
    one_layer = largest.activations / 48
    assert largest.activations_checkpointed == pytest.approx(2 * 48 * 73_728 * 6144 + one_layer, rel=1e-6)
    assert thirty.checkpoint == 18 * PAPER_30B
    assert thirty.artifact == 2 * PAPER_30B


def test_a_batch_that_ranks_cannot_share_is_noted():
    recipe = compose("movie_gen/t2v_30b")
    batches = [recipe.at_stage(i).train.batch for i in range(len(recipe.stages))]
    assert plan(recipe, gpus=1).notes == ()
    (note,) = plan(recipe, gpus=7 * max(batches)).notes
    assert note.startswith(f"train.batch must be a multiple of {7 * max(batches):,} ranks x train.micro_batch; it is not in ")
    assert all(stage.name in note for stage in recipe.stages)


def test_stages_and_overrides_change_the_plan(small):
    short, long = (plan(small(f"data.config.frames={frames}")) for frames in (8, 16))
    assert [s.tokens for s in long.stages] == [16, 32] and [s.tokens for s in short.stages] == [16, 16]
    assert long.stages[1].forward_trained > short.stages[1].forward_trained
    frozen = plan(small("parts.encoders.text.frozen=true"))
    assert [p.name for p in frozen.parts if p.trained] == ["backbone"]
    assert frozen.stages[0].trained_parameters < long.stages[0].trained_parameters


def test_an_autoencoder_is_trained_where_there_is_no_backbone():
    answer = plan(compose("movie_gen/tae"))
    assert [p.name for p in answer.parts if p.trained] == ["autoencoder"]
    (stage,) = answer.stages
    encode = compose("movie_gen/tae").parts["autoencoder"].config.flops(*stage.size)
    assert (stage.forward_trained, stage.forward_frozen, stage.tokens) == (2 * encode, 0, None)
    critic = plan(compose("movie_gen/tae", ["parts.task.config.adversarial=0.1"]))
    assert [p.name for p in critic.parts if p.trained] == ["autoencoder", "task"]


@pytest.mark.parametrize("name", sorted(recipe_names()))
def test_closed_forms_equal_the_build_of_every_shipped_recipe(name):
    """On the meta device: 30 billion parameters take no memory."""
    import torch

    recipe = compose(name)
    if not any(part.adapter for part in recipe.parts.values()):  # what is adapted was trained with the weights of all
        made_for = [f"parts.{role}.weights=null" for role, part in recipe.parts.items() if part.weights]
        recipe = compose(name, made_for)
    wires, registry = contract_of(recipe), discover()
    for figures in plan(recipe).parts:
        part = recipe.parts[figures.name]
        if figures.use.startswith("adapter"):
            continue  # held against the build by tests/test_adapters.py
        extra = {
            "backbone": {"latent": wires.latent, "conditions": wires.conditions, "concat_channels": wires.concat_channels},
            "encoder": {"name": figures.name.split(".")[-1]},
        }.get(part.kind, {})
        with torch.device("meta"):
            built = registry.build_class(part.component.id)(part.config, **extra)
        assert sum(p.numel() for p in built.parameters()) == figures.parameters, figures.name


def test_weights_on_this_machine_are_measured(tmp_path):
    entries = {
        "autoencoder/model-00001-of-00002.safetensors": FileEntry(size=300, blake3="0" * 64),
        "autoencoder/model-00002-of-00002.safetensors": FileEntry(size=40, blake3="1" * 64),
        "sample.mp4": FileEntry(size=7, blake3="2" * 64),
    }
    autoencoder = PartEntry(use="autoencoders.tae.v1", weights=tuple(entries)[:2])
    content = Manifest(mgzoo="0.1.0", license="mit", parts={"autoencoder": autoencoder}, files=entries)
    (tmp_path / "mgzoo.json").write_text(content.to_json())
    here = plans._weights("autoencoder", str(tmp_path))
    assert here == WeightsFigures(part="autoencoder", ref=str(tmp_path), disk=340, download=0)


def test_weights_that_are_not_here_are_unknown(small):
    answer = plan(small("parts.autoencoder.weights=nobody/nothing@v1"))
    assert WeightsFigures(part="autoencoder", ref="nobody/nothing@v1", disk=None, download=None) in answer.weights
    assert "nobody/nothing@v1" in answer.render()


def test_fewer_than_one_rank_is_refused(small):
    with pytest.raises(ValueError, match="gpus must be at least 1, got 0"):
        plan(small(), gpus=0)


def test_planning_imports_no_torch():
    code = (
        "import sys; from mgzoo.recipe.compose import compose; from mgzoo.plan import plan; "
        "answer = plan(compose('movie_gen/t2v_30b'), 6144); answer.render(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


def test_the_answer_is_json(thirty):
    again = json.loads(json.dumps(thirty.to_dict()))
    assert again["gpus"] == 6144
    assert again["stages"][-1]["memory"][0]["zero"] == 0


@pytest.mark.parametrize(
    "value, unit, text",
    [
        (None, "", "unknown"),
        (0, "", "0"),
        (999, "", "999"),
        (29_303_513_088, "", "29.30 B"),
        (20_137_728, "", "20.14 M"),
        (10.24e15, "FLOP", "10.24 PFLOP"),
        (1_500_000_000, "FLOP", "1.50 GFLOP"),
        (5e29, "FLOP", "500000.00 YFLOP"),
    ],
)
def test_counts_are_short(value, unit, text):
    assert format_count(value, unit) == text


@pytest.mark.parametrize(
    "value, text", [(None, "unknown"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (80 * 2**30, "80.0 GiB")]
)
def test_bytes_are_short(value, text):
    assert format_bytes(value) == text


def test_text_for_the_terminal():
    stage = StageFigures(
        name="t2v", steps=3000, batch=64, micro=32, sizes=2, size=(16, 64, 64), latent=(2, 8, 8), tokens=32, condition_tokens=64,
        trained=("backbone",), trained_parameters=20_000_000, frozen_parameters=None, forward_trained=1_500_000_000,
        forward_frozen=None, step_flops=None, activations=4096, activations_checkpointed=1024,
        memory=(
            Memory(zero=1, offload=False, weights=1024, gradients=1024, optimizer=2048, buffers=512, device=8704, host=0),
            Memory(zero=1, offload=True, weights=1024, gradients=1024, optimizer=2048, buffers=0, device=6144, host=3072),
        ),
    )  # fmt: skip
    answer = Plan(
        recipe="tiny/emoji_t2v", gpus=2, device="cuda", precision="bf16", zero=0, offload=False, keep=2, checkpoint=360_000_000, artifact=None, stages=(stage,),
        parts=(
            PartFigures(name="autoencoder", use="autoencoders.tae.v1", parameters=None, trained=False),
            PartFigures(name="backbone", use="backbones.llama3.v1", parameters=20_000_000, trained=True),
        ),
        weights=(WeightsFigures(part="autoencoder", ref="registry/tae-emoji@v1", disk=2**20, download=0),), notes=("look here",),
    )  # fmt: skip
    assert answer.render() == TEXT


TEXT = """\
tiny/emoji_t2v on 2 ranks (GPU, bf16)

parameters
  autoencoder  autoencoders.tae.v1  frozen   unknown
  backbone     backbones.llama3.v1  trained  20.00 M
  total                             trained  20.00 M
  total                             frozen   unknown

compute: forward pass of one sample, trained and frozen parts; training step = 3 x trained + frozen, x batch
  stage  steps  batch                    size   tokens     trained   frozen     step  stage total
  t2v    3,000     64  16x64x64, largest of 2  32 + 64  1.50 GFLOP  unknown  unknown      unknown

memory per rank, stage t2v: 32 samples per micro-batch
  ZeRO  offload  weights  gradients  optimiser  buffers  on device  on host
  1 *   no       1.0 KiB    1.0 KiB    2.0 KiB    512 B    8.5 KiB      0 B
  1     yes      1.0 KiB    1.0 KiB    2.0 KiB      0 B    6.0 KiB  3.0 KiB
  * as the recipe has it (0 is run as 1); on device includes 4.0 KiB of frozen parts and activations
  activations of the backbone, estimated: 4.0 KiB, or 1.0 KiB with checkpointing

disk and downloads
  autoencoder  registry/tae-emoji@v1    1.0 MiB  here
  checkpoint   each, 2 kept           343.3 MiB
  artifact     trained parts            unknown

note: look here
"""


def test_the_plan_counts_what_would_be_used(monkeypatch):
    """``auto`` is bf16 on GPUs, and on a CPU what that CPU computes; an explicit precision stays."""
    recipe = compose("tiny/circle")
    weights = {}
    for said, device in (("fp32", "cpu"), ("bf16", "cpu"), ("fp32", "cuda")):
        monkeypatch.setenv("MGZOO_PRECISION", said)
        answer = plan(recipe, device=device)
        weights[said, device] = answer.precision, answer.stages[0].memory[0].weights
    assert weights["fp32", "cpu"][0] == "fp32" and weights["bf16", "cpu"][0] == weights["fp32", "cuda"][0] == "bf16"
    assert weights["fp32", "cpu"][1] == 2 * weights["bf16", "cpu"][1] == 2 * weights["fp32", "cuda"][1]
    monkeypatch.setenv("MGZOO_PRECISION", "bf16")
    assert plan(compose("tiny/circle", ["train.precision=fp32"]), device="cpu").precision == "fp32"
