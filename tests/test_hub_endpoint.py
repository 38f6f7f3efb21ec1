"""Push and pull through the Hugging Face protocol, against a server process: what holds when all goes well, and offline."""

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import READER

import mgzoo
from mgzoo import cli
from mgzoo.artifact.manifest import read_manifest
from mgzoo.hub import huggingface
from mgzoo.hub.fetch import fetch, without_network
from mgzoo.hub.lookup import find_local, require_local
from mgzoo.model.build import build
from mgzoo.model.save import save
from mgzoo.recipe.artifact_check import check_contract
from mgzoo.recipe.compose import compose
from mgzoo.recipe.lock import lock_drift, lock_recipe
from mgzoo.share.pull import pull
from mgzoo.share.push import push
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError

SHARDS = [f"autoencoder/model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


def described(source, dest, text):
    """A copy of an artifact that says something else, so that it is another commit."""
    shutil.copytree(source, dest)
    (dest / "mgzoo.json").write_text(dataclasses.replace(read_manifest(dest), description=text).to_json())
    return dest


def tree(base):
    return {path.relative_to(base).as_posix(): path.read_bytes() for path in Path(base).rglob("*") if path.is_file()}


def on_hub(repo, revision=None):
    """The names of a revision's files, as anybody sees them."""
    from huggingface_hub import HfApi

    return sorted(HfApi().list_repo_files(repo, revision=revision))


# ------------------------------------------------------------------------------------------- the circle


@pytest.mark.parametrize("way", ["lfs", "multipart", "xet", "xet switched off here"])
def test_the_circle_keeps_every_byte(loopback, model, repo, way, monkeypatch):
    from huggingface_hub import constants

    loopback.settings(xet="xet" in way, part_bytes=50_000 if way == "multipart" else 1 << 62)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", way == "xet switched off here")
    commit = push(model, f"{repo}@v1", probe=False)
    pushed = loopback.lines()
    assert huggingface.is_commit(commit) and on_hub(repo, "v1") == sorted([".gitattributes", *tree(model)])
    for ref in (f"{repo}@v1", repo, f"{repo}@{commit}"):
        assert pull(ref).name == commit
    assert tree(pull(repo, "pulled")) == tree(model) and verify("pulled", probe=False) == []
    assert verify(f"{repo}@v1", probe=False) == []
    assert mgzoo.load(f"{repo}@v1").recipe.description == "a tiny autoencoder"
    puts = [line for line in pushed if line.startswith("PUT")]
    pulled = loopback.lines()
    if way == "xet":
        assert not puts and any("/-/cas/v1/xorbs/" in line for line in pushed) and any("GET /-/xorbs/" in line for line in pulled)
        assert not [line for line in pulled if "/-/objects/" in line]
    else:
        sizes = [file.stat().st_size for file in model.rglob("*.safetensors")]
        assert len(puts) == (sum(-(-size // 50_000) for size in sizes) if way == "multipart" else len(sizes))
        assert sum("/-/objects/" in line for line in pulled) == len(sizes)
    assert len([line for line in pushed if "/commit/" in line]) == 1


def test_a_folder_and_an_endpoint_hold_the_same_artifact(loopback, model, repo):
    push(model, "./hub/tae@v1", probe=False)
    push(model, f"{repo}@v1", probe=False)
    assert tree(pull("./hub/tae@v1", "one")) == tree(pull(f"{repo}@v1", "two")) == tree(model)


def test_the_manifest_is_read_before_anything_else_and_only_listed_files_are_fetched(loopback, model, repo):
    commit = push(model, repo, probe=False)
    loopback.log()
    pull(repo)
    fetched = [one["path"] for one in loopback.log() if one["method"] == "GET" and "/resolve/" in one["path"]]
    assert fetched[0] == f"/{repo}/resolve/{commit}/mgzoo.json" and not [path for path in fetched if ".gitattributes" in path]
    pull(repo)
    assert not [line for line in loopback.lines() if line.startswith("GET") and "/tree/" not in line]


def test_a_second_push_replaces_all_files_in_one_commit_and_an_equal_one_makes_none(loopback, model, repo):
    first = push(model, f"{repo}@v1", probe=False)
    assert push(model, f"{repo}@v1", probe=False) == push(model, f"{repo}@again", probe=False) == first
    whole = save(build(compose(model / "recipe.yaml")), "whole")
    second = push(whole, repo, parent=first, probe=False)
    assert on_hub(repo) == sorted([".gitattributes", *tree(whole)]) and on_hub(repo, "v1") == sorted([".gitattributes", *tree(model)])
    assert pull(repo).name == second and pull(f"{repo}@v1").name == first


def test_a_model_is_pushed_pulled_and_loaded_by_the_address_of_its_page(loopback, model, repo, capsys):
    from huggingface_hub import constants

    page = f"{constants.ENDPOINT}/{repo}"
    commit = push(model, f"{page}@v1", probe=False)
    folder = pull(f"{page}/tree/v1")
    assert folder.name == commit and pull(f"hf://{repo}@v1") == pull(f"{page}/blob/main/README.md") == folder
    assert mgzoo.load(f"{page}/tree/v1").training is False and cli.run(["verify", f"{page}/"]) == 0
    assert cli.run(["push", str(model), f"hf://{repo}"]) == 0 and capsys.readouterr().out.splitlines()[-1] == f"{repo}@{commit}"
    assert not list(Path().glob("http*")) and not list(Path().glob("hf*"))


def test_a_tag_stays_where_it_is(loopback, model, repo):
    first = push(model, f"{repo}@v1", probe=False)
    other = described(model, Path("other"), "newer")
    for ref, said in ((f"{repo}@v1", f"{repo} already has a tag 'v1', at {first}\n    -> tags cannot be moved: choose another tag"),
                      (f"{repo}@main", "'main' is not a valid tag\n    -> use letters, digits, '.', '_' and '-'; main is reserved for the newest commit")):
        with pytest.raises(MgzooError) as caught:
            push(other, ref, probe=False)
        assert str(caught.value) == said
    assert pull(repo).name == first


def test_a_push_on_another_parent_is_refused_before_anything_is_sent(loopback, model, repo):
    first = push(model, repo, probe=False)
    second = push(described(model, Path("other"), "newer"), repo, probe=False)
    loopback.log()
    with pytest.raises(MgzooError) as caught:
        push(model, repo, parent=first, probe=False)
    assert caught.value.what == f"{repo} has changed: main is {second}, this push is based on {first}"
    assert not [line for line in loopback.lines() if not line.startswith("GET")]


def test_a_repository_that_holds_something_else_is_left_alone(loopback, model, repo):
    from huggingface_hub import HfApi

    HfApi().create_repo(repo)
    HfApi().upload_file(path_or_fileobj=b"years of work", path_in_repo="thesis.txt", repo_id=repo)
    with pytest.raises(MgzooError) as caught:
        push(model, repo, probe=False)
    assert str(caught.value) == f"{repo} is not an artifact repository: it has 2 other files\n    -> choose another name"
    assert on_hub(repo) == [".gitattributes", "thesis.txt"]


def test_what_must_not_leave_stays_behind(loopback, model, repo):
    for name in ("zero_to_fp32.py", "optimizer.pt", "train.log"):
        (model / name).write_bytes(b"not for the world")
    push(model, repo, probe=False)
    assert on_hub(repo) == sorted([".gitattributes", "mgzoo.json", *read_manifest(model).files])


# ------------------------------------------------------------------------------------------- offline


@pytest.fixture
def no_sockets(monkeypatch):
    """From now on, opening a socket is an error."""

    def refuse(*_):
        raise AssertionError("a socket was opened")

    def block():
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "create_connection", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)

    return block


def test_a_commit_that_is_here_opens_no_socket(loopback, model, repo, no_sockets):
    commit = push(model, repo, probe=False)
    folder = pull(repo)
    no_sockets()
    assert fetch(f"{repo}@{commit}", before_weights=check_contract) == folder and mgzoo.load(f"{repo}@{commit}").training is False
    assert require_local(repo) == folder
    with without_network():
        assert fetch(repo, before_weights=check_contract) == folder


def test_hf_hub_offline_uses_what_is_here_and_says_what_is_not(loopback, model, repo, no_sockets, monkeypatch):
    from huggingface_hub import constants

    push(model, f"{repo}@v1", probe=False)
    folder = pull(f"{repo}@v1")
    no_sockets()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull(f"{repo}@v1") == folder and mgzoo.load(f"{repo}@v1") and verify(f"{repo}@v1", probe=False) == []
    for name in SHARDS[:2]:
        (folder / name).unlink()
    remedy = "    -> go online and run: mgzoo pull"
    for do, ref, said in (
        (mgzoo.load, f"{repo}@v1", f"{repo}@v1 is not complete on this machine: it lacks {SHARDS[0]} and 1 more files\n{remedy} {repo}@v1"),
        (pull, f"{repo}@v1", f"{repo}@v1 is not complete on this machine: it lacks {SHARDS[0]} and 1 more files\n{remedy} {repo}@v1"),
        (pull, repo, f"{repo} is not on this machine\n{remedy} {repo}"),
        (lambda ref: push(model, ref, probe=False), repo, f"{repo} is not reachable: HF_HUB_OFFLINE is set\n    -> unset HF_HUB_OFFLINE and try again"),
    ):
        with pytest.raises(MgzooError) as caught:
            do(ref)
        assert str(caught.value) == said


def test_a_locked_recipe_with_a_full_cache_opens_no_socket(loopback, model, repo, no_sockets):
    commit = push(model, f"{repo}@v1", probe=False)
    pull(f"{repo}@v1")
    Path("mine.yaml").write_text((model / "recipe.yaml").read_text().replace("weights: null", f"weights: {repo}@v1", 1))
    recipe = compose("mine.yaml")
    locked = lock_recipe(recipe)
    assert locked["weights"][f"{repo}@v1"]["commit"] == commit
    no_sockets()
    assert lock_drift(compose("mine.yaml"), locked) == []
    with without_network():
        build(compose("mine.yaml"))
    shutil.rmtree(os.path.dirname(os.path.dirname(find_local(f"{repo}@v1"))))
    with without_network(), pytest.raises(MgzooError, match=f"{repo}@v1 is not on this machine\n    -> go online and run: mgzoo pull {repo}@v1"):
        build(recipe)


# ------------------------------------------------------------------------------------------- the command line and its variables


def run(*words, **variables):
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(Path("hf").resolve()), "HF_HUB_DISABLE_TELEMETRY": "1", **variables}
    return subprocess.run([sys.executable, "-m", "mgzoo", *words], capture_output=True, text=True, env=environment)


def test_the_verbs_and_the_variables_of_the_client(loopback, model, repo):
    at = {"HF_ENDPOINT": loopback.url, "HF_HUB_DISABLE_XET": "1"}
    refused = run("push", "model", f"{repo}@v1", HF_TOKEN=READER, **at)
    assert refused.returncode == 1 and "your token lacks the permission: create one with it, then hf auth login" in refused.stderr
    pushed = run("push", "model", f"{repo}@v1", **at)
    commit = re.search(r"[0-9a-f]{40}", pushed.stdout)[0]
    assert (pushed.returncode, pushed.stderr) == (0, "")
    pulled = run("pull", f"{repo}@v1", HF_TOKEN="", **at)
    folder = Path("hf/hub").resolve() / f"models--{repo.replace('/', '--')}" / "snapshots" / commit
    assert (pulled.returncode, pulled.stdout, pulled.stderr) == (0, f"{folder}\n", "")
    again = run("pull", f"{repo}@v1", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{folder}\n", "")
    nothing = run("pull", "org/nothing-there", **at)
    assert nothing.returncode == 1
    assert "org/nothing-there does not exist or is private" in nothing.stderr and "Traceback" not in nothing.stderr
    assert json.loads((folder / "mgzoo.json").read_text())["description"] == "a tiny autoencoder"
