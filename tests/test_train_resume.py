"""Laws of going on: what begins anew at a resume begins at what was trained, and what the checkpoint does not hold is what the recipe says."""

from __future__ import annotations

import importlib.util
import inspect
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mgzoo
from mgzoo import cli
from mgzoo.recipe.lock import lock_recipe
from mgzoo.spec import MgzooError
from mgzoo.train import metrics_log

torch.set_num_threads(1)


def _toy():
    spec = importlib.util.spec_from_file_location("toy_training", Path(__file__).with_name("toy_training.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = _toy()


def weights(folder: Path) -> dict:
    return load_file(folder / "artifact" / "toy.safetensors")


def same(first: Path, second: Path) -> bool:
    return (first / "artifact/toy.safetensors").read_bytes() == (second / "artifact/toy.safetensors").read_bytes()


@pytest.fixture(scope="module")
def six(tmp_path_factory) -> Path:
    """Runs of six steps without an average, one for each ZeRO stage, and one with it."""
    root = tmp_path_factory.mktemp("six")
    for stage in (1, 2, 3):
        toy.job(root / f"zero{stage}", steps=6, ema=0.0, stage=stage)
    toy.job(root / "averaged", steps=6, ema=0.9)
    return root


# the average


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_average_switched_on_at_a_resume_begins_at_what_was_trained(six, tmp_path, stage):
    """With no step left the artifact is what it was; after one update it is a tenth of that and nine tenths of what came next."""
    before = six / f"zero{stage}"
    shutil.copytree(before, tmp_path / "none")
    toy.job(tmp_path / "none", steps=6, ema=0.99, stage=stage, resume=True)
    assert same(before, tmp_path / "none")
    assert any((value - toy.Model().state_dict()[key.replace("/", ".")]).abs().max() > 1e-3 for key, value in weights(before).items())
    shutil.copytree(before, tmp_path / "plain")
    shutil.copytree(before, tmp_path / "averaged")
    toy.job(tmp_path / "plain", steps=7, ema=0.0, stage=stage, resume=True)
    toy.job(tmp_path / "averaged", steps=7, ema=0.99, stage=stage, resume=True)
    old, new = weights(before), weights(tmp_path / "plain")
    for key, value in weights(tmp_path / "averaged").items():
        assert torch.allclose(value, 0.1 * old[key] + 0.9 * new[key], atol=1e-7) or "seen" in key, key


def test_an_average_that_took_nothing_in_is_not_kept_instead_of_the_weights(six, tmp_path):
    """Steps between updates beyond the run: the artifact holds what was trained, and going on is not seen in it."""
    toy.job(tmp_path / "rare", steps=6, ema=0.9, every=100)
    assert same(tmp_path / "rare", six / "zero1")
    toy.job(tmp_path / "whole", steps=9, ema=0.9, every=8)
    toy.job(tmp_path / "broken", steps=5, ema=0.9, every=8)
    toy.job(tmp_path / "broken", steps=9, ema=0.9, every=8, resume=True)
    assert same(tmp_path / "broken", tmp_path / "whole") and not same(tmp_path / "whole", tmp_path / "rare")


def test_an_average_switched_off_and_on_again_forgets_what_it_was(six, tmp_path):
    shutil.copytree(six / "averaged", tmp_path / "run")
    toy.job(tmp_path / "run", steps=6, ema=0.0, resume=True)
    assert same(tmp_path / "run", six / "zero1")
    toy.job(tmp_path / "run", steps=8, ema=0.0, resume=True)
    toy.job(tmp_path / "run", steps=8, ema=0.9, resume=True)
    toy.job(tmp_path / "plain", steps=8, ema=0.0)
    assert same(tmp_path / "run", tmp_path / "plain")


def test_a_part_that_joins_in_a_later_stage_is_kept_as_it_was_trained(tmp_path):
    """The average's warm-up begins anew: with the memory of the stage before, it would keep the part near its first values."""
    plan = {"settings": [{}, {"batch": 16}], "frozen": [("backbone",), ()], "ema": 0.999}
    toy.job(tmp_path / "run", steps=12, **plan)
    toy.job(tmp_path / "plain", steps=12, **{**plan, "ema": 0.0})
    first, averaged, plain = toy.Model().state_dict(), weights(tmp_path / "run"), weights(tmp_path / "plain")
    moved = lambda one: (one["backbone/into.weight"] - first["backbone.into.weight"]).norm()
    assert moved(averaged) > 0.5 * moved(plain) > 0


# the optimiser


@pytest.mark.parametrize("stage", [1, 3])
def test_the_optimiser_goes_on_with_the_betas_and_the_decay_of_the_recipe(six, tmp_path, stage):
    """They were what the checkpoint had: only the learning rate of the new recipe counted."""
    held = []

    class Listener:
        def mgzoo_step(self, run, step, metrics):
            held.append([(group["betas"], group["weight_decay"]) for group in engine().optimizer.param_groups])

        def mgzoo_saved(self, run, path): ...

    loops = []

    class Points(toy.Points):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            loops.append(next(frame.frame.f_locals["self"] for frame in inspect.stack() if type(frame.frame.f_locals.get("self")).__name__ == "Loop"))

    engine = lambda: loops[-1].engine
    shutil.copytree(six / f"zero{stage}", tmp_path / "run")
    toy.job(tmp_path / "run", steps=7, ema=0.0, stage=stage, resume=True, betas=(0.5, 0.6), weight_decay=0.7, stream=Points, hook=Listener())
    assert held == [[((0.5, 0.6), 0.7), ((0.5, 0.6), 0.0)]]


def test_a_decay_of_nothing_in_one_stage_is_none_in_the_next(tmp_path):
    for name, decays in (("both", (0.0, 5.0)), ("none", (0.0, 0.0))):
        toy.job(tmp_path / name, steps=4, settings=[{"weight_decay": decay} for decay in decays], ema=0.0)
    assert not same(tmp_path / "both", tmp_path / "none")


# what changed since the checkpoint


@pytest.mark.parametrize("stage", [1, 3])
def test_a_precision_that_is_another_is_said_and_gone_on_with(six, tmp_path, capsys, stage):
    """As where a run goes on on another machine: there and back, no weight is rounded where no step is done."""
    shutil.copytree(six / f"zero{stage}", tmp_path / "run")
    toy.job(tmp_path / "run", steps=7, ema=0.0, stage=stage, precision="bf16", resume=True)
    assert "! precision fp32 until step-000006, bf16 from here on" in capsys.readouterr().err
    kept = weights(tmp_path / "run")
    toy.job(tmp_path / "run", steps=7, ema=0.0, stage=stage, resume=True)
    assert "! precision bf16 until step-000007, fp32 from here on" in capsys.readouterr().err
    for key, value in weights(tmp_path / "run").items():
        assert torch.equal(value, kept[key]) or "seen" in key, key
    shutil.copytree(six / f"zero{stage}", tmp_path / "plain")
    toy.job(tmp_path / "plain", steps=7, ema=0.0, stage=stage, resume=True)
    for key, value in weights(tmp_path / "plain").items():
        assert torch.allclose(value, kept[key], atol=0.02) and value.dtype == kept[key].dtype, key
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["latest", "step-000006", "step-000007"]


def test_other_weights_that_learn_are_refused_before_anything_is_written(six, tmp_path):
    shutil.copytree(six / "averaged", tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(MgzooError) as caught:
        toy.job(tmp_path / "run", steps=8, ema=0.9, frozen=[("encoders.shift",)], resume=True)
    assert str(caught.value) == (
        f"{tmp_path}/run/checkpoints/step-000006: the trained weights differ from step-000006: encoders:shift.shift was trained, but is not now\n"
        "    -> resume with the original recipe (recipe.yaml of the run), or start a new run from the trained weights"
    )
    model = toy.Model()
    model.backbone.spare = torch.nn.Linear(4, 5)
    with pytest.raises(MgzooError, match=r"backbone.spare.weight was \[5, 3\] and is \[5, 4\]"):
        toy.job(tmp_path / "run", steps=8, ema=0.9, model=model, resume=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


@pytest.mark.parametrize("left", ["a file", "a damaged checkpoint", "a run that was never saved"])
def test_a_folder_without_a_checkpoint_is_not_trained_in_from_the_start(six, tmp_path, left, capsys):
    run, remedy = tmp_path / "run", "start without --resume, or set --out to the folder of a run"
    if left == "a file":
        run.mkdir()
        (run / "notes.txt").write_text("mine")
    else:
        shutil.copytree(six / "averaged", run)
        if left == "a damaged checkpoint":
            next((run / "checkpoints").glob("step-*/loop.json")).write_text("{")
            remedy = "start a new run in another --out"
        else:
            shutil.rmtree(run / "checkpoints")
    with pytest.raises(MgzooError) as caught:
        toy.job(run, steps=6, resume=True)
    assert str(caught.value) == f"{run}: no intact checkpoint to resume from\n    -> {remedy}"


# the plateau


def test_patience_that_was_not_asked_for_has_not_been_tried(tmp_path):
    """Validations without improvement are counted from the resume that asks for a plateau, not from long before."""
    still = {"lr": 1e-30, "warmup": 0, "validate_every": 1, "dropout": 0.0, "ema": 0.0}
    toy.job(tmp_path / "run", steps=6, **still)
    toy.job(tmp_path / "run", steps=10, plateau=3, resume=True, **still)
    rates = [line["lr"] for line in metrics_log.read_log(tmp_path / "run/metrics.jsonl") if "loss" in line]
    assert rates == pytest.approx([1e-30] * 9 + [5e-31], rel=1e-6)
    toy.job(tmp_path / "run", steps=12, plateau=3, resume=True, **{**still, "lr": 4e-30})
    rates = [line["lr"] for line in metrics_log.read_log(tmp_path / "run/metrics.jsonl") if "loss" in line]
    assert rates[-2:] == pytest.approx([4e-30] * 2, rel=1e-6)  # a new rate is not halved for what the old one did


# data, weights, settings


RECIPE = """
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, config: {widths: [16, 16, 16, 16], groups: 8, attention: false, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0]}}
  task: {use: autoencoders.reconstruct.v1}
data: {use: video.clips.v1, config: {path: pictures, frames: 1, height: 16, width: 16, license: mit}}
train: {batch: 2, precision: fp32, warmup: 0, log_every: 1, ema: {decay: 0}}
stages: [{name: one, steps: 1}, {name: two, steps: 2, set: {train.lr: 1.0e-4}}]
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run of three steps on four pictures; its recipe is r.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (60 * i, 90, 30)).save(tmp_path / f"pictures/{i}.png")
        (tmp_path / f"pictures/{i}.txt").write_text(f"picture {i}")
    (tmp_path / "r.yaml").write_text(RECIPE)
    mgzoo.train(mgzoo.compose("r.yaml"), "run")
    return tmp_path


def test_data_that_changed_since_the_checkpoint_is_refused_and_the_lock_stays(trained, capsys):
    lock, saved = (trained / "run/recipe.lock.json").read_text(), (trained / "run/recipe.yaml").read_text()
    (trained / "pictures/3.png").unlink()
    with pytest.raises(MgzooError) as caught:
        mgzoo.train(mgzoo.compose("r.yaml"), "run", resume=True)
    then, now = json.loads(lock)["data"]["pictures"], lock_recipe(mgzoo.compose("r.yaml"))["data"]["pictures"]
    assert str(caught.value) == (
        "run/recipe.lock.json: the data pictures have changed since the start of the run: "
        f"8 files, {then['bytes']} bytes, digest {then['digest'][:12]} then, 7 files, {now['bytes']} bytes, digest {now['digest'][:12]} now\n"
        "    -> restore it, start a new run, or accept the changes: --accept-changes"
    )
    assert (trained / "run/recipe.lock.json").read_text() == lock and (trained / "run/recipe.yaml").read_text() == saved
    assert not (trained / "run/changes.jsonl").exists()
    capsys.readouterr()
    assert cli.run(["train", "r.yaml", "stages.1.steps=3", "train.lr=0.01", "--out", "run", "--resume", "--accept-changes"]) == 0
    said = capsys.readouterr().err
    assert "! changed since the checkpoint: the data pictures have changed since the start of the run" in said
    assert "! changed since the checkpoint: train.lr 0.001 -> 0.01    (command line)\n" in said
    assert "! changed since the checkpoint: stages.1.steps 2 -> 3    (command line)\n" in said
    assert json.loads((trained / "run/recipe.lock.json").read_text())["data"]["pictures"] == now
    (noted,) = metrics_log.read_log(trained / "run/changes.jsonl")
    assert noted["step"] == 3 and noted["lock"]["data"]["pictures"] == then and len(noted["changed"]) == 3
    assert cli.run(["train", "r.yaml", "stages.1.steps=3", "train.lr=0.01", "--out", "run", "--resume"]) == 0  # saved with these
    assert "changed" not in capsys.readouterr().err


def test_what_a_desktop_leaves_and_settings_that_are_wanted_refuse_nothing(trained, capsys):
    (trained / "pictures/.DS_Store").write_text("x")
    (trained / "pictures/Thumbs.db").write_text("x")
    (trained / "r.yaml").write_text(RECIPE.replace("warmup: 0", "warmup: 1"))
    mgzoo.train(mgzoo.compose("r.yaml"), "run", resume=True)
    assert [line for line in capsys.readouterr().err.splitlines() if "changed" in line] == ["! changed since the checkpoint: train.warmup 0 -> 1    (r.yaml:7)"]


def test_a_crash_before_the_first_step_leaves_the_lock_and_the_log(trained, monkeypatch):
    """What is broken only shows when the checkpoint is loaded: the recipe of another model."""
    kept = {name: (trained / "run" / name).read_bytes() for name in ("recipe.lock.json", "recipe.yaml", "metrics.jsonl", "deepspeed.json")}
    with pytest.raises(MgzooError, match="the trained weights differ from step-000003"):
        mgzoo.train(mgzoo.compose("r.yaml", ["parts.autoencoder.config.widths=[16, 16, 16, 32]", "train.max_grad_norm=3"]), "run", resume=True)
    assert kept == {name: (trained / "run" / name).read_bytes() for name in kept}


def test_data_of_a_stage_is_pinned_too(trained):
    (trained / "more").mkdir()
    shutil.copy(trained / "pictures/0.png", trained / "more")
    recipe = mgzoo.compose("r.yaml", ["stages.1.set={data.config.path: more}"])
    assert list(lock_recipe(recipe)["data"]) == ["more", "pictures"]
