"""The verbs that do something, in the order in which a person uses them, on the smallest real model."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgzoo.cli import run
from mgzoo.cli.generate import _progress

ROOT = Path(__file__).resolve().parents[1]
RECIPE = """\
schema: 1
description: smallest text to video
seed: 0
parts:
  autoencoder: {use: autoencoders.tae.v1, config: {size: tiny}, frozen: true}
  encoders:
    text: {use: encoders.bytes.v1, config: {size: tiny}}
  backbone: {use: backbones.llama3.v1, config: {size: tiny}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2, guidance: 2.0}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 32, width: 32, fps: 8.0}}
data: {use: video.clips.v1, config: {path: data/emoji64, frames: 8, height: 32, width: 32, license: mit}}
train: {batch: 4, micro_batch: 4, lr: 1.0e-3, steps: 2, warmup: 1}
"""
FACE = ROOT / "data" / "persons_demo" / "woman.png"


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A run of two steps, made by the verb in a process of its own."""
    folder = tmp_path_factory.mktemp("circle")
    (folder / "tiny.yaml").write_text(RECIPE)
    done = subprocess.run(
        [sys.executable, "-m", "mgzoo", "train", str(folder / "tiny.yaml"), "train.log_every=1", "--out", str(folder / "run")],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "DS_ACCELERATOR": "cpu"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{folder / 'run' / 'artifact'}\n"
    return folder / "run"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path / "home"))
    return tmp_path


def said(capsys) -> str:
    return capsys.readouterr().out.strip()


def test_training_twice_into_one_folder_is_refused(trained, capsys):
    recipe = str(trained.parent / "tiny.yaml")
    assert run(["train", recipe, f"data.config.path={ROOT / 'data' / 'emoji64'}", "--out", str(trained)]) == 1
    assert "already contains a run" in capsys.readouterr().err


def test_show_a_run(trained, capsys):
    assert run(["show", str(trained), "--json"]) == 0
    shown = json.loads(said(capsys))
    assert shown["latest"] == "step-000002" and shown["last metrics"]["step"] == 2
    assert shown["parts"]["backbone"]["use"] == "backbones.llama3.v1" and shown["parts"]["backbone"]["trained"]


def test_generate_writes_what_the_name_says_and_says_where_it_came_from(trained, here, capsys):
    from mgzoo import media

    assert run(["generate", str(trained), "A rabbit, hopping", "--seed", "3"]) == 0
    assert said(capsys) == "a-rabbit-hopping.mp4"
    assert run(["generate", str(trained), "A rabbit, hopping", "--seed", "3", "--steps", "1", "--out", "still.png"]) == 0
    assert said(capsys) == "still.png"
    assert media.probe("a-rabbit-hopping.mp4")["frames"] == 8 and media.probe("still.png")["frames"] == 1
    assert run(["show", "a-rabbit-hopping.mp4", "--json"]) == 0
    embedded = json.loads(said(capsys))["embedded"]
    assert (embedded["prompt"], embedded["seed"], embedded["model"]) == ("A rabbit, hopping", 3, "run")
    assert embedded["recipe"]["parts"]["backbone"]["use"] == "backbones.llama3.v1"
    assert str(here) not in json.dumps(embedded) and str(trained) not in json.dumps(embedded)


def test_size_frames_and_rate_are_as_asked(trained, here, capsys):
    from mgzoo import media

    assert run(["generate", str(trained), "x", "--size", "48x32", "--frames", "5", "--fps", "4", "--steps", "1", "--guidance", "1"]) == 0
    assert {"frames": 5, "height": 32, "width": 48, "fps": 4.0}.items() <= media.probe(said(capsys)).items()


@pytest.mark.parametrize(
    "extra, message",
    [
        (["--size", "30x32"], "is not a multiple"),
        (["--task", "samplers.euler.v1"], "samplers.euler.v1 is a component of kind sampler, not a task"),
        (["--task", "video.text_to_vdeo.v1"], "did you mean video.text_to_video.v1"),
        (["--out", "a.png", "--frames", "2"], "a .png holds one frame, but --frames is 2"),
        (["--out", "a.wav"], "video.text_to_video.v1 generates video or image; a .wav file cannot hold that"),
            (["--source", "a.mp4"], "video.text_to_video.v1 has no option --source"),
            (["--sedd", "3"], "did you mean --seed?"),
            (["--task", "nothing"], "nothing is not a task"),
            (["--task", "personalize", "--reference", str(FACE)], "this model has no encoder for a reference picture"),
    ],
)
def test_a_request_that_cannot_be_met_is_told_and_leaves_no_file(trained, here, capsys, extra, message):
    assert run(["generate", str(trained), "x", "--steps", "1", *extra]) == 1
    out, err = capsys.readouterr()
    assert out == "" and message in err and "Traceback" not in err and list(here.iterdir()) == []


def test_another_task_keeps_the_models_size(trained, here, capsys):
    from mgzoo import media

    assert run(["generate", str(trained), "x", "--task", "video.text_to_video.v1", "--steps", "1"]) == 0
    assert media.probe(said(capsys))["frames"] == 8


def test_push_pull_verify_and_the_same_frames(trained, here, capsys):
    assert run(["push", str(trained), f"{here}/hub/tiny@v1"]) == 0
    name, _, commit = said(capsys).partition("@")
    assert name == f"{here}/hub/tiny" and len(commit) == 12
    assert run(["pull", f"{here}/hub/tiny@v1"]) == 0
    pulled = said(capsys)
    assert run(["verify", pulled]) == 0
    assert said(capsys) == f"{pulled}: OK"
    for model, out in ((str(trained), "a.png"), (pulled, "b.png")):
        assert run(["generate", model, "x", "--seed", "5", "--steps", "1", "--out", out]) == 0
    from mgzoo import media

    assert (media.read("a.png").video == media.read("b.png").video).all()


def test_verify_finds_a_flipped_bit(trained, here, capsys):
    import shutil

    shutil.copytree(trained / "artifact", here / "copy")
    weights = here / "copy" / "backbone" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert run(["verify", str(here / "copy")]) == 1
    assert "backbone/model.safetensors" in said(capsys)
    assert run(["generate", str(here / "copy"), "x"]) == 1
    assert "blake3" in capsys.readouterr().err


def test_a_lock_beside_the_recipe_is_held(trained, here, capsys):
    (here / "my.yaml").write_text((trained.parent / "tiny.yaml").read_text())
    assert run(["lock", "my.yaml"]) == 0
    assert run(["check", "my.yaml"]) == 0
    capsys.readouterr()
    assert run(["check", "my.yaml", "train.lr=1e-4"]) == 1
    assert "my.lock.json" in said(capsys)
    assert run(["train", "my.yaml", "train.lr=1e-4", "--out", "run"]) == 1
    assert "my.lock.json" in capsys.readouterr().err and not (here / "run").exists()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_goes_to_a_terminal_and_nowhere_else(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with _progress("sampling") as on_step:
        assert on_step is None
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with _progress("sampling") as on_step:
        on_step(1, 2)
    assert "sampling" in terminal.getvalue()
