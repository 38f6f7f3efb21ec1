"""References, folder hubs, push and pull: one commit or none, nothing forbidden leaves, nothing unchecked arrives."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from mgzoo import storage
from mgzoo.artifact.manifest import FileEntry, commit_of, read_manifest, write_manifest
from mgzoo.artifact.secrets import find_secrets
from mgzoo.errors import ArtifactError
from mgzoo.hub.folder_hub import find_in_hub, publish_to_hub, read_refs
from mgzoo.hub.lookup import find_local, require_local
from mgzoo.hub.references import parse_reference
from mgzoo.model.build import build
from mgzoo.model.load import load
from mgzoo.model.save import save
from mgzoo.recipe.compose import compose
from mgzoo.share.pull import pull
from mgzoo.share.push import push
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError

TAE = """
schema: 1
description: a tiny autoencoder
parts:
  autoencoder:
    use: autoencoders.tae.v1
    config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0], attention: false}
  task: {use: autoencoders.reconstruct.v1}
"""


@pytest.fixture(scope="module")
def tae(tmp_path_factory):
    """An autoencoder's artifact."""
    place = tmp_path_factory.mktemp("tae")
    (place / "recipe.yaml").write_text(TAE)
    return save(build(compose(place / "recipe.yaml")), place / "model")


@pytest.fixture
def model(tae, tmp_path, monkeypatch):
    """A copy of it in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(tae, "model"))


def described(source, dest, text):
    """A copy of an artifact that says something else, so that it is another commit."""
    shutil.copytree(source, dest)
    (dest / "mgzoo.json").write_text(dataclasses.replace(read_manifest(dest), description=text).to_json())
    return dest


def tree(base):
    return {path.relative_to(base).as_posix(): path.read_bytes() for path in Path(base).rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------- references


def test_a_reference_is_a_folder_a_hub_or_an_endpoint(model):
    Path("runs/first").mkdir(parents=True)
    shutil.copytree(model, "runs/first/artifact")
    Path("hub").mkdir()
    assert parse_reference("model").folder == Path("model")
    assert parse_reference("runs/first").folder == Path("runs/first/artifact") == find_local(Path("runs/first"))
    ref = parse_reference("registry/tae@v1")
    assert (ref.name, ref.revision, ref.repo) == ("tae", "v1", "registry/tae") and ref.hub.name == "registry"
    for text in ("hub/tae", "./hub/tae", "../hub/tae", "/data/hub/tae", "a/b/tae", "~/tae"):
        ref = parse_reference(text)
        assert ref.hub == Path(text).expanduser().parent and ref.repo is None, text
    ref = parse_reference("org/name@v1.0")
    assert ref.is_endpoint and (ref.repo, ref.revision) == ("org/name", "v1.0")


@pytest.mark.parametrize("text", ["", "name", "@v1", "org/", "org/name@", "org/..", "org/na me", "-org/name", "hub/../../x@../y", "a//b@v 1"])
def test_what_is_no_reference_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MgzooError, match="is not an artifact reference"):
        parse_reference(text)
    assert find_local(text) is None


def test_what_is_not_there_is_named_with_what_is(model):
    commit = push(model, "./hub/tae@v1", probe=False)
    for ref, said in (
        ("./hub/tea", "hub has no artifact 'tea'\n    -> it has tae"),
        ("./hub/tae@v2", "hub/tae has no revision 'v2'\n    -> it has main, v1"),
        ("./hub/tae@000000000000", f"hub/tae has no commit 000000000000\n    -> it has {commit}"),
        ("org/name", "org/name is not on this machine\n    -> go online and run: mgzoo pull org/name"),
    ):
        with pytest.raises(MgzooError) as caught:
            require_local(ref)
        assert str(caught.value) == said and find_local(ref) is None


# ------------------------------------------------------------------------------------------- push and pull


def test_the_circle_of_push_pull_and_verify_keeps_every_byte(model):
    commit = push(model, "some/hub/tae@v1")
    assert json.loads(Path("some/hub/tae/refs.json").read_text()) == {"main": commit, "v1": commit}
    assert sorted(path.name for path in Path("some/hub/tae").iterdir()) == [".lock", commit, "refs.json"]
    pulled = pull("some/hub/tae@v1", "pulled")
    assert pulled == Path("pulled") and tree("pulled") == tree(model) and verify(pulled) == []
    for ref in ("some/hub/tae", "some/hub/tae@v1", f"some/hub/tae@{commit}"):
        assert pull(ref) == Path(os.environ["MGZOO_HOME"]) / "hub" / "tae" / commit
        assert verify(ref) == []
    assert load("some/hub/tae").recipe.description == "a tiny autoencoder"


def test_a_run_folder_is_pushed_and_verified_through_its_artifact(model):
    Path("runs/first").mkdir(parents=True)
    shutil.move(model, "runs/first/artifact")
    checkpoint = Path("runs/first/checkpoints/step-000010")
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.safetensors").write_bytes(b"weights")
    listed = {"weights.safetensors": {"size": 7, "blake3": storage.digest_file(checkpoint / "weights.safetensors")}}
    (checkpoint / "manifest.json").write_text(json.dumps({"step": 10, "files": listed}))
    assert push("runs/first", "./hub/tae", probe=False) == commit_of("runs/first/artifact")
    assert verify("runs/first") == []
    (checkpoint / "weights.safetensors").write_bytes(b"weighty")
    (Path("runs/first/artifact") / "LICENSE").unlink()
    assert [(one.kind, one.origin.source) for one in verify("runs/first")] == [
        ("digest", "runs/first/checkpoints/step-000010/weights.safetensors"),
        ("missing-file", "runs/first/artifact/LICENSE"),
    ]


def test_a_tag_stays_where_it_is_and_main_moves(model):
    first = push(model, "./hub/tae@v1", probe=False)
    second = push(described(model, Path("other"), "newer"), "./hub/tae@v2", probe=False)
    assert read_refs("hub", "tae") == {"main": second, "v1": first, "v2": second}
    before = tree("hub")
    with pytest.raises(MgzooError, match="already has a tag 'v1'"):
        push("other", "./hub/tae@v1", probe=False)
    with pytest.raises(MgzooError, match="'main' is not a valid tag"):
        push("other", "./hub/tae@main", probe=False)
    assert tree("hub") == before
    assert push(model, "./hub/tae@v1", probe=False) == first
    assert find_in_hub("hub", "tae").name == first


def test_of_two_pushes_made_on_one_parent_the_later_is_refused(model):
    first = push(model, "./hub/tae", probe=False)
    rival = described(model, Path("rival"), "the rival's")
    mine = described(model, Path("mine"), "mine")

    def fill(staging):
        push(rival, "./hub/tae", probe=False)
        storage.copy_files(mine, staging, tree(mine))

    with pytest.raises(MgzooError) as caught:
        publish_to_hub("hub", "tae", fill)
    winner = commit_of(rival)
    assert caught.value.what == f"hub/tae has changed: main is {winner}, this push is based on {first}"
    assert sorted(os.listdir("hub/tae")) == sorted([".lock", first, winner, "refs.json"])
    with pytest.raises(MgzooError, match="has changed"):
        push(mine, "./hub/tae", parent=first, probe=False)
    assert push(mine, "./hub/tae", parent=winner, probe=False) == commit_of(mine)


def test_many_pushes_at_once_all_succeed_or_are_refused_and_none_is_lost(model):
    sources = [described(model, Path(f"model-{i}"), f"number {i}") for i in range(6)]
    done, refused = [], []

    def work(source):
        try:
            done.append(push(source, "./hub/tae", probe=False))
        except MgzooError as error:
            assert "has changed" in error.what
            refused.append(source)

    threads = [threading.Thread(target=work, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done and len(done) + len(refused) == len(sources)
    assert sorted(os.listdir("hub/tae")) == sorted([".lock", *done, "refs.json"]) and find_in_hub("hub", "tae").name in done


@pytest.mark.parametrize("name", ["zero_to_fp32.py", "optimizer.pt", "backbone/model.bin", "weights.pkl", "train.log", "token", ".env", "scheduler.safetensors",
                                  "global_step10/mp_rank_00_model_states.pt", "backbone/adapter_model.bin", "optimizer.safetensors", "metrics.jsonl",
                                  "events.out.tfevents.1", ".netrc", "autoencoder/model.py", "probe/inputs.pkl", "hf_token.txt", "id_ed25519"])
def test_what_must_not_leave_stays_behind_and_cannot_be_listed(model, name):
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(b"not for the world")
    said = []
    push(model, "./hub/tae", probe=False, report=said.append)
    assert f"not pushed: {model / name} is not part of the artifact" in said
    assert not [path for path in tree("hub") if path.endswith(name)]
    manifest = read_manifest(model)
    entry = FileEntry(size=17, blake3=storage.digest_file(model / name))
    (model / "mgzoo.json").write_text(dataclasses.replace(manifest, files={**manifest.files, name: entry}).to_json())
    with pytest.raises(ArtifactError, match="not an allowed file name in an artifact"):
        push(model, "./hub/listed", probe=False)
    assert not Path("hub/listed").exists()


@pytest.mark.parametrize(
    "line",
    ["hf_" + "aB3" * 10, "AKIA" + "ABCD" * 4, "ghp_" + "x1" * 18, "-----BEGIN RSA PRIVATE KEY-----", "api_key: '0123456789abcdef0123'", "sk-" + "a1" * 20],
)
def test_a_secret_in_a_text_stops_the_push_and_is_not_repeated(model, line):
    with open(model / "README.md", "a") as file:
        file.write(f"\nlogin with {line}\n")
    write_manifest(read_manifest(model), model)
    with pytest.raises(ArtifactError) as caught:
        push(model, "./hub/tae", probe=False)
    assert {one.kind for one in caught.value.problems} == {"secret"} and line not in str(caught.value)
    assert not Path("hub").exists() or not any(Path("hub").iterdir())


def test_a_damaged_artifact_is_not_pushed(model):
    path = model / "autoencoder" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ArtifactError, match="expected"):
        push(model, "./hub/tae")
    assert not Path("hub").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["ctrl-c", "full"])
def test_a_push_or_a_pull_that_is_cut_short_anywhere_leaves_nothing_half_written(model, monkeypatch, error):
    first = push(model, "./hub/tae", probe=False)
    newer = described(model, Path("other"), "newer")
    commits = {first, commit_of(newer)}
    real = os.fsync
    for do in (lambda: push(newer, "./hub/tae", probe=False), lambda: pull("./hub/tae", "pulled")):
        for count in range(100):
            calls = iter(range(1000))

            def fsync(handle, calls=calls, count=count):
                if next(calls) == count:
                    raise error
                return real(handle)

            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", fsync)
                try:
                    do()
                except (KeyboardInterrupt, MgzooError) as caught:
                    assert isinstance(caught, KeyboardInterrupt) or "disk full while" in caught.what
                else:
                    break
            assert not [path for path in Path(".").rglob(".*.mgzoo-*")]
            assert set(os.listdir("hub/tae")) - {".lock"} == {"refs.json", *read_refs("hub", "tae").values()} | {first}
            assert find_in_hub("hub", "tae").name in commits and verify("hub/tae", probe=False) == []
            if Path("pulled").exists():
                assert verify("pulled", probe=False) == []
                shutil.rmtree("pulled")
        assert count > 8


def test_pushing_again_repairs_a_damaged_commit(model):
    commit = push(model, "./hub/tae", probe=False)
    (Path("hub/tae") / commit / "LICENSE").write_text("changed")
    assert [one.kind for one in verify("./hub/tae", probe=False)] == ["size"]
    assert push(model, "./hub/tae", probe=False) == commit and verify("./hub/tae", probe=False) == []


def test_a_pull_never_overwrites(model):
    push(model, "./hub/tae", probe=False)
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("precious")
    with pytest.raises(MgzooError, match="mine exists"):
        pull("./hub/tae", "mine")
    Path("empty").mkdir()
    assert pull("./hub/tae", "empty") == Path("empty") and os.listdir("mine") == ["thesis.txt"]


def planted(model, change):
    """Push, then change what lies in the hub, as an attacker or a bad disk would."""
    commit = push(model, "./hub/tae", probe=False)
    change(Path("hub/tae") / commit)


def manifest_with(**values):
    def change(place):
        content = json.loads((place / "mgzoo.json").read_text())
        (place / "mgzoo.json").write_text(json.dumps(content | {key: value(content) for key, value in values.items()}))

    return change


@pytest.mark.parametrize(
    "change, said",
    [
        (manifest_with(files=lambda c: c["files"] | {"../../evil": {"size": 1, "blake3": "0" * 64}}), "not an allowed file name in an artifact"),
        (manifest_with(files=lambda c: c["files"] | {"/etc/cron.d/evil": {"size": 1, "blake3": "0" * 64}}), "not an allowed file name in an artifact"),
        (manifest_with(files=lambda c: c["files"] | {"setup.py": {"size": 1, "blake3": "0" * 64}}), "not an allowed file name in an artifact"),
        (manifest_with(schema=lambda c: 2), "is 2, this mgzoo reads 1"),
        (manifest_with(description=lambda c: "x" * 2_000_000), "larger than 1,000,000 bytes"),
        (lambda place: (place / "autoencoder/model.safetensors").write_bytes(b"short"), "the file has 5 bytes, expected"),
        (lambda place: (place / "LICENSE").unlink(), "the file is missing"),
        (lambda place: (place / "LICENSE").unlink() or (place / "LICENSE").symlink_to("/etc/hostname"), "a link to a place outside"),
        (lambda place: (place.parent / "refs.json").write_text('{"main": "../../x"}'), "'main' does not name a commit"),
        (lambda place: (place.parent / "refs.json").write_text("{"), "is damaged"),
    ],
    ids=["up", "absolute", "code", "schema", "huge", "truncated", "missing", "link", "refs", "refs-json"],
)  # fmt: skip
def test_a_hostile_or_damaged_hub_is_refused_before_anything_arrives(model, change, said):
    planted(model, change)
    before = set(Path(".").rglob("*"))
    with pytest.raises(MgzooError) as caught:
        pull("./hub/tae", "pulled")
    assert said in str(caught.value) and set(Path(".").rglob("*")) == before


def test_licence_plugins_and_space_are_reported_together_before_copying(model):
    def change(place):
        manifest = read_manifest(place)
        entry = manifest.files["autoencoder/model.safetensors"]
        files = {**manifest.files, "autoencoder/model.safetensors": dataclasses.replace(entry, size=1 << 60)}
        parts = {**manifest.parts, "task": dataclasses.replace(manifest.parts["task"], use="acme.task.v1")}
        (place / "mgzoo.json").write_text(dataclasses.replace(manifest, files=files, parts=parts, license="cc-by-nc-4.0").to_json())

    planted(model, change)
    with pytest.raises(ArtifactError) as caught:
        pull("./hub/tae", "pulled", licenses=("apache-2.0", "mit"))
    assert [one.kind for one in caught.value.problems] == ["plugin", "license", "disk"]
    assert caught.value.problems[1].remedy == "add it to policy.licenses (apache-2.0, mit), or choose another artifact"
    assert pull.__doc__ and not Path("pulled").exists()


def test_a_damaged_cached_copy_is_replaced(model):
    push(model, "./hub/tae", probe=False)
    place = pull("./hub/tae")
    (place / "README.md").write_text("changed")
    assert pull("./hub/tae") == place and verify(place, probe=False) == []


# ------------------------------------------------------------------------------------------- endpoints, without a network


def test_an_artifact_in_the_hugging_face_cache_is_found_without_a_socket(model, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(Path("cache").resolve()))
    base, commit = Path("cache/models--org--name"), "0123456789" * 4
    for name, data in tree(model).items():
        blob = base / "blobs" / blake3(data).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link = base / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (base / "refs").mkdir()
    (base / "refs" / "v1").write_text(commit)
    folder_ = (base / "snapshots" / commit).resolve()
    assert find_local("org/name@v1") == find_local(f"org/name@{commit}") == require_local("org/name@v1") == folder_
    assert find_local("org/name") is None
    assert verify("org/name@v1") == []
    os.unlink(folder_ / "LICENSE")
    assert find_local("org/name@v1") is None


@pytest.mark.parametrize("code", ["mgzoo.pull('org/name@v1')", "mgzoo.push('model', 'org/name@v1', probe=False)"])
def test_an_endpoint_that_cannot_be_reached_is_an_error_with_a_remedy(model, code):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(Path("hf").resolve()), "HF_HUB_OFFLINE": "0"}
    script = f"import mgzoo\nfrom mgzoo.spec import MgzooError\ntry: {code}\nexcept MgzooError as error: print(error.remedy)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "check the network and HF_ENDPOINT, then try again; completed transfers are kept", done.stderr


def test_the_file_names_and_the_licence_text_of_an_artifact_pass_the_secret_scan(model):
    assert find_secrets(model, read_manifest(model)) == []


def test_a_push_waits_for_that_of_another_process_and_for_no_dead_one(model):
    """The lock is a file that any account may open, beside refs.json: file systems that machines share lock files, not folders."""
    first = push(model, "./hub/tae", probe=False)
    assert Path("hub/tae/.lock").stat().st_mode & 0o666 == 0o666
    holds = "from filelock import FileLock\nwith FileLock('hub/tae/.lock'):\n    print('in', flush=True)\n    input()"
    other = subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "in\n"
    pushing = threading.Thread(target=push, args=(described(model, Path("other"), "newer"), "./hub/tae"), kwargs={"probe": False})
    pushing.start()
    pushing.join(1.0)
    assert pushing.is_alive() and find_in_hub("hub", "tae").name == first
    other.kill()
    pushing.join()
    other.communicate()
    assert find_in_hub("hub", "tae").name != first


def test_a_push_composes_the_recipe_once(model, monkeypatch):
    """The artifact is opened once and handed to every check, golden outputs included: three times before."""
    from mgzoo.recipe import artifact_check

    composed, compose = [], artifact_check.compose
    monkeypatch.setattr(artifact_check, "compose", lambda *arguments: composed.append(arguments) or compose(*arguments))
    push(model, "./hub/name")
    assert len(composed) == 1
