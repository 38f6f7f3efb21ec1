"""A generated file says what made it, can be made again bit for bit, and is found out where it was changed."""

import dataclasses
import importlib.metadata
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from mgzoo import media, storage
from mgzoo.artifact.manifest import commit_of
from mgzoo.cli import run
from mgzoo.generation.record import GenerationRecord, read_record, task_problems, version_drift
from mgzoo.generation.request import input_digest, parse_request
from mgzoo.media import Media
from mgzoo.model.build import build
from mgzoo.model.load import load
from mgzoo.model.save import save
from mgzoo.recipe.compose import compose
from mgzoo.recipe.lock import lock_drift, lock_recipe, read_lock, write_lock
from mgzoo.share.describe import describe
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError, RequestOption

RECIPE = """
schema: 1
description: smallest text to video
parts:
  autoencoder:
    use: autoencoders.tae.v1
    config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0], attention: false}
  encoders:
    text: {use: encoders.bytes.v1, config: {width: 16, depth: 1, heads: 2, buckets: 32, max_len: 16}}
  backbone: {use: backbones.llama3.v1, config: {depth: 1, width: 32, heads: 2, ffn: 32, max_len: [4, 4, 4], frequency_dim: 16}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2, guidance: 2.0}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 32, width: 32, fps: 8.0}}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The artifact of an untrained model, in a folder called run."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "recipe.yaml").write_text(RECIPE)
    return save(build(compose(folder / "recipe.yaml")), folder / "run", golden=False)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path / "home"))
    return tmp_path


def said(capsys) -> str:
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize("name", ["again.mp4", "again.png"])
def test_from_a_file_the_same_file_is_made_again(model, here, capsys, name):
    words = ["generate", str(model), "a red heart", "--seed", "7", "--steps", "1", "--guidance", "3", "--out", name]
    assert run(words) == 0
    first = Path(name).read_bytes()
    (here / "runs").mkdir()
    (here / "runs" / "run").symlink_to(model)
    capsys.readouterr()
    assert run(["generate", "--from", name]) == 0
    second, err = capsys.readouterr()
    second = second.strip()
    assert second == name.replace(".", "-2.") and Path(second).read_bytes() == first and err == ""
    assert run(["generate", str(model), "--from", second, "--out", name]) == 0 and Path(name).read_bytes() == first
    assert run(["generate", "--from", name, "--seed", "8"]) == 2
    assert "--from takes all settings from the file: remove seed" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [str(2**53 + 1), str(2**64 - 1), "random"])
def test_every_seed_is_kept_whole_in_the_file_and_makes_it_again(model, here, capsys, seed):
    """Also those that a reader of JSON with 53 bits would round; one that is drawn is printed."""
    assert run(["generate", str(model), "a red heart", "--seed", seed, "--frames", "1", "--steps", "1", "--out", "a.png"]) == 0
    noted = [line for line in capsys.readouterr().err.splitlines() if line.startswith("seed: ")]
    number = int(noted[0].removeprefix("seed: ")) if seed == "random" else int(seed)
    assert len(noted) == (seed == "random") and read_record("a.png").request["seed"] == number
    assert run(["generate", str(model), "--from", "a.png", "--out", "b.png"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert run(["show", "a.png", "--json"]) == 0 and f'"seed": {number}' in capsys.readouterr().out


def test_seeds_from_python_are_whole_numbers_of_64_bits_or_random(model):
    asked = load(model)
    one, two = (asked.generate("x", frames=1, steps=1, seed="random") for _ in range(2))
    assert 0 <= one.meta["seed"] < 2**64 and one.meta["seed"] != two.meta["seed"]
    assert torch.equal(one.video, asked.generate("x", frames=1, steps=1, seed=one.meta["seed"]).video)
    assert not torch.equal(asked.generate("x", frames=1, steps=1, seed=2**32).video, asked.generate("x", frames=1, steps=1, seed=0).video)
    last, first = asked.generate(["x", "x"], frames=1, steps=1, seed=2**64 - 1)  # after the last comes 0
    assert (last.meta["seed"], first.meta["seed"]) == (2**64 - 1, 0) and torch.equal(first.video, asked.generate("x", frames=1, steps=1, seed=0).video)
    for wrong in (-1, 2**64, 1.0, "7", True):
        with pytest.raises(MgzooError, match="the seed is .*\n    -> give an integer from 0 to 18446744073709551615, or random"):
            asked.generate("x", frames=1, steps=1, seed=wrong)


def test_a_file_from_python_is_the_file_of_the_command_line(model, here):
    """Byte for byte, what is recorded in it included: `mgzoo verify` and `--from` read it."""
    assert run(["generate", str(model), "a red heart", "--seed", "7", "--steps", "1", "--out", "cli.mp4"]) == 0
    load(model).generate("a red heart", seed=7, steps=1).save("python.mp4")
    assert Path("python.mp4").read_bytes() == Path("cli.mp4").read_bytes()
    (here / "runs").mkdir()
    (here / "runs" / "run").symlink_to(model)
    assert verify("python.mp4") == []


def test_another_head_from_python_in_one_call_is_recorded_and_the_own_one_comes_back(model, here):
    Media(video=torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8), fps=8.0).save("in.mp4")
    loaded = load(model)
    own = loaded.task
    loaded.generate("a red heart", task="sdedit", source="in.mp4", steps=2).save("a.mp4")
    record = read_record("a.mp4")
    assert loaded.task is own and loaded.generate("x", steps=1).meta["request"] == {"prompt": "x", "steps": 1}
    assert record.task == {"id": "edit.sdedit.v1", "distribution": "mgzoo-edit", "version": "0.1.0"} and record.plugins["mgzoo-edit"] == "0.1.0"
    assert record.request["task"] == "edit.sdedit.v1" and record.request["source"]["file"] == "in.mp4"
    assert run(["generate", str(model), "--from", "a.mp4", "--out", "b.mp4"]) == 0
    assert Path("a.mp4").read_bytes() == Path("b.mp4").read_bytes()
    with pytest.raises(MgzooError, match="has trained weights|needs"):
        loaded.generate("x", task="edit.instruct.v1", source="in.mp4")
    assert loaded.task is own


def test_what_no_file_could_repeat_is_not_recorded(model, here):
    """Weights that were changed after loading, a model that was built, several prompts at once."""
    loaded = load(model)
    assert "model" in loaded.generate("x", steps=1).meta
    assert all("model" not in one.meta for one in loaded.generate(["x", "y"], steps=1))
    with torch.no_grad():
        next(loaded.backbone.parameters()).add_(0.01)
    assert "model" not in loaded.generate("x", steps=1).meta
    assert "model" not in build(compose(model / "recipe.yaml")).generate("x", steps=1).meta


def test_a_source_that_was_no_file_is_recorded_as_such(model, here, capsys):
    video = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
    load(model).generate("x", task="sdedit", source=Media(video=video, fps=8.0), steps=2).save("a.mp4")
    assert run(["generate", str(model), "--from", "a.mp4"]) == 1
    assert "the source was passed in memory, not as a file\n    -> give a file with the same content: --source FILE.mp4" in capsys.readouterr().err


def test_a_recipe_of_any_seed_is_built_and_locked(tmp_path):
    """Each gives other weights, and is read back from YAML and a lock as it was."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    weights = set()
    for seed in (0, 2**32, 2**53 + 1, 2**64 - 1):
        recipe = compose(tmp_path / "recipe.yaml", [f"seed={seed}"])
        (tmp_path / "again.yaml").write_text(recipe.to_yaml())
        assert recipe.seed == compose(tmp_path / "again.yaml").seed == seed
        assert not lock_drift(recipe, read_lock(write_lock(tmp_path / "a.lock.json", lock_recipe(recipe))), "a.lock.json")
        weights.add(build(recipe).backbone.state_dict()["blocks.0.ffn.w2.weight"][0, 0].item())
    assert len(weights) == 4


def test_a_whole_number_that_is_asked_for_keeps_all_its_digits():
    ask = RequestOption(name="frame", kind="integer", help="which")
    for given, number in (("9007199254740993", 2**53 + 1), (2**63 + 1, 2**63 + 1), ("3.0", 3), ("1e3", 1000), (4.0, 4)):
        assert parse_request([ask], {"frame": given}) == {"frame": number}


def test_a_model_that_is_not_here_or_is_another_is_told(model, here, capsys):
    assert run(["generate", str(model), "x", "--steps", "1", "--out", "a.png"]) == 0
    commit = commit_of(model)
    capsys.readouterr()
    assert run(["generate", "--from", "a.png"]) == 1
    assert capsys.readouterr().err == (
        f"error: a.png: the file was generated with run at commit {commit}; this model is not on this machine\n    -> give its folder: mgzoo generate FOLDER --from a.png\n"
    )
    shutil.copytree(model, "run")
    describe(here / "run", metrics={"minutes": 1})
    assert run(["generate", "run", "--from", "a.png"]) == 1
    assert f"run is at commit {commit_of('run')}, but the file was generated with run at {commit}" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["a.png", "run"]


def test_verify_a_generated_file(model, here, capsys, monkeypatch):
    assert run(["generate", str(model), "x", "--steps", "1", "--out", "a.mp4"]) == 0
    capsys.readouterr()
    shutil.copytree(model, "run")
    assert run(["verify", "a.mp4"]) == 0
    out = said(capsys)
    assert re.search("^task +video.text_to_video.v1 of mgzoo-video 0.1.0$", out, re.MULTILINE)
    assert "mgzoo-video 0.1.0" in out and "prompt   x" in out and out.endswith("a.mp4: OK")
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "mgzoo-video" else real(name))
    shutil.rmtree("run")
    data = Path("a.mp4").read_bytes()
    Path("a.mp4").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert run(["verify", "a.mp4", "--json"]) == 1
    found = json.loads(said(capsys))
    assert [one["kind"] for one in found["problems"]] == ["content", "model", "plugin"] and found["made"]["model"] == "run"
    assert found["problems"][2]["what"] == "made with mgzoo-video 0.1.0, installed: 9.9"
    Path("b.txt").write_text("hello")
    assert run(["verify", "b.txt"]) == 1


def test_what_a_file_says_holds_the_request_the_model_and_the_plugins(model, here):
    assert run(["generate", str(model), "a red heart", "--frames", "4", "--size", "32x32", "--fps", "4", "--steps", "1", "--seed", "9", "--out", "a.mp4"]) == 0
    made = read_record("a.mp4")
    asked = {"prompt": "a red heart", "frames": 4, "width": 32, "height": 32, "fps": 4.0, "steps": 1, "seed": 9}
    assert dict(made.request) == asked
    assert (made.model, made.commit, made.manifest) == ("run", commit_of(model), storage.digest_file(model / "mgzoo.json"))
    assert made.task == {"id": "video.text_to_video.v1", "distribution": "mgzoo-video", "version": "0.1.0"}
    assert list(made.plugins) == ["mgzoo-autoencoders", "mgzoo-backbones", "mgzoo-encoders", "mgzoo-samplers", "mgzoo-video"]
    assert str(here) not in json.dumps(media.meta("a.mp4")) and str(model.parent) not in json.dumps(media.meta("a.mp4"))


def test_a_pulled_model_is_found_by_its_name_and_commit(model, here, capsys):
    assert run(["push", str(model), "./hub/heart"]) == 0 and run(["generate", "./hub/heart", "x", "--steps", "1", "--out", "a.png"]) == 0
    first = Path("a.png").read_bytes()
    assert run(["pull", "./hub/heart"]) == 0
    shutil.rmtree("hub")
    capsys.readouterr()
    assert run(["verify", "a.png"]) == 0 and run(["generate", "--from", "a.png", "--out", "b.png"]) == 0
    assert Path("b.png").read_bytes() == first


GOOD = {"model": "run", "commit": "a" * 12, "manifest": "a" * 64, "mgzoo": "0.1.0", "plugins": {}, "machine": {}, "request": {"prompt": "x"}}


@pytest.mark.parametrize("change, what", [
    ({"model": "../../etc"}, "'model'"),
    ({"model": "a\x1b[2J"}, "'model'"),
    ({"commit": "0" * 12}, "'commit'"),
    ({"manifest": 5}, "'manifest'"),
    ({"revision": "main"}, "'revision'"),
    ({"plugins": {"evil; rm -rf /": "1"}}, "plugins.evil"),
    ({"plugins": []}, "'plugins'"),
    ({"request": {"prompt": "x", "source": {"file": "../clip.mp4", "blake3": "a" * 64}}}, "'request.source'"),
    ({"request": {"prompt": "x", "source": {"file": "clip.mp4", "blake3": "a" * 63}}}, "'request.source'"),
    ({"request": {"prompt": "x", "sou rce": "clip.mp4"}}, "'request.sou rce'"),
    ({"request": {"prompt": "x", "seed": -1}}, "'request.seed'"),
    ({"request": {"prompt": "x", "frames": True}}, "'request.frames'"),
    ({"request": {"prompt": "x", "fps": 10**400}}, "'request.fps'"),
    ({"request": {"prompt": "x", "task": "os:system"}}, "'request.task'"),
    ({"request": {"prompt": "x", "on_step": "print"}}, "'request.on_step'"),
    ({"task": "video.text_to_video.v1"}, "'task'"),
    ({"task": {"id": "os:system", "distribution": "a", "version": "1"}}, "'task'"),
    ({"task": {"id": "a.b.v1", "distribution": "a; rm", "version": "1"}}, "'task'"),
    ({"task": {"id": "a.b.v1", "distribution": "a"}}, "'task'"),
])
def test_what_a_strangers_file_says_is_checked(here, change, what):
    frame = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    assert read_record(Media(video=frame, meta=GOOD).save("good.png")).model == "run"
    Media(video=frame, meta={**GOOD, **change}).save("bad.png")
    with pytest.raises(MgzooError) as caught:
        read_record("bad.png")
    assert what in caught.value.what and caught.value.remedy and "\x1b" not in str(caught.value)


def test_a_file_that_says_nothing_of_its_making_is_told(here):
    Media(video=torch.zeros(1, 4, 4, 3, dtype=torch.uint8), meta={"model": "run"}).save("a.png")
    with pytest.raises(MgzooError, match="a.png: the file has no generation record"):
        read_record("a.png")


def test_a_plugin_that_is_not_here_is_named_without_a_pip_line():
    made = GenerationRecord(model="run", commit="a" * 12, manifest="a" * 64, request={}, mgzoo="0.1.0", plugins={"evil-package": "6.6.6"})
    (found,) = version_drift(made, "a.png")
    assert found.what == "made with evil-package 6.6.6, not installed" and "pip install" not in found.remedy
    assert version_drift(dataclasses.replace(made, plugins={}), "a.png") == []


def test_the_task_of_a_file_is_compared_with_what_is_installed(here, capsys, monkeypatch):
    """A file of before names none; one that is not here is answered with its version, one of another distribution with both."""
    made = GenerationRecord(model="run", commit="a" * 12, manifest="a" * 64, request={}, mgzoo="0.1.0")
    assert task_problems(made, "a.png") == []
    task = {"id": "video.text_to_video.v1", "distribution": "mgzoo-video", "version": "0.1.0"}
    assert task_problems(dataclasses.replace(made, task=task), "a.png") == []
    (other,) = task_problems(dataclasses.replace(made, task={**task, "distribution": "other-video"}), "a.png")
    assert other.what == "made with the task video.text_to_video.v1 of other-video 0.1.0, which is of mgzoo-video 0.1.0 here"
    gone = dataclasses.replace(made, task={"id": "acme.dream.v1", "distribution": "mgzoo-acme", "version": "1.2"})
    (found,) = task_problems(gone, "a.png")
    assert found.remedy == "identify the plugin and check that you trust it; made with mgzoo-acme==1.2"
    (here / "registry").mkdir()
    (here / "registry" / "plugins.json").write_text('{"acme": "mgzoo-acme"}')
    (found,) = task_problems(gone, "a.png")
    assert found.remedy == "pip install mgzoo-acme==1.2 (according to ./registry/plugins.json; check that you trust it)"
    Media(video=torch.zeros(1, 4, 4, 3, dtype=torch.uint8), meta={**GOOD, "task": dict(gone.task)}).save("a.png")
    assert run(["generate", "--from", "a.png"]) == 1
    err = capsys.readouterr().err
    assert "unknown component 'acme.dream.v1'" in err and "pip install mgzoo-acme==1.2 (according to" in err and "not on this machine" not in err


def test_a_lock_beside_a_recipe_says_which_version_is_missing(here):
    (here / "mine.yaml").write_text(RECIPE.replace("video.text_to_video.v1", "acme.dream.v1"))
    (here / "registry").mkdir()
    (here / "registry" / "plugins.json").write_text('{"acme": "mgzoo-acme"}')

    def remedy() -> str:
        with pytest.raises(MgzooError) as caught:
            compose(here / "mine.yaml")
        return str(caught.value)

    assert "-> pip install mgzoo-acme (according to" in remedy()
    for text, line in (('{"plugins": {"mgzoo-acme": "1.2"}}', "mgzoo-acme==1.2 "), ('{"plugins": {"mgzoo-acme": "1.2; rm -rf /"}}', "mgzoo-acme "), ("{", "mgzoo-acme "), ("[]", "mgzoo-acme ")):
        (here / "mine.lock.json").write_text(text)
        assert f"-> pip install {line}(according to" in remedy()


def test_without_a_model_or_a_prompt_the_usage_is_shown(here, capsys):
    assert run(["generate", "run"]) == 2
    assert capsys.readouterr().err.startswith("mgzoo generate: the following arguments are required: PROMPT\n    -> usage: mgzoo generate ")


def test_a_sound_is_made_again_bit_for_bit_from_the_file_that_it_was_made_from(here, capsys):
    given = Path(__file__).parents[1] / "data" / "sounds_demo" / "tone-60.flac"
    model = Path(__file__).parents[1] / "registry" / "dacvae"
    assert run(["generate", str(model), "--audio", str(given), "--out", "a.wav"]) == 0
    first, made = Path("a.wav").read_bytes(), read_record("a.wav")
    assert Path("a.spectrogram.png").is_file() and made.request["audio"] == {"file": "tone-60.flac", "blake3": input_digest(given)}
    assert run(["generate", str(model), "--from", "a.wav", "--out", "b.wav"]) == 1  # what it was made from is not here
    assert "--audio FILE.wav" in capsys.readouterr().err
    assert run(["generate", str(model), "--from", "a.wav", "--audio", str(given), "--out", "b.wav"]) == 0 and Path("b.wav").read_bytes() == first
    other = given.with_name("tone-64.flac")
    assert run(["generate", str(model), "--from", "a.wav", "--audio", str(other), "--out", "c.wav"]) == 1 and "the content differs" in capsys.readouterr().err
    assert run(["generate", str(model), "--audio", str(given), "--out", "a.mp4"]) == 1 and "generates sound; a .mp4 file cannot hold that" in capsys.readouterr().err
