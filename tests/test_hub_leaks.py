"""The last gate before an artifact leaves: no token, no key, no password, no home folder, and never a word of what was found."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mgzoo.artifact import secrets
from mgzoo.artifact.manifest import read_manifest, write_manifest
from mgzoo.artifact.secrets import find_secrets
from mgzoo.errors import ArtifactError
from mgzoo.media import Media
from mgzoo.model.build import build
from mgzoo.model.save import save
from mgzoo.recipe.compose import compose
from mgzoo.recipe.lock import read_lock
from mgzoo.share.describe import describe
from mgzoo.share.push import push as push_artifact

ROOT = Path(__file__).resolve().parents[1]
TAE = """
schema: 1
parts:
  autoencoder:
    use: autoencoders.tae.v1
    config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0], attention: false}
  task: {use: autoencoders.reconstruct.v1}
data: {use: video.clips.v1, config: {path: PATH, frames: 8, height: 32, width: 32, license: mit}}
"""
SECRETS = {
    "a Hugging Face token": "hf_" + "aB3" * 11,
    "a GitHub token": "ghp_" + "x1" * 18,
    "a GitLab token": "glpat-" + "x1_" * 7,
    "an AWS key": "AKIA" + "ABCD" * 4,
    "an API key": "sk-proj-" + "a1" * 20,
    "a Slack token": "xoxb-1234567890-abcdef",
    "a package registry's token": "pypi-AgE" + "IcHlwaS5vcmc" * 3,
    "a JSON Web Token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.sig",
    "a private key": "-----BEGIN EC PRIVATE KEY-----",
    "a password in an address": "https://ann:hunter2@example.org/repo.git",
    "a password": "aws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLE",
}
HOMES = ["/home/ann/clips", "see /Users/ann", "file:///root/data", r"C:\Users\ann\clips", '"/home/ann"', "/root"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "recipe.yaml").write_text(TAE.replace("PATH", "clips"))
    return save(build(compose(folder / "recipe.yaml")), folder / "model", golden=False)


@pytest.fixture
def model(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(saved, "model"))


def push(model):
    """Seal and push; the problems."""
    write_manifest(read_manifest(model), model)
    with pytest.raises(ArtifactError) as caught:
        push_artifact(model, "./hub/tae", probe=False)
    assert not Path("hub").exists()
    return caught.value.problems


@pytest.mark.parametrize("kind", SECRETS)
def test_every_kind_of_secret_is_named_with_file_and_line_and_not_repeated(model, kind):
    (model / "README.md").write_text(f"# A model\n\nlogin with {SECRETS[kind]}\n")
    (found,) = push(model)
    assert str(found) == f"model/README.md:3: the line seems to contain {kind}\n    -> remove it, save again, and revoke it: anybody with a copy can use it"
    assert SECRETS[kind][-8:] not in str(found)


@pytest.mark.parametrize("text", HOMES)
def test_a_home_folder_is_found_and_its_owner_is_not_named(model, text):
    (model / "README.md").write_text(f"trained on {text}\n")
    (found,) = push(model)
    assert str(found) == "model/README.md:1: the line contains the path of a home folder\n    -> use a relative path, and save again"


def test_all_leaks_of_all_texts_are_told_at_once(model):
    (model / "README.md").write_text(f"{SECRETS['an AWS key']}\n/home/ann/x\n")
    (model / "autoencoder/config.json").write_text(json.dumps({**json.loads((model / "autoencoder/config.json").read_text()), "note": "/root/x"}))
    path = model / "autoencoder/model.safetensors"
    save_file(load_file(path), path, metadata={"from": SECRETS["a GitHub token"]})
    Media(video=torch.zeros(1, 4, 4, 3, dtype=torch.uint8), meta={"path": "/Users/ann/a.mp4"}).save(model / "sample.png")
    Media(video=torch.zeros(2, 16, 16, 3, dtype=torch.uint8), fps=8, meta={"token": SECRETS["a Hugging Face token"]}).save(model / "sample.mp4")
    found = push(model)
    assert sorted((one.kind, Path(one.origin.source).name) for one in found) == [
        ("home-path", "README.md"), ("home-path", "config.json"), ("home-path", "sample.png"),
        ("secret", "README.md"), ("secret", "model.safetensors"), ("secret", "sample.mp4"), ("secret", "sample.mp4"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", [
    "the token is the unit of text", "tokenizer: google/byt5-small-of-many-letters", "password: short", "max_tokens = 1234567890123456789",
    "https://example.org:8080/path?at=me@example.org", "ssh://git@example.org/x", "homepage: https://example.org/home/", "~/clips, /data/home-made, runs/home",
    "s3://bucket/home/ann", "./home/ann/", "a risk-averse-task-that-is-long-enough-to-look", "the sky-blue-wallpaper-of-my-living-room",
])  # fmt: skip
def test_an_honest_text_passes(model, text):
    (model / "README.md").write_text(text)
    write_manifest(read_manifest(model), model)
    assert find_secrets(model, read_manifest(model)) == []


@pytest.mark.parametrize("name", ["tae-emoji", "emoji-t2v"])
def test_the_models_we_ship_leak_nothing(name):
    from mgzoo.hub.lookup import find_local

    folder = find_local(f"registry/{name}")
    assert find_secrets(folder, read_manifest(folder)) == []


def test_a_recipe_that_names_a_home_folder_can_be_mended_without_training_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(TAE.replace("PATH", "/home/ann/clips"))
    model = save(build(compose(tmp_path / "recipe.yaml")), Path("model"), golden=False)
    pinned = {**read_lock("model/recipe.lock.json"), "data": {"/home/ann/clips": {"files": 1, "bytes": 2, "of": "content", "digest": "d"}}}
    (model / "recipe.lock.json").write_text(json.dumps(pinned))
    found = push(model)
    assert {Path(one.origin.source).name for one in found} == {"recipe.yaml", "recipe.lock.json"}
    assert found[0].remedy == "replace it by a relative path: mgzoo.share.describe.describe(FOLDER, overrides=['data.config.path=PATH'])"
    weights = (model / "autoencoder/model.safetensors").read_bytes()
    describe("model", overrides=["data.config.path=clips"])
    assert compose(model / "recipe.yaml").data.config.path == "clips"
    assert read_lock("model/recipe.lock.json")["data"] == {"clips": pinned["data"]["/home/ann/clips"]}
    assert (model / "autoencoder/model.safetensors").read_bytes() == weights and push_artifact(model, "./hub/tae", probe=False)


@settings(max_examples=30, deadline=None)
@given(start=st.text(alphabet="a :/=\t", max_size=5), kind=st.sampled_from(sorted(SECRETS)), end=st.text(alphabet=" ,;\")\n", min_size=1, max_size=3))
def test_a_secret_is_found_whatever_stands_around_it(start, kind, end):
    pattern = dict(secrets.SECRETS)[kind]
    text = f"{start} {SECRETS[kind]}{end}".encode()
    assert pattern.search(text)
