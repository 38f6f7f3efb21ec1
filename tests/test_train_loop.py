"""The training loop in one process: stages, averages, validation, and everything that can go wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mgzoo import hookimpl
from mgzoo.recipe.schema import Train, Zero
from mgzoo.spec import MgzooError
from mgzoo.train import checkpoint, distributed, metrics_log
from mgzoo.train.engine import gather_weights, start_engine, unwrap
from mgzoo.train.trainable import Trainable

torch.set_num_threads(1)


def _toy():
    spec = importlib.util.spec_from_file_location("toy_training", Path(__file__).with_name("toy_training.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = _toy()


def told(folder: Path, what: str = "loss") -> list:
    return [line[what] for line in metrics_log.read_log(folder / "metrics.jsonl") if what in line]


def weights(folder: Path) -> dict:
    return load_file(folder / "artifact" / "toy.safetensors")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


# what is learnt


def test_it_learns(tmp_path):
    run, model = toy.job(tmp_path / "run", steps=400, batch=32, validate_every=50, dropout=0.0, ema=0.98)
    held, losses = [entry["loss"] for entry in told(tmp_path / "run", "validation")], told(tmp_path / "run")
    assert held[-1] < 0.85 * held[0] and sum(losses[-20:]) / 20 < 0.5 * losses[0]
    assert run.steps == 400 and run.artifact == tmp_path / "run/artifact" and run.metrics["samples"] == 12_800
    assert run.metrics["held_out_loss"] == told(tmp_path / "run", "kept")[0]["loss"] < held[0]
    assert (model.task.started, model.task.finished) == (3, 16) and not model.backbone.training
    assert (tmp_path / "run/curve.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "run/deepspeed.json").read_text())["zero_optimization"]["stage"] == 1


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_accumulated_micro_batches_are_one_big_batch(tmp_path, stage, precision):
    for micro in (2, 8):
        toy.job(tmp_path / str(micro), micro_batch=micro, steps=6, dropout=0.0, task={"still": True}, stage=stage, precision=precision)
    near = {"fp32": 1e-6, "bf16": 4e-3}[precision]  # bf16: the gradient of a whole batch is rounded once, to 8 bits
    for what in ("loss", "grad_norm"):
        assert told(tmp_path / "2", what) == pytest.approx(told(tmp_path / "8", what), rel=near)
    assert told(tmp_path / "2") != pytest.approx([told(tmp_path / "2")[0]] * 6, rel=1e-3)


def test_masters_are_the_weights_as_given_not_their_rounding():
    rank_info, model = distributed.init_distributed(), toy.Model()
    exact = model.backbone.into.weight.detach().clone()
    for stage in (1, 2, 3):
        engine = start_engine(Trainable(model, ["backbone"]), Train(batch=8, precision="bf16"), Zero(stage=stage), rank_info)
        assert torch.equal(gather_weights(engine)["backbone.into.weight"], exact)
        unwrap(engine)
        assert model.backbone.into.weight.dtype == torch.float32 and torch.equal(model.backbone.into.weight, exact)
    assert not torch.equal(exact.bfloat16().float(), exact)


@pytest.mark.parametrize("stage", [1, 3])
def test_without_averaging_the_artifact_is_the_last_weights(tmp_path, stage):
    """One step more or less shows: the average of two steps is not the second."""
    toy.job(tmp_path / "raw", steps=2, dropout=0.0, ema=0.0, stage=stage)
    toy.job(tmp_path / "averaged", steps=2, dropout=0.0, ema=0.9, stage=stage)
    raw, averaged = weights(tmp_path / "raw"), weights(tmp_path / "averaged")
    start = toy.Model().backbone.into.weight
    # update 1 has decay 1/10, update 2 has 2/11: from the weights w0, w1, w2 to 2/11 (w0/10 + 9 w1/10) + 9 w2/11
    toy.job(tmp_path / "one", steps=1, dropout=0.0, ema=0.0, stage=stage)
    after_one, key = weights(tmp_path / "one")["backbone/into.weight"], "backbone/into.weight"
    expected = 2 / 11 * (start / 10 + 9 * after_one / 10) + 9 / 11 * raw[key]
    assert (averaged[key] - expected).abs().max() < 1e-7 < (averaged[key] - raw[key]).abs().max()


# stages


def test_stages_freeze_and_unfreeze(tmp_path):
    """Stage 1 freezes the backbone, at the average of stage 0; stage 2 trains it again, from there, in bigger batches."""
    plan = {"settings": [{}, {"precision": "bf16"}, {"batch": 16, "precision": "bf16"}], "frozen": [(), ("backbone",), ()], "steps": 4, "save_every": 2, "keep_checkpoints": 9}
    seen = []

    class Listener:
        def mgzoo_step(self, run, step, metrics):
            seen.append((step, metrics["stage"], model.backbone.into.weight.dtype, model.backbone.training))

        def mgzoo_saved(self, run, path):
            seen.append(path.name)

    model = toy.Model()
    toy.job(tmp_path / "run", model=model, hook=Listener(), **plan)
    assert seen[:2] == [(1, "stage0", torch.float32, True), (2, "stage0", torch.float32, True)] and seen[2] == "step-000002"
    assert (5, "stage1", torch.bfloat16, False) in seen and (9, "stage2", torch.bfloat16, True) in seen and seen[-1] == "artifact"
    at = {step: tmp_path / f"run/checkpoints/step-{step:06d}" for step in (4, 6, 10)}
    settled, average = load_file(at[6] / "settled.safetensors"), load_file(at[4] / "average.safetensors")
    assert torch.equal(settled["backbone/into.weight"], average["backbone.into.weight"])
    assert not any(key.startswith("backbone") for key in load_file(at[6] / "average.safetensors"))
    assert list(load_file(at[10] / "settled.safetensors")) == ["encoders.shift/seen"]  # a buffer, which no engine keeps for other ranks
    assert (load_file(at[10] / "average.safetensors")["backbone.into.weight"] - settled["backbone/into.weight"]).abs().max() > 1e-3
    lines = [line for line in metrics_log.read_log(tmp_path / "run/metrics.jsonl") if "loss" in line]
    assert lines[-1]["samples"] == 4 * 8 + 4 * 8 + 4 * 16

    for step in (6, 8):  # in the middle of the stage with the frozen part, and on the border to the next
        again = tmp_path / f"again{step}"
        (again / "checkpoints").mkdir(parents=True)
        os.rename(tmp_path / f"run/checkpoints/step-{step:06d}", again / f"checkpoints/step-{step:06d}")
        toy.job(again, resume=True, **plan)
        assert (again / "artifact/toy.safetensors").read_bytes() == (tmp_path / "run/artifact/toy.safetensors").read_bytes()


def test_a_part_at_rest_comes_back_unrounded(tmp_path):
    model = toy.Model()
    before = model.backbone.into.weight.detach().clone()
    toy.job(tmp_path / "run", model=model, frozen=[("backbone",)], precision="bf16", steps=3)
    assert torch.equal(model.backbone.into.weight, before) and model.encoders["shift"].shift.abs().max() > 0


def test_a_stage_that_trains_nothing_is_refused(tmp_path):
    with pytest.raises(MgzooError) as caught:
        toy.job(tmp_path / "run", settings=[{}, {}], frozen=[(), ("backbone", "encoders.shift")], steps=2)
    assert str(caught.value) == (
        "stage stage1 trains nothing: all trainable parts of the task are frozen\n    -> unfreeze one of backbone, encoders.shift"
    )
    assert not (tmp_path / "run").exists()


# learning rate


def test_the_rate_halves_when_validation_stalls(tmp_path):
    """Rates so small that nothing changes: every validation after the first is one without improvement."""
    toy.job(tmp_path / "run", steps=10, lr=1e-30, warmup=0, validate_every=1, plateau=3, dropout=0.0)
    assert told(tmp_path / "run", "lr") == pytest.approx([1e-30] * 4 + [5e-31] * 3 + [2.5e-31] * 3, rel=1e-6)
    assert len({entry["loss"] for entry in told(tmp_path / "run", "validation")}) == 1


def test_the_rate_stays_while_validation_improves(tmp_path):
    toy.job(tmp_path / "run", steps=12, lr=3e-3, warmup=0, validate_every=4, plateau=1, dropout=0.0, batch=32)
    assert set(told(tmp_path / "run", "lr")) == {3e-3}


# what goes wrong


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    with pytest.raises(MgzooError) as caught:
        toy.job(tmp_path / "run", save_every=4, task={"poison": 80})
    assert str(caught.value) == (
        f"{tmp_path}/run: the loss is nan at step 11 (flow nan): training stops\n"
        "    -> lower train.lr, or run with train.debug=true to find the part; last good checkpoint: step-000008"
    )
    toy.job(tmp_path / "run", save_every=4, resume=True)
    toy.job(tmp_path / "whole", save_every=4)
    assert (tmp_path / "run/artifact/toy.safetensors").read_bytes() == (tmp_path / "whole/artifact/toy.safetensors").read_bytes()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_stops_the_run_though_its_loss_is(tmp_path, precision, wrong):
    """DeepSpeed's own look for overflow is off: the norm that clipping needs is the check."""
    model = toy.Model()
    next(model.backbone.parameters()).register_hook(lambda gradient: gradient * wrong)
    with pytest.raises(MgzooError, match="the gradient norm is .* at step 1 .*training stops"):
        toy.job(tmp_path / "run", model=model, steps=2, precision=precision)
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))


def test_debug_names_the_part_that_went_wrong(tmp_path):
    with pytest.raises(MgzooError, match=r"the prepared batch has non-finite values \(shape \(8, 8\)\)"):
        toy.job(tmp_path / "data", task={"poison": 8}, debug=True)
    model = toy.Model()
    model.encoders["shift"].shift.data[3] = float("inf")
    with pytest.raises(MgzooError, match=r"^encoders.shift returned non-finite values \(shape \(8, 8\)\)"):
        toy.job(tmp_path / "part", model=model, debug=True)
    toy.job(tmp_path / "fine", debug=True, steps=2)


def test_a_folder_with_a_run_is_not_written_over(tmp_path):
    toy.job(tmp_path / "run", steps=1)
    with pytest.raises(MgzooError) as caught:
        toy.job(tmp_path / "run", steps=1)
    assert str(caught.value) == f"{tmp_path}/run: the folder already contains a run\n    -> continue with --resume, or choose another --out"


def test_resuming_what_is_done_makes_the_artifact_again(tmp_path):
    first, _ = toy.job(tmp_path / "run", steps=3)
    kept = (tmp_path / "run/artifact/toy.safetensors").read_bytes()
    (tmp_path / "run/artifact/toy.safetensors").unlink()
    again, model = toy.job(tmp_path / "run", steps=3, resume=True)
    assert (model.task.started, model.task.finished) == (0, 16)
    assert again.steps == first.steps == 3 and (tmp_path / "run/artifact/toy.safetensors").read_bytes() == kept


def test_a_damaged_checkpoint_is_passed_over(tmp_path, capsys):
    toy.job(tmp_path / "run", save_every=5, keep_checkpoints=9)
    whole = (tmp_path / "run/artifact/toy.safetensors").read_bytes()
    folder = tmp_path / "run/checkpoints"
    engine = next((folder / "step-000020/engine").glob("*optim_states.pt"))
    data = bytearray(engine.read_bytes())
    data[len(data) // 2] ^= 1
    engine.write_bytes(data)
    (folder / "step-000015/average.safetensors").unlink()
    (folder / "step-000010/loop.json").write_text("{")
    (folder / ".tmp-000021").mkdir()
    capsys.readouterr()
    toy.job(tmp_path / "run", save_every=5, keep_checkpoints=9, resume=True)
    assert capsys.readouterr().err.splitlines()[:4] == [
        f"! checkpoint step-000020 is damaged (engine/{engine.name} does not match its digest): using the previous one",
        "! checkpoint step-000015 is damaged (average.safetensors is missing): using the previous one",
        f"! checkpoint step-000010 is damaged (loop.json has 1 bytes instead of {checkpoint_size(folder, 'loop.json')}): using the previous one",
        "resuming from step-000005",
    ]
    assert (tmp_path / "run/artifact/toy.safetensors").read_bytes() == whole
    assert names(tmp_path / "run") == ["latest", "step-000005", "step-000010", "step-000015", "step-000020"]
    assert checkpoint.latest_intact(folder).name == "step-000020" and [line["step"] for line in metrics_log.read_log(tmp_path / "run/metrics.jsonl")] == list(range(1, 21))


def checkpoint_size(folder: Path, name: str) -> int:
    return json.loads((folder / "step-000010" / "manifest.json").read_text())["files"][name]["size"]


def test_no_whole_checkpoint_is_a_fresh_start(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    toy.job(tmp_path / "run", steps=1, resume=True)
    assert capsys.readouterr().err.splitlines()[0] == f"! no intact checkpoint in {tmp_path}/run: starting from step 0"


def test_zero_3_and_1_do_not_resume_each_other(tmp_path):
    toy.job(tmp_path / "run", steps=2)
    with pytest.raises(MgzooError) as caught:
        toy.job(tmp_path / "run", steps=4, stage=3, resume=True)
    assert str(caught.value) == (
        f"{tmp_path}/run/checkpoints/step-000002: step-000002 was saved with zero.stage 1 and cannot be resumed with 3\n    -> resume with zero.stage=1"
    )


@pytest.mark.parametrize("name", ["loop.json", "engine/mp_rank_00_model_states.pt"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, name):
    """/dev/full in the place of one file: the kernel's own ENOSPC while the second checkpoint is being saved."""

    class Full(toy.Points):
        def state_dict(self):
            for aside in (tmp_path / "run/checkpoints").glob(".tmp-000006-*"):
                (aside / name).parent.mkdir(exist_ok=True)
                (aside / name).symlink_to("/dev/full")
            return super().state_dict()

    with pytest.raises(MgzooError) as caught:
        toy.job(tmp_path / "run", save_every=3, steps=9, stream=Full)
    assert str(caught.value) == (
        f"{tmp_path}/run/checkpoints: the disk is full: the checkpoint of step 6 was not saved\n"
        "    -> free some space and continue with --resume; step-000003 is intact"
    )
    assert names(tmp_path / "run") == ["latest", "step-000003"]
    toy.job(tmp_path / "run", save_every=3, steps=9, resume=True)
    toy.job(tmp_path / "whole", save_every=3, steps=9)
    assert (tmp_path / "run/artifact/toy.safetensors").read_bytes() == (tmp_path / "whole/artifact/toy.safetensors").read_bytes()


def test_a_ctrl_c_saves_and_a_second_one_leaves_nothing_half_written(tmp_path, capsys):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job started in the background ignores it
    with pytest.raises(KeyboardInterrupt):
        toy.job(tmp_path / "run", interrupt={"4": "SIGINT"})
    assert names(tmp_path / "run") == ["latest", "step-000005"]
    assert "SIGINT: finishing this step and saving; Ctrl-C again stops now" in capsys.readouterr().err

    class Impatient(toy.Points):
        def state_dict(self):
            os.kill(os.getpid(), signal.SIGINT)
            return super().state_dict()

    with pytest.raises(KeyboardInterrupt):
        toy.job(tmp_path / "run", resume=True, interrupt={"8": "SIGINT"}, stream=Impatient)
    assert names(tmp_path / "run") == ["latest", "step-000005"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)
    toy.job(tmp_path / "run", resume=True)
    toy.job(tmp_path / "whole")
    assert (tmp_path / "run/artifact/toy.safetensors").read_bytes() == (tmp_path / "whole/artifact/toy.safetensors").read_bytes()


def test_hooks_are_called_by_the_plugins_relay(tmp_path):
    from mgzoo.discovery import plugin_manager

    heard = []

    class Plugin:
        @hookimpl
        def mgzoo_step(self, run, step, metrics):
            heard.append((step, run.folder, metrics["loss"] > 0))

        @hookimpl
        def mgzoo_saved(self, path):
            heard.append(path.name)

    manager = plugin_manager()
    manager.register(Plugin())
    toy.job(tmp_path / "run", steps=2, hook=manager.hook)
    assert heard == [(1, tmp_path / "run", True), (2, tmp_path / "run", True), "step-000002", "artifact"]


# precision


@pytest.mark.parametrize("here, other", [("bf16", "fp32"), ("fp32", "bf16")])
def test_auto_is_what_the_device_computes_and_a_run_goes_on_as_it_was_begun(tmp_path, monkeypatch, capsys, here, other):
    monkeypatch.setenv("MGZOO_PRECISION", here)
    toy.job(tmp_path / "run", steps=2, precision="auto")
    said = capsys.readouterr().err
    assert f"precision: {here} (MGZOO_PRECISION is set)" in said
    assert json.loads((tmp_path / "run/deepspeed.json").read_text())["bf16"]["enabled"] == (here == "bf16")
    assert json.loads((tmp_path / "run/checkpoints/step-000002/loop.json").read_text())["precision"] == here
    monkeypatch.setenv("MGZOO_PRECISION", other)
    toy.job(tmp_path / "run", steps=4, precision="auto", resume=True)
    assert f"precision: {here} (as at the start of the run" in capsys.readouterr().err
    monkeypatch.setenv("MGZOO_PRECISION", here)
    toy.job(tmp_path / "straight", steps=4, precision="auto")
    assert all(torch.equal(value, weights(tmp_path / "run")[key]) for key, value in weights(tmp_path / "straight").items())
    capsys.readouterr()
    toy.job(tmp_path / "told", steps=1, precision="fp32")
    assert "precision:" not in capsys.readouterr().err


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("before, after", [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_run_goes_on_in_another_precision_where_that_is_asked_for(tmp_path, stage, before, after):
    """Masters and moments are float32 in both, so the weights that a checkpoint holds are those that go on."""
    toy.job(tmp_path / "run", steps=6, stage=stage, precision=before, ema=0.0)
    kept = weights(tmp_path / "run")
    toy.job(tmp_path / "run", steps=6, stage=stage, precision=after, ema=0.0, resume=True)
    assert all(torch.equal(value, kept[key]) for key, value in weights(tmp_path / "run").items())
    toy.job(tmp_path / "run", steps=8, stage=stage, precision=after, ema=0.0, resume=True)
    assert not all(torch.equal(value, kept[key]) for key, value in weights(tmp_path / "run").items())
