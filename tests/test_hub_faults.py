"""Hubs that fail, lie or attack: nothing is damaged, nothing is half published, and the error says what to do."""

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest
import torch
from hub_server import READER
from safetensors.torch import load_file, save_file

import mgzoo
from mgzoo import storage
from mgzoo.artifact.manifest import Requirement, read_manifest, write_manifest
from mgzoo.errors import ArtifactError
from mgzoo.hub import huggingface
from mgzoo.hub import huggingface as endpoint
from mgzoo.model.load import load
from mgzoo.model.save import save
from mgzoo.share.pull import pull
from mgzoo.share.push import push
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError

SHARDS = [f"autoencoder/model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
LATER = "try again later; completed transfers are kept"


def on_hub(repo, revision=None):
    """The names of a revision's files, as anybody sees them."""
    from huggingface_hub import HfApi

    return sorted(HfApi().list_repo_files(repo, revision=revision))


def tags(repo):
    from huggingface_hub import HfApi

    return {ref.name: ref.target_commit for ref in HfApi().list_repo_refs(repo).tags}


def planted(folder, repo):
    """Publish a folder as it is, with the client alone: what an attacker or another tool would do."""
    from huggingface_hub import HfApi, constants

    HfApi().create_repo(repo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        return HfApi().upload_folder(repo_id=repo, folder_path=folder, ignore_patterns=[]).oid


def refused(do, *words, **options):
    """The text of the error that it must be."""
    with pytest.raises(MgzooError) as caught:
        do(*words, **options)
    return str(caught.value)


def tree(base):
    return {path.relative_to(base).as_posix(): path.read_bytes() for path in Path(base).rglob("*") if path.is_file()}


def nothing_arrived(tmp_path):
    """No folder beside the model, nothing unfinished in the cache, and no tag or branch that names what is not whole."""
    assert os.listdir(".") == ["model"]
    left = [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".incomplete" or path.parent.name == "refs"]
    assert left == []
    return True


# ------------------------------------------------------------------------------------------- refusals


PUSHES = {
    "no token": ({}, "", "the hub refused {repo} with 401: Invalid username or password.\n    -> log in: hf auth login"),
    "reader": ({}, READER, "the hub refused {repo} with 403: You don't have the rights to write to {repo}\n    -> your token lacks the permission: create one with it, then hf auth login"),
    "bad token": ({}, "nonsense", "the hub refused {repo} with 401: Invalid credentials in Authorization header\n    -> log in: hf auth login"),
    "busy": ({"on": "POST .*/preupload/", "do": "status", "status": 429}, None, "the hub refused {repo} with 429: switched on by a test\n    -> wait a while and try again; completed transfers are kept"),
    "broken": ({"on": "PUT /-/lfs/", "do": "status", "status": 500, "message": "no \x1b[31mdisk"}, None, "the hub refused {repo} with 500: no [31mdisk\n    -> " + LATER),
    "no commit": ({"on": "POST .*/commit/", "do": "status", "status": 503}, None, "the hub refused {repo} with 503: switched on by a test\n    -> " + LATER),
    "no card": ({"on": "POST /api/validate-yaml", "do": "status", "status": 400}, None, "the transfer of {repo} failed: Invalid metadata in README.md."),
    "dropped": ({"on": "PUT /-/lfs/", "do": "drop", "after": 60_000}, None, "the hub is not reachable: "),
    "dropped commit": ({"on": "POST .*/commit/", "do": "drop", "after": 100}, None, "the hub is not reachable: Server disconnected without sending a response.\n    -> check the network and HF_ENDPOINT, then try again; completed transfers are kept"),
}  # fmt: skip


@pytest.mark.parametrize("case", PUSHES)
def test_a_push_that_is_refused_publishes_nothing(loopback, model, repo, case, monkeypatch):
    fault, token, said = PUSHES[case]
    first = push(model, repo, probe=False)
    other = changed(model)
    before = on_hub(repo)
    loopback.faults(*[fault] if fault else [])
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    assert refused(push, other, f"{repo}@v2", probe=False).startswith(said.format(repo=repo))
    loopback.faults()
    monkeypatch.setenv("HF_TOKEN", "writer-token")
    assert on_hub(repo) == before and tags(repo) == {} and pull(repo).name == first
    assert tags(repo) == {} and push(other, f"{repo}@v2", parent=first, probe=False) == tags(repo)["v2"] != first


def changed(model, dest="other"):
    """An artifact with other weights."""
    loaded = load(model)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.mul_(1.5)
    return save(loaded, dest, golden=False, shard_bytes=120_000)


PULLS = {
    "no repository": ("org/nothing", {}, "org/nothing does not exist or is private\n    -> check the name; for a private one log in: hf auth login"),
    "no revision": ("{repo}@v9", {}, "{repo} has no revision 'v9'\n    -> check the tag or commit after the '@'"),
    "no artifact": ("{repo}", {"on": "HEAD .*/mgzoo.json", "do": "status", "status": 404, "code": "EntryNotFound"}, "{repo} lacks a file: mgzoo.json\n    -> if it is mgzoo.json: it is not an artifact of mgzoo"),
    "busy": ("{repo}", {"on": "HEAD .*/mgzoo.json", "do": "status", "status": 429}, "the hub refused {repo} with 429: switched on by a test\n    -> wait a while and try again; completed transfers are kept"),
    "broken": ("{repo}", {"on": "GET .*/tree/", "do": "status", "status": 502}, "the hub refused {repo} with 502: switched on by a test\n    -> " + LATER),
    "broken storage": ("{repo}", {"on": "GET /-/objects/", "do": "status", "status": 503}, "the hub refused {repo} with 503: switched on by a test\n    -> " + LATER),
    "broken later": ("{repo}", {"on": "HEAD .*safetensors", "do": "status", "status": 500}, "the hub refused {repo} with 500: switched on by a test\n    -> " + LATER),
    "dropped": ("{repo}", {"on": "GET /-/objects/", "do": "drop", "after": 0}, "the hub is not reachable: peer closed connection without sending complete message body"),
    "cut": ("{repo}", {"on": "GET /-/objects/", "do": "cut", "after": 1000}, "the transfer of {repo} failed: Consistency check failed: file should be of size"),
    "no commit named": ("{repo}", {"on": "HEAD .*/mgzoo.json", "do": "headers", "headers": {"X-Repo-Commit": "../../.."}}, "incomplete answer of the hub for {repo}/mgzoo.json: expected a commit, a size and an ETag\n    -> check HF_ENDPOINT: it must support the Hugging Face protocol"),
    "an ETag that is a path": ("{repo}", {"on": "HEAD .*/mgzoo.json", "do": "headers", "headers": {"ETag": '"../../../evil"'}}, "incomplete answer of the hub for {repo}/mgzoo.json"),
    "nonsense": ("{repo}", {"on": "GET .*/tree/", "do": "body", "body": '[{"type": "file"}]'}, "the transfer of {repo} failed: 'path'\n    -> try again; if the error persists, check HF_ENDPOINT"),
}  # fmt: skip


@pytest.mark.parametrize("case", PULLS)
def test_a_pull_that_fails_leaves_nothing_half_there_and_the_next_one_succeeds(loopback, model, repo, case, tmp_path):
    ref, fault, said = PULLS[case]
    commit = push(model, repo, probe=False)
    loopback.faults(*[fault] if fault else [])
    assert refused(pull, ref.format(repo=repo), "pulled").startswith(said.format(repo=repo))
    assert nothing_arrived(tmp_path) and huggingface.cached_folder(repo, None) is None
    loopback.faults()
    assert tree(pull(repo, "pulled")) == tree(model) and huggingface.cached_folder(repo, None).name == commit


@pytest.mark.parametrize("name, said", [
    ("private-{}", "{repo} does not exist or is private\n    -> check the name; for a private one log in: hf auth login"),
    ("gated-{}", "{repo} is gated\n    -> ask for access on its page, then log in: hf auth login")])  # fmt: skip
def test_private_and_gated_artifacts_want_a_login(loopback, model, repo, name, said, monkeypatch):
    repo = "org/" + name.format(repo[4:])
    push(model, repo, probe=False)
    monkeypatch.setenv("HF_TOKEN", "")
    assert refused(pull, repo) == said.format(repo=repo)
    monkeypatch.setenv("HF_TOKEN", "writer-token")
    assert pull(repo)


# ------------------------------------------------------------------------------------------- broken transfers go on


def test_a_push_goes_on_where_it_broke_and_sends_no_shard_twice(loopback, model, repo):
    loopback.faults({"on": "PUT /-/lfs/", "do": "drop", "after": 100, "skip": 3})
    assert "the hub is not reachable" in refused(push, model, repo, probe=False)
    assert on_hub(repo) == [".gitattributes"]
    loopback.faults()
    sent = [line for line in loopback.lines() if line.startswith("PUT") and line.endswith(" 200")]
    push(model, repo, probe=False)
    later = [line for line in loopback.lines() if line.startswith("PUT")]
    assert sent and later and not set(sent) & set(later) and len(sent) + len(later) == len(list(model.rglob("*.safetensors")))


def test_a_pull_goes_on_in_the_middle_of_a_file_and_fetches_no_file_twice(loopback, model, repo, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr(endpoint, "AT_ONCE", 1)
    push(model, repo, probe=False)
    loopback.log()
    loopback.faults({"on": "GET /-/objects/", "do": "drop", "after": 60_000, "times": 1})
    assert tree(pull(repo, "pulled")) == tree(model)
    seen = [(one["path"], one["sent"], one["status"]) for one in loopback.log() if "/-/objects/" in one["path"]]
    assert seen[0][0] == seen[1][0] and seen[1][2] == 206 and 0 < seen[1][1] <= (model / SHARDS[0]).stat().st_size - 60_000


def test_what_an_earlier_pull_brought_is_kept(loopback, model, repo):
    push(model, repo, probe=False)
    loopback.faults({"on": "GET /-/objects/", "do": "status", "status": 500, "skip": 2})
    refused(pull, repo)
    loopback.faults()
    got = {one["path"] for one in loopback.log() if "/-/objects/" in one["path"] and one["status"] == 200}
    pull(repo)
    assert len(got) == 2 and not got & {one["path"] for one in loopback.log()}


def test_a_tag_that_could_not_be_made_is_said_and_made_by_the_next_push(loopback, model, repo):
    loopback.faults({"on": "POST .*/tag/", "do": "status", "status": 500})
    said = refused(push, model, f"{repo}@v1", probe=False)
    commit = re.search(r"[0-9a-f]{40}", said)[0]
    assert said == (f"{repo} is published as {commit}, but not tagged 'v1': the hub refused {repo} with 500: switched on by a test"
                    "\n    -> push again to add the missing tag")
    loopback.faults()
    assert push(model, f"{repo}@v1", probe=False) == commit and tags(repo) == {"v1": commit}


# ------------------------------------------------------------------------------------------- races


def test_a_push_that_another_overtook_is_refused_whole(loopback, model, repo):
    first = push(model, repo, probe=False)
    loopback.faults({"on": "POST .*/commit/", "do": "race", "times": 1})
    said = refused(push, changed(model), f"{repo}@v2", probe=False)
    now = hub_main(repo)
    assert said == (f"{repo} has changed: main is {now}, this push is based on {first}"
                    "\n    -> check the new commits, then push again")
    assert now != first and tags(repo) == {} and on_hub(repo) == sorted([*on_hub(repo, first), "rival.txt"])


def hub_main(repo):
    from huggingface_hub import HfApi

    return HfApi().model_info(repo).sha


@pytest.mark.parametrize("when", ["GET .*/mgzoo.json", "GET .*/tree/", "HEAD .*safetensors"])
def test_a_pull_is_of_one_commit_whatever_is_pushed_meanwhile(loopback, model, repo, when):
    first = push(model, repo, probe=False)
    loopback.faults({"on": when, "do": "race", "times": 1})
    assert tree(pull(repo, "pulled")) == tree(model)
    assert huggingface.cached_folder(repo, None).name == first != hub_main(repo)


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_file_that_changes_while_it_is_pushed_is_not_published(loopback, model, repo, monkeypatch, xet):
    from huggingface_hub import HfApi

    loopback.settings(xet=xet)
    upload, path = HfApi.preupload_lfs_files, model / SHARDS[1]

    def touched(self, *words, **options):
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
        return upload(self, *words, **options)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", touched)
    assert refused(push, model, repo, probe=False) == "model changed while it was pushed\n    -> try again without concurrent writes"
    assert on_hub(repo) == [".gitattributes"]


# ------------------------------------------------------------------------------------------- damage and attacks


def test_a_file_with_another_digest_is_refused_and_not_kept(loopback, model, repo, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "AT_ONCE", 1)  # so that it is the first shard
    commit = push(model, repo, probe=False)
    loopback.faults({"on": "GET /-/objects/", "do": "flip", "times": 1})
    with pytest.raises(ArtifactError) as caught:
        pull(repo, "pulled")
    digest = storage.digest_file(model / SHARDS[0])
    cache = tmp_path / "cache" / f"models--{repo.replace('/', '--')}" / "snapshots" / commit
    assert re.sub(r"blake3 [0-9a-f]{64}", "blake3 …", str(caught.value)) == (
        f"1 problem\n{cache / SHARDS[0]}: the file has blake3 …, expected {digest}\n    -> pull or save the artifact again")
    assert nothing_arrived(tmp_path)
    assert tree(pull(repo, "pulled")) == tree(model)


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(loopback, model, repo):
    push(model, repo, probe=False)
    path = pull(repo) / SHARDS[0]
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert "pull or save the artifact again" in refused(mgzoo.load, f"{repo}@{path.parents[1].name}")
    assert mgzoo.load(repo) and verify(repo, probe=False) == []


def resealed(model, **changes):
    """Change the manifest, as an attacker would."""
    (model / "mgzoo.json").write_text(dataclasses.replace(read_manifest(model), **changes).to_json())


def rewritten(model, change):
    content = json.loads((model / "mgzoo.json").read_text())
    change(content)
    (model / "mgzoo.json").write_text(json.dumps(content))


def entry(name):
    return lambda content: content["files"].update({name: {"size": 1, "blake3": "0" * 64}})


HOSTILE = {
    "oversized": (lambda m: (m / "mgzoo.json").write_text(" " * 2_000_000), "{repo}: mgzoo.json has 2,000,000 bytes, more than 1,000,000\n    -> valid manifests are small; do not use this artifact"),
    "up": (lambda m: rewritten(m, entry("../../evil")), "files.../../evil: not an allowed file name in an artifact\n    -> do not use this artifact"),
    "absolute": (lambda m: rewritten(m, entry("/etc/cron.d/evil")), "not an allowed file name in an artifact"),
    "code": (lambda m: rewritten(m, entry("setup.py")), "not an allowed file name in an artifact"),
    "option": (lambda m: rewritten(m, lambda c: c["requires"].append({"distribution": "--index-url=http://evil", "version": "1"})), "is not the name of a distribution"),
    "url": (lambda m: rewritten(m, lambda c: c["requires"].append({"distribution": "git+https://evil/x", "version": "1"})), "is not the name of a distribution"),
    "version": (lambda m: rewritten(m, lambda c: c["requires"].append({"distribution": "acme", "version": "1 --pre"})), "requires."),
    "key": (lambda m: rewritten(m, lambda c: c.update(trust_remote_code=True)), "trust_remote_code"),
    "schema": (lambda m: rewritten(m, lambda c: c.update(schema=2)), "is 2, this mgzoo reads 1"),
    "missing": (lambda m: (m / SHARDS[1]).unlink(), f"{SHARDS[1]} is not on the hub\n    -> push the artifact again"),
    "truncated": (lambda m: (m / SHARDS[1]).write_bytes((m / SHARDS[1]).read_bytes()[:1000]), f"{SHARDS[1]} has 1,000 bytes on the hub, expected "),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_artifact_is_refused_before_any_weight_is_fetched(loopback, model, repo, case, tmp_path):
    change, said = HOSTILE[case]
    change(model)
    planted(model, repo)
    loopback.log()
    assert said.format(repo=repo) in refused(pull, repo, "pulled")
    assert nothing_arrived(tmp_path) and not [line for line in loopback.lines() if "safetensors" in line or "/-/objects/" in line]


def test_everything_that_is_wrong_is_said_together(loopback, model, repo):
    manifest = read_manifest(model)
    weights = manifest.files[SHARDS[0]]
    resealed(
        model,
        license="cc-by-nc-4.0",
        parts={**manifest.parts, "task": dataclasses.replace(manifest.parts["task"], use="acme.task.v1")},
        requires=(Requirement(distribution="acme-zoo", version="1.0"),),
        files={**manifest.files, SHARDS[0]: dataclasses.replace(weights, size=1 << 60)},
    )
    commit = planted(model, repo)
    with pytest.raises(ArtifactError) as caught:
        pull(repo, licenses=["apache-2.0"])
    assert sorted(one.kind for one in caught.value.problems) == ["disk", "license", "plugin", "size"]
    plugin = next(str(one) for one in caught.value.problems if one.kind == "plugin")
    assert "acme-zoo" in plugin and "identify the plugin and check that you trust it" in plugin and "pip install" not in plugin
    assert f"{repo}@{commit}" in str(caught.value)


@pytest.mark.parametrize("name", ["../../evil.txt", "/etc/evil.txt", "a/../../evil", "..\\evil"])
def test_a_listing_that_leads_out_of_the_folder_is_refused(loopback, model, repo, name, tmp_path):
    commit = push(model, repo, probe=False)
    listing = [{"type": "file", "path": path, "size": len(data), "oid": "0" * 40} for path, data in tree(model).items()]
    listing.append({"type": "file", "path": name, "size": 4, "oid": "0" * 40})
    loopback.faults({"on": "GET .*/tree/", "do": "body", "body": json.dumps(listing)})
    assert refused(pull, repo, "pulled") == (
        f"1 problem\n{repo}@{commit}: the hub lists {name!r}, a path outside the folder\n    -> do not use this artifact")
    assert nothing_arrived(tmp_path)


@pytest.mark.parametrize("key, told", [("../../evil", "is not a tensor name"), ("/etc/passwd", "is not a tensor name"), ("__class__", "unexpected tensor")])
def test_a_tensor_that_the_model_does_not_have_is_refused_and_its_name_never_used(loopback, model, repo, key, told):
    path = model / SHARDS[0]
    save_file(load_file(path) | {key: torch.zeros(2)}, path)
    write_manifest(read_manifest(model), model)
    planted(model, repo)
    before = set(Path("..").rglob("evil*"))
    said = refused(pull, repo, "pulled")
    assert key in said and told in said and os.listdir(".") == ["model"] and set(Path("..").rglob("evil*")) == before


@pytest.mark.parametrize("on", ["GET .*/xet-write-token/", "POST /-/cas/v1/xorbs/", "POST /-/cas/v1/shards"])
def test_a_push_through_a_broken_xet_publishes_nothing(loopback, model, repo, on):
    loopback.settings(xet=True)
    other = changed(model, f"other-{len(on)}")
    loopback.faults({"on": on, "do": "status", "status": 403, "message": "no"})
    said = refused(push, other, repo, probe=False)
    assert said.startswith(f"the storage behind the hub refused {repo}: Network error: Request error: HTTP status client error (403 Forbidden)")
    assert said.endswith("\n    -> check the network and HF_ENDPOINT, then try again; completed transfers are kept")
    loopback.faults()
    assert on_hub(repo) == [".gitattributes"]
