"""References and addresses: what names a model on a hub however it was pasted, what is refused with the right form, and that an
address never becomes a path."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

import mgzoo
from mgzoo import cli
from mgzoo.data.paths import find_data
from mgzoo.hub import addresses
from mgzoo.hub import references as refs
from mgzoo.hub.fetch import fetch
from mgzoo.hub.folder_hub import publish_to_hub
from mgzoo.hub.lookup import find_local, require_local
from mgzoo.hub.references import parse_reference, parse_target, registry_folder
from mgzoo.media import Media
from mgzoo.recipe.artifact_check import check_contract
from mgzoo.recipe.lock import write_lock
from mgzoo.share.pull import pull
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError, RecipeError

HUB = "https://huggingface.co"
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", HUB)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


PAGES = [
    *((f"{place}{page}", said) for place in (f"{HUB}/org/name", "http://huggingface.co/org/name", "https://hf.co/org/name", "HTTPS://HuggingFace.co/org/name",
                                             "huggingface.co/org/name", "hf.co/org/name", f"{HUB}:443/org/name", f"{HUB}//org/name", f"{HUB}/models/org/name",
                                             "https:/huggingface.co/org/name", f"{HUB}/org/name.git")
      for page, said in (("", "org/name"), ("/", "org/name"))),
    *((f"{place}/org/name{page}", said) for place in (f"{HUB}", "hf://models", "hf:/")
      for page, said in (("/tree/main", "org/name"), ("/tree/main/", "org/name"), ("/tree/v1.0", "org/name@v1.0"), ("/blob/main/README.md", "org/name"),
                         ("/blob/v1/backbone/model.safetensors", "org/name@v1"), ("/resolve/main/mgzoo.json", "org/name"), ("/raw/v1/mgzoo.json", "org/name@v1"),
                         (f"/commit/{SHA}", f"org/name@{SHA}"), ("/commits/v1", "org/name@v1"), ("/tree/refs%2Fpr%2F1", "org/name@refs/pr/1"),
                         ("/tree/refs/pr/1", "org/name@refs/pr/1"), ("@v1", "org/name@v1"), ("@v1/", "org/name@v1"), ("@v1/tree/v1", "org/name@v1"))),
    (f"{HUB}/org/name?library=mgzoo", "org/name"), (f"{HUB}/org/name/resolve/main/mgzoo.json?download=true", "org/name"), (f"{HUB}/org/name#use", "org/name"),
    (f" {HUB}/org/name\n", "org/name"),
    ("hf://org/name", "org/name"), ("hf://org/name/mgzoo.json", "org/name"), ("hf://org/name@v1/backbone/config.json", "org/name@v1"), ("hf://org/name@refs/pr/1", "org/name@refs/pr/1"),
    ("models/org/name", "org/name"), ("models/org/name@v1", "org/name@v1"), ("models/org/name/", "org/name"), ("org/name/tree/main", "org/name"),
    ("org/name/tree/v1/", "org/name@v1"), ("org/name/blob/main/mgzoo.json", "org/name"), ("org/name/", "org/name"), ("org/name@v1", "org/name@v1"),
]


@pytest.mark.parametrize(("text", "said"), PAGES)
def test_an_address_is_the_model_that_it_names(text, said):
    ref = parse_reference(text)
    assert ref.is_endpoint and ref.text == said and (f"{ref.repo}@{ref.revision}" if ref.revision else ref.repo) == said
    assert find_local(text) is None and os.listdir() == []
    with pytest.raises(MgzooError, match=f"{said} is not on this machine\n    -> go online and run: mgzoo pull {said}"):
        fetch(text, before_weights=check_contract)


REFUSED = [
    *((text, "is not an artifact reference", "org/name[@revision]") for text in (HUB, f"{HUB}/", f"{HUB}/name", "hf://", "hf://name", f"{HUB}/org/na me", f"{HUB}/org/..", f"{HUB}/org/name@",
                                                                     f"{HUB}/org/%2e%2e/x", f"{HUB}/org/name/tree/..%2Fx", "hf://models/name")),
    *((text, "not on the configured hub", "HF_ENDPOINT=http") for text in ("https://hub.example/org/name@v1", "https://hub.example/org/name/tree/main", "http://localhost:8080/org/name",
                                                                       "hub.example/org/name", "localhost:8080/org/name", "https://huggingface.co.evil.example/org/name",
                                                                       "https://127.0.0.1:9/org/name", "https:/hub.example/org/name")),
    *((f"{place}datasets/org/name", "is a data set, not a model", "org/name[@revision]") for place in (f"{HUB}/", "hf://", "")),
    *((f"{place}spaces/org/name", "is a space, not a model", "org/name[@revision]") for place in (f"{HUB}/", "hf://", "")),
    (f"{HUB}/papers/1234.5678", "is a paper", "org/name"), (f"{HUB}/docs/hub/models", "is a documentation page", "org/name"),
    (f"{HUB}/api/models/org/name", "is a hub route", "org/name"),
    (f"{HUB}/org/name/discussions/3", "is a page of org/name, not the model", "write org/name[@revision]"), (f"{HUB}/org/name/settings", "is a page of", "write org/name"),
    (f"{HUB}/org/name/tree/main/backbone", "is a folder inside org/name", "write org/name@main"), (f"{HUB}/org/name/tree", "has no revision", "write org/name"),
    (f"{HUB}/org/name@v1/tree/v2", "has two revisions", "write org/name[@revision]"),
    *((text, "another protocol", "") for text in ("s3://bucket/name", "file:///data/hub/name", "ftp://hub.example/org/name", "git@hf.co:org/name", "ssh://git@hf.co/org/name", "gs:bucket/name")),
    *((text, "is a Windows path", "/mnt/c") for text in (r"C:\models\name", "C:/models/name", r"hub\models/name", r"\\server\share/name")),
    ("~nobody-of-this-name/hub/name", "is not a folder", "write the full path"),
]


@pytest.mark.parametrize(("text", "what", "remedy"), REFUSED)
def test_what_names_no_model_is_refused_everywhere_with_the_right_form(text, what, remedy, capsys):
    for read in (parse_reference, partial(fetch, before_weights=check_contract), parse_target, mgzoo.load, pull, verify):
        with pytest.raises(MgzooError) as caught:
            read(text)
        assert what in caught.value.what and remedy in caught.value.remedy, (read, caught.value)
    assert find_local(text) is None and os.listdir() == []
    assert cli.run(["pull", text]) == cli.run(["show", text]) == cli.run(["generate", text, "x"]) == 1
    assert "Traceback" not in capsys.readouterr().err and os.listdir() == []


SECRETS = ["https://user:hunter2hunter2@huggingface.co/org/name", "https://hunter2hunter2@huggingface.co/org/name", "https://user:hunter2hunter2@hub.example/org/name",
           "hf://user:hunter2hunter2@org/name", "hf://hunter2hunter2@org/name", f"{HUB}/org/name?token=hunter2hunter2", "https://hub.example/org/name?access_token=hunter2hunter2",
           "user:hunter2hunter2@huggingface.co/org/name", "https:/user:hunter2hunter2@huggingface.co/org/name", "s3://user:hunter2hunter2@bucket/name",
           f"{HUB}/org/name#X-Amz-Signature=hunter2hunter2", f"{HUB}/org/hf_{'hunter2' * 4}/x/y/z"]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_in_an_address_is_refused_and_not_repeated(text, capsys, tmp_path):
    Path("r.yaml").write_text(f"schema: 1\nparts:\n  autoencoder: {{use: autoencoders.tae.v1, config: {{size: tiny}}, weights: '{text}'}}\n")
    for words in (["pull", text], ["show", text], ["verify", text], ["generate", text, "x"], ["push", ".", text], ["push", text, "org/name"], ["check", "r.yaml"]):
        assert cli.run(words) == 1, words
        said = capsys.readouterr()
        assert "hunter2" not in said.out + said.err and "Traceback" not in said.err, words
    assert os.listdir() == ["r.yaml"]


def test_a_folder_wins_where_it_is_spelled_as_a_path_and_where_it_is_there():
    for name in ("models/org", "org/name/tree", "huggingface.co/org", "hub.example/org", "datasets/hub", "a@b/hub"):
        Path(name).mkdir(parents=True)
    for text, base in (("models/org/name", "models/org"), ("./models/org/name", "models/org"), ("org/name/tree/main", "org/name/tree"), ("./hub.example/org/name", "hub.example/org"),
                       ("hub.example/org/name", "hub.example/org"), ("datasets/hub/name", "datasets/hub"), ("./a@b/hub/name@v1", "a@b/hub"), ("./C:/name", "C:")):
        ref = parse_reference(text)
        assert ref.hub == Path(base) and not ref.is_endpoint, text
    assert parse_reference("hf://models/org/name").repo == parse_reference(f"{HUB}/org/name").repo == "org/name"
    Path("hub").mkdir()
    with pytest.raises(MgzooError) as caught:
        require_local("hub/name")
    assert "hub is a local folder; write hf://hub/name for the model on the network hub" in caught.value.remedy
    assert parse_reference("hf://hub/name").is_endpoint


def test_the_hub_that_is_set_is_the_one_whose_pages_are_understood(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:8080/mirror")
    assert parse_reference("http://127.0.0.1:8080/mirror/org/name/tree/v1").text == "org/name@v1"
    assert parse_reference("127.0.0.1:8080/mirror/org/name").text == "org/name"
    for text in (f"{HUB}/org/name", "http://127.0.0.1:8080/org/name", "http://127.0.0.1:8081/mirror/org/name"):
        with pytest.raises(MgzooError, match="is not on the configured hub http://127.0.0.1:8080/mirror"):
            parse_reference(text)


def test_nothing_is_written_to_an_address(capsys):
    for words in (["cp", "tiny/circle", "https://hub.example/a.yaml"], ["lock", "tiny/circle", "--out", "hf://a/b.json"], ["train", "tiny/circle", "--out", f"{HUB}/org/name"],
                  ["new", "metric", "word", "--out", "https://hub.example/x"], ["generate", "registry/x", "x", "--out", "s3://b/x.mp4"]):
        assert cli.run(words) == 2
        assert "is an address, not a path" in capsys.readouterr().err
    recipe, picture = mgzoo.compose("tiny/circle"), Media(video=torch.zeros(1, 8, 8, 3, dtype=torch.uint8), fps=8)
    address = "https://user:secret@hub.example/x"
    for write in (lambda: pull("registry/emoji-t2v", address), lambda: publish_to_hub(address, "name", lambda place: None), lambda: mgzoo.train(recipe, out=address),
                  lambda: mgzoo.train(recipe, out=Path(address)), lambda: picture.save(address + ".png"), lambda: write_lock("s3://b/x.json", {}),
                  lambda: mgzoo.build(mgzoo.compose("tiny/circle"), weights=False, device="meta").save("hf://org/name")):
        with pytest.raises(MgzooError, match="is an address, not a path") as caught:
            write()
        assert "secret" not in str(caught.value)
    assert os.listdir() == []


def test_nothing_is_read_from_an_address_as_if_it_were_a_path(capsys):
    for words in (["check", "https://hub.example/org/name"], ["plan", "hf://org/name"], ["explain", "s3://b/x.yaml", "seed"]):
        assert cli.run(words) == 1
        assert "is an address, not a path" in capsys.readouterr().err
    with pytest.raises(MgzooError, match="is an address, not a path") as caught:
        find_data("https://hub.example/datasets/x")
    assert "data.config.path" in caught.value.remedy


def test_weights_of_a_recipe_are_understood_or_a_problem_like_every_reference():
    text = "schema: 1\nparts:\n  autoencoder: {use: autoencoders.tae.v1, config: {size: tiny}, weights: 'WHERE'}\n"
    for where, said in (("https://hub.example/org/name", "is not on the configured hub"), ("datasets/org/name", "is a data set"), (r"C:\x\y", "Windows")):
        Path("r.yaml").write_text(text.replace("WHERE", where))
        with pytest.raises(RecipeError, match=said):
            mgzoo.compose("r.yaml")
    Path("r.yaml").write_text(text.replace("WHERE", f"{HUB}/org/name/tree/v1"))
    assert mgzoo.compose("r.yaml").parts["autoencoder"].weights == f"{HUB}/org/name/tree/v1"


def test_an_address_in_the_registry_is_a_name_in_the_registry():
    place = require_local("registry/emoji-t2v")
    assert require_local("registry/emoji-t2v/") == place == require_local(str(place) + "/")
    shutil.copytree(place, "org/name")
    assert parse_reference("org/name").folder == Path("org/name") and parse_reference("hf://org/name").is_endpoint


def test_of_two_registries_the_nearer_counts_that_has_the_revision(tmp_path, monkeypatch, caplog):
    """As in a clone of the repository beside an installed mgzoo: equal models are one."""
    commits = {"a": "0" * 12, "b": "1" * 12}
    for place, tags in (("registry", {"main": "a", "v1": "a"}), ("far/registry", {"main": "a", "v1": "a", "v2": "b"})):
        for commit in set(tags.values()):
            (tmp_path / place / "tae" / commits[commit]).mkdir(parents=True)
            (tmp_path / place / "tae" / commits[commit] / "mgzoo.json").write_text("{}")
        (tmp_path / place / "tae" / "refs.json").write_text(json.dumps({tag: commits[commit] for tag, commit in tags.items()}))
    monkeypatch.setattr(refs, "data_folder", lambda name: tmp_path / "far" / name)
    near, far = Path("registry"), tmp_path / "far" / "registry"
    assert [registry_folder("tae", revision) for revision in (None, "v1", "v2", commits["b"], "v3")] == [near, near, far, far, near]
    assert find_local("registry/tae@v2") == far / "tae" / commits["b"] and not caplog.records
    (far / "tae" / "refs.json").write_text(json.dumps({"main": commits["b"]}))
    assert registry_folder("tae") == registry_folder("tae") == near
    (record,) = caplog.records
    assert record.getMessage() == f"registry/tae is {tmp_path}/registry/tae, not the different model {far}/tae"


@given(st.text(st.sampled_from("abz09./:@~\\?#%- _\n\x00é"), max_size=24), st.sampled_from(["", "hf://", f"{HUB}/", "https://", "models/", "org/name/tree/"]))
def test_any_text_is_a_reference_or_refused(text, before):
    try:
        ref = parse_reference(before + text)
    except MgzooError as error:
        assert error.remedy
    else:
        assert "://" not in str(ref.hub) + str(ref.folder) and (ref.is_endpoint or "://" not in before)
        assert not ref.is_endpoint or addresses.NAME.fullmatch(ref.name or ref.repo.partition("/")[2])
