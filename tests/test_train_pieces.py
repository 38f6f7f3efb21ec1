"""The pieces of training that need no engine: the DeepSpeed configuration, stages and rates, averages, checkpoints on disk."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mgzoo
from mgzoo.model import build, load, save
from mgzoo.recipe.compose import compose
from mgzoo.recipe.schema import Ema, Train, Zero
from mgzoo.spec import MgzooError
from mgzoo.train import checkpoint, cpu_adam, metrics_log
from mgzoo.train.checkpoint_averaging import average_checkpoints
from mgzoo.train.deepspeed_config import deepspeed_config
from mgzoo.train.ema import EMA
from mgzoo.train.gradients import micro_batches
from mgzoo.train.lr_schedule import learning_rate
from mgzoo.train.stages import StagePlan, plan_stages, stage_at

# the DeepSpeed configuration


def test_configuration_golden():
    assert deepspeed_config(Train(batch=64, precision="bf16"), Zero(stage=0), 2, "cpu") == {
        "train_batch_size": 64,
        "train_micro_batch_size_per_gpu": 32,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": True, "check_grad_overflow": False},
        "data_types": {},
        "communication_data_type": "bf16",
        "zero_optimization": {
            "stage": 1,
            "reduce_bucket_size": 50_000_000,
            "allgather_bucket_size": 50_000_000,
            "contiguous_gradients": True,
            "overlap_comm": False,
            "reduce_scatter": True,
            "use_multi_rank_bucket_allreduce": False,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }


def test_configuration_of_a_large_run_golden():
    made = deepspeed_config(Train(batch=64, micro_batch=2, max_grad_norm=0.5, precision="bf16"), Zero(stage=3, offload_optimizer=True, offload_parameters=True, reduce_bucket_size=7), 8, "cuda")
    assert made["zero_optimization"] == {
        "stage": 3,
        "reduce_bucket_size": 7,
        "allgather_bucket_size": 7,
        "contiguous_gradients": True,
        "overlap_comm": True,
        "stage3_param_persistence_threshold": 100_000,
        "stage3_prefetch_bucket_size": 7,
        "offload_optimizer": {"device": "cpu", "pin_memory": False},
        "offload_param": {"device": "cpu", "pin_memory": False},
    }
    assert (made["train_micro_batch_size_per_gpu"], made["gradient_accumulation_steps"], made["gradient_clipping"]) == (2, 4, 0.5)
    assert made["data_types"] == {"grad_accum_dtype": "fp32"}
    assert deepspeed_config(Train(batch=64, micro_batch=2, precision="fp32"), Zero(), 8, "cuda")["data_types"] == {}


def test_gradients_that_are_not_accumulated_travel_in_bfloat16_where_sums_are_float32_all_the_same():
    reduced = lambda world, device="cpu", **train: deepspeed_config(Train(**{"batch": 64, "precision": "bf16", **train}), Zero(), world, device)["communication_data_type"]
    assert [reduced(1), reduced(1, "cuda"), reduced(2)] == ["bf16"] * 3
    assert [reduced(2, "cuda"), reduced(2, micro_batch=16), reduced(1, micro_batch=32), reduced(2, precision="fp32")] == ["fp32"] * 4


@given(st.integers(1, 256), st.integers(1, 8), st.none() | st.integers(1, 64), st.integers(0, 3), st.sampled_from(["cpu", "cuda"]))
def test_configuration_is_plain_json_and_its_sizes_multiply(batch, world, micro, stage, device):
    train = Train(batch=batch, micro_batch=micro, precision="bf16")
    try:
        made = deepspeed_config(train, Zero(stage=stage), world, device)
    except MgzooError:
        assert batch % ((micro or max(1, batch // world)) * world)
        return
    assert json.loads(json.dumps(made)) == made
    assert made["train_batch_size"] == made["train_micro_batch_size_per_gpu"] * made["gradient_accumulation_steps"] * world


def test_a_batch_that_does_not_divide():
    with pytest.raises(MgzooError) as caught:
        micro_batches(Train(batch=32, micro_batch=5), 2)
    assert str(caught.value) == (
        "train.batch 32 is not divisible into micro-batches of 5 on 2 ranks\n    -> make train.batch a multiple of 10, or set train.micro_batch"
    )
    assert micro_batches(Train(batch=32), 4) == (8, 1) and micro_batches(Train(batch=32, micro_batch=2), 4) == (2, 4)


# stages and rates


def test_stages_of_a_recipe():
    recipe = mgzoo.compose(
        "tiny/tae_emoji",
        [
            "train.lr=0.004",
            "train.batch=4",
            "stages=[{name: a, steps: 3, set: {data.config.frames: 1}}, {name: b, steps: 5}, "
            "{name: c, steps: 7, set: {train.lr: 0.001, train.batch: 8}}, {name: d, steps: 2, set: {parts.autoencoder.frozen: true}}]",
        ],
    )
    made = plan_stages(recipe)
    assert [(p.index, p.name, p.start, p.end, p.lr_start, p.lr_end) for p in made] == [
        (0, "a", 0, 3, 0, 8),
        (1, "b", 3, 8, 0, 8),
        (2, "c", 8, 15, 8, 15),
        (3, "d", 15, 17, 15, 17),  # back at the recipe's own rate
    ]
    assert [p.train.lr for p in made] == [0.004, 0.004, 0.001, 0.004] and [p.train.batch for p in made] == [4, 4, 8, 4]
    assert [p.recipe.data.config.frames for p in made] == [1, 16, 16, 16]
    assert [sorted(p.frozen) for p in made] == [[], [], [], ["autoencoder"]]
    assert [stage_at(made, step).name for step in (0, 2, 3, 14, 15, 99)] == ["a", "a", "b", "c", "d", "d"]


def test_a_recipe_without_stages_is_one_span():
    (span,) = plan_stages(mgzoo.compose("tiny/tae_emoji", ["stages=[]", "train.steps=11"]))
    assert (span.name, span.start, span.end, span.lr_end) == ("train", 0, 11, 11)


def span(start=0, end=100, **train) -> StagePlan:
    return StagePlan(index=0, name="s", start=start, end=end, lr_start=start, lr_end=end, train=Train(**train), zero=Zero(), frozen=frozenset())


def test_rates():
    constant = span(lr=2.0, warmup=4)
    assert [learning_rate(constant, step) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    cosine = span(10, 50, lr=1.0, warmup=8, schedule="cosine", min_lr_ratio=0.1)
    rates = [learning_rate(cosine, step) for step in range(10, 50)]
    assert rates[7] == 1.0 and rates[-1] == pytest.approx(0.1) and sorted(rates[8:], reverse=True) == rates[8:]
    assert rates[8 + 15] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert [learning_rate(span(end=3, lr=1.0, warmup=0, schedule="cosine"), s) for s in (2, 50)] == pytest.approx([0.05, 0.05])


# averages


@given(st.sampled_from([0.5, 0.9, 0.999]), st.integers(1, 4), st.integers(1, 30))
def test_average_formula(decay, every, steps):
    weight = torch.zeros(1)
    kept, expected, n = EMA(Ema(decay=decay, every=every), [weight]), 0.0, 0
    for step in range(1, steps + 1):
        weight += step
        kept.update([weight], step)
        if step % every == 0:
            rate = min(decay**every, (1 + n) / (10 + n))
            expected, n = rate * expected + (1 - rate) * float(weight), n + 1
    assert float(kept.shards[0]) == pytest.approx(expected, rel=1e-5) and kept.updates == n


AUTOENCODER = """
schema: 1
description: a tiny autoencoder
parts:
  autoencoder:
    use: autoencoders.tae.v1
    config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0], attention: false}
  task: {use: autoencoders.reconstruct.v1}
"""


@pytest.fixture
def artifacts(tmp_path):
    """Three artifacts of one recipe: in float32, in bfloat16, in eight bits."""
    (tmp_path / "tae.yaml").write_text(AUTOENCODER)
    saved = []
    for seed, dtype in enumerate((torch.float32, torch.bfloat16, torch.int8)):
        model = build(compose(tmp_path / "tae.yaml", [f"seed={seed}"]))
        saved.append(save(model, tmp_path / str(seed), dtype=dtype, golden=False))
    return saved


def test_the_mean_of_several_models_is_of_what_loading_them_gives(artifacts, monkeypatch):
    mean = average_checkpoints(artifacts)
    loaded = [load(one, dtype=torch.float32).autoencoder.state_dict() for one in artifacts]
    assert list(mean) == ["autoencoder"] and mean["autoencoder"].keys() == loaded[0].keys()
    for key, value in mean["autoencoder"].items():
        expected = sum(state[key].double() for state in loaded) / 3
        assert value.dtype == torch.float32 and torch.allclose(value.double(), expected, atol=1e-6), key


def test_what_cannot_be_averaged_is_told(artifacts, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(AUTOENCODER.replace("[16, 16, 16, 16]", "[16, 16, 16, 32]"))
    with pytest.raises(MgzooError, match="autoencoder/.* differs in shape or is missing in some models"):
        average_checkpoints([artifacts[0], save(build(compose(other)), tmp_path / "wide", golden=False)])
    path = artifacts[1] / "autoencoder" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(MgzooError, match="digest|blake3"):
        average_checkpoints(artifacts)
    with pytest.raises(MgzooError, match="is not an artifact reference|is not an artifact|has no"):
        average_checkpoints([tmp_path / "empty"])


# checkpoints on disk


def write(folder, step, keep=2, text="x"):
    aside = checkpoint.begin_checkpoint(folder, step)
    (aside / "engine").mkdir()
    (aside / "engine/a.pt").write_text(text)
    return checkpoint.commit_checkpoint(aside, step, keep)


def test_the_newest_are_kept_and_pointed_to(tmp_path):
    for step in (8, 9, 10, 1_000_000):
        write(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-000010", "step-1000000"]
    assert checkpoint.latest_intact(tmp_path).name == checkpoint.latest(tmp_path).name == "step-1000000"
    write(tmp_path, 500)  # a run that went on from an older one leaves what came after it
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-000010", "step-000500"]


def test_what_was_not_pointed_to_does_not_count(tmp_path):
    write(tmp_path, 1)
    shutil.copytree(write(tmp_path, 2), tmp_path / "step-000003")
    assert checkpoint.latest_intact(tmp_path).name == "step-000002"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "engine/a.pt").write_text("y"), "engine/a.pt does not match its digest"),
        (lambda folder: (folder / "engine/a.pt").write_text("xx"), "engine/a.pt has 2 bytes instead of 1"),
        (lambda folder: (folder / "engine/a.pt").unlink(), "engine/a.pt is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff"), "manifest.json cannot be read"),
    ],
)
def test_damage_is_seen(tmp_path, capsys, harm, said):
    write(tmp_path, 1)
    last = write(tmp_path, 2)
    assert checkpoint.find_damage(last) is None
    harm(last)
    assert checkpoint.find_damage(last) == said
    assert checkpoint.latest_intact(tmp_path).name == "step-000001"
    assert capsys.readouterr().err == f"! checkpoint step-000002 is damaged ({said}): using the previous one\n"


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(MgzooError), checkpoint.disk_full_guard(tmp_path, checkpoint.begin_checkpoint(tmp_path, 7), 7), open("/dev/full", "w", buffering=1) as full:
        full.write("much\n")
    with pytest.raises(PermissionError), checkpoint.disk_full_guard(tmp_path, checkpoint.begin_checkpoint(tmp_path, 8), 8):
        raise PermissionError("not a full disk")
    assert list(tmp_path.iterdir()) == []


# what a run says


def test_the_metrics_log_is_cut_where_the_run_went_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in range(1, 6):
        metrics_log.append_entry(path, {"step": step, "loss": 1 / step})
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    metrics_log.truncate_log(path, 3)
    assert [line["step"] for line in metrics_log.read_log(path)] == [1, 2, 3]
    metrics_log.truncate_log(tmp_path / "absent.jsonl", 3)
    assert not (tmp_path / "absent.jsonl").exists()


def test_mgzoo_train_can_be_called_and_imported(tmp_path):
    from mgzoo.train import train

    assert callable(mgzoo.train) and callable(train)
    with pytest.raises(AttributeError, match="stages"):
        mgzoo.train(None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_without_data_or_task_cannot_be_trained(tmp_path):
    for overrides, missing in ((["data=null"], "data"), (["data=null", "parts.task=null"], "parts.task and data")):
        with pytest.raises(MgzooError, match=f"nothing can be trained without {missing}\n"):
            mgzoo.train(mgzoo.compose("tiny/tae_emoji", overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_freed_memory_is_kept_for_the_next_tensor():
    """Without it glibc maps a large tensor anew each time, and the kernel fills it page by page."""
    code = """
import resource, torch
from mgzoo.train import distributed
def faults():
    for _ in range(40):  # until the pieces have found their places
        torch.ones(10**7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10**7)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), distributed.keep_freed_memory(), faults())
"""
    before, kept, after = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    if kept == "False":
        pytest.skip("no glibc")
    assert int(after) < 10 < int(before)


def test_the_lock_of_a_killed_build_is_removed_and_that_of_a_running_one_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = tmp_path / "py311_cpu" / "cpu_adam" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with cpu_adam.build_lock():
        pass
    assert lock.exists() and f"if there is none, remove {lock}" in capsys.readouterr().err
    os.utime(lock, (0, 0))
    with cpu_adam.build_lock():
        pass
    assert not lock.exists() and "of a killed build" in capsys.readouterr().err


def test_the_lock_of_our_own_killed_build_is_removed_at_once(tmp_path, monkeypatch, capsys):
    """A process that dies while it builds leaves torch's lock, and a line in ours; the next one waits for neither."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = tmp_path / "cpu_adam" / "lock"
    lock.parent.mkdir()
    dies = f"import os, pathlib\nfrom mgzoo.train import cpu_adam\nwith cpu_adam.build_lock():\n    pathlib.Path({str(lock)!r}).touch()\n    os._exit(9)"
    assert subprocess.run([sys.executable, "-c", dies]).returncode == 9 and lock.exists()
    with cpu_adam.build_lock():
        assert not lock.exists() and capsys.readouterr().err.startswith(f"! removed {lock} of a killed build\n")
        waits = "from mgzoo.train import cpu_adam\nwith cpu_adam.build_lock():\n    print('in')"
        other = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert other.stderr.readline() == "waiting for another process to build DeepSpeed's CPUAdam\n"
        assert other.poll() is None
    assert other.communicate()[0] == "in\n" and other.returncode == 0


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_wait_for_anothers_build_ends_with_the_signal(tmp_path, monkeypatch, number, status):
    """A run holds signals back until its step is done; while it waits there is none, and a build may take minutes."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    waits = "from mgzoo.train import cpu_adam, interrupt\nwith interrupt.Interrupt(print):\n    with cpu_adam.build_lock():\n        print('in')"
    with cpu_adam.build_lock():
        other = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while "waiting for another process" not in other.stderr.readline():
            pass
        other.send_signal(number)
        assert other.communicate(timeout=60)[0] == "" and other.returncode == status


def test_the_ninja_beside_this_python_is_used_whatever_the_path_holds(tmp_path, monkeypatch):
    """Two versions of ninja that take turns would build DeepSpeed's operators anew each time."""
    other = tmp_path / "ninja"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    python = tmp_path / "environment" / "bin" / "python"
    monkeypatch.setattr(cpu_adam.sys, "executable", str(python))
    cpu_adam.use_own_ninja()
    assert shutil.which("ninja") == str(other)  # there is none beside that Python
    own = python.parent / "ninja"
    own.parent.mkdir(parents=True)
    shutil.copy(other, own)
    cpu_adam.use_own_ninja()
    cpu_adam.use_own_ninja()
    assert shutil.which("ninja") == str(own) and os.environ["PATH"].split(os.pathsep) == [str(own.parent), str(tmp_path)]


def test_each_environment_builds_in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Two that take turns in torch's one folder compile for two minutes each time."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setattr("torch.utils.cpp_extension.get_default_build_root", lambda: str(tmp_path / "torch_extensions"))
    roots = []
    for prefix in ("/one", "/two", "/one"):
        monkeypatch.setattr(cpu_adam.sys, "prefix", prefix)
        roots.append(cpu_adam.build_root())
        assert os.environ["TORCH_EXTENSIONS_DIR"] == str(roots[-1])  # torch builds there too
        monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    assert roots[0] == roots[2] != roots[1] and roots[0].parent == tmp_path / "torch_extensions"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "mine"))
    assert cpu_adam.build_root() == tmp_path / "mine"


def test_that_it_compiles_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    with cpu_adam.build_lock():
        assert capsys.readouterr().err == "compiling DeepSpeed's CPU optimizer, once, about two minutes\n"
        (tmp_path / "cpu_adam").mkdir()
        (tmp_path / "cpu_adam/cpu_adam.so").touch()
    with cpu_adam.build_lock():
        assert capsys.readouterr().err == ""
