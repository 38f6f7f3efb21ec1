"""mgzoo.json is strict, small, safe, and says everything that is wrong at once."""

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgzoo.artifact.manifest import FileEntry, Manifest, PartEntry, Requirement, WeightsReference, commit_of, is_allowed_file, parse_manifest, read_manifest
from mgzoo.errors import ArtifactError
from mgzoo.spec import ConditionSpec, Contract, LatentSpec, MgzooError

DIGEST = "0" * 64
GOOD = Manifest(
    mgzoo="0.1.0",
    description="text to video on animated emoji",
    license="apache-2.0",
    parts={
        "autoencoder": PartEntry(
            use="autoencoders.tae.v1",
            weights=WeightsReference(repo="registry/tae-emoji", commit="0123456789ab", part="autoencoder", digest=DIGEST),
        ),
        "encoders.text": PartEntry(use="encoders.bytes.v1", trained=True, weights=("encoders.text/model.safetensors",)),
        "sampler": PartEntry(use="samplers.euler.v1"),
    },
    contract=Contract(
        latent=LatentSpec(space="autoencoders.tae16", channels=16, stride=(8, 8, 8)),
        conditions=(ConditionSpec(name="text", dim=128, max_len=64),),
    ),
    requires=(Requirement(distribution="mgzoo-encoders", version="0.1.0"),),
    metrics={"loss": 0.25, "steps": 100, "machine": "2 cores"},
    files={"encoders.text/model.safetensors": FileEntry(size=10, blake3=DIGEST), "README.md": FileEntry(size=3, blake3=DIGEST)},
)


def changed(**values):
    content = json.loads(GOOD.to_json())
    for key, value in values.items():
        content[key] = value
    return json.dumps(content).encode()


def problems_of(data):
    with pytest.raises(ArtifactError) as caught:
        parse_manifest(data)
    return [(problem.key, problem.what) for problem in caught.value.problems]


def test_what_is_written_is_read_back():
    assert parse_manifest(GOOD.to_json().encode()) == GOOD
    bare = dataclasses.replace(GOOD, contract=Contract(), parts={}, requires=(), metrics={}, files={})
    assert parse_manifest(bare.to_json().encode()) == bare


def test_equal_content_gives_an_equal_commit(tmp_path):
    (tmp_path / "mgzoo.json").write_text(GOOD.to_json())
    commit = commit_of(tmp_path)
    (tmp_path / "mgzoo.json").write_text(parse_manifest(GOOD.to_json().encode()).to_json())
    assert commit_of(tmp_path) == commit and len(commit) == 12
    (tmp_path / "mgzoo.json").write_text(dataclasses.replace(GOOD, description="x").to_json())
    assert commit_of(tmp_path) != commit


@pytest.mark.parametrize(
    "name",
    [
        "../README.md", "/etc/passwd", "encoders.text/../../x", "encoders.text\\model.safetensors", "C:/README.md", "a/b/c/d",
        "backbone/model.bin", "backbone/model.pt", "backbone/model.pkl", "zero_to_fp32.py", "backbone/train.py", "optimizer.safetensors",
        "backbone/optim_states.pt", "run.log", ".env", ".git/config", "token", "backbone/", "", "backbone/model.safetensors\n", "con\x00fig",
        "encoders.../model.safetensors", "encoders.text/.config.json", "probe/model.safetensors", "mgzoo.json",
    ],
)  # fmt: skip
def test_a_name_that_an_artifact_may_not_hold_is_refused(name):
    found = problems_of(changed(files={**json.loads(GOOD.to_json())["files"], name: {"size": 1, "blake3": DIGEST}}))
    assert [what for _, what in found] == ["not an allowed file name in an artifact"]


@pytest.mark.parametrize(
    "name",
    [
        "README.md", "LICENSE", "recipe.yaml", "recipe.lock.json", "curve.png", "sample.png", "sample.mp4", "autoencoder/config.json",
        "encoders.text-2/model.safetensors", "backbone/model-00001-of-00012.safetensors", "backbone/model.safetensors.index.json",
        "probe/inputs.safetensors", "probe/outputs.safetensors", "task/model.safetensors",
    ],
)  # fmt: skip
def test_a_name_of_the_layout_is_allowed(name):
    assert is_allowed_file(name)


def test_every_problem_is_reported_together():
    content = json.loads(GOOD.to_json())
    del content["license"]
    content |= {"schema": 9, "extra": 1, "requires": [{"distribution": "evil; rm -rf /", "version": "1"}]}
    content["parts"]["sampler"] = {"use": "os:system", "trained": "yes", "weights": ["sampler/missing.safetensors"]}
    content["parts"]["../up"] = {}
    content["contract"]["latent"]["stride"] = [0]
    content["contract"]["conditions"][0]["kind"] = "smell"
    content["files"]["README.md"]["blake3"] = "abc"
    content["metrics"]["loss"] = [1]
    assert problems_of(json.dumps(content).encode()) == [
        ("extra", "unknown key"),
        ("license", "missing"),
        ("schema", "is 9, this mgzoo reads 1"),
        ("files.README.md.blake3", "'abc' is not a blake3 digest"),
        ("parts.sampler.trained", "must be true or false"),
        ("parts.sampler.use", "'os:system' is not a component id"),
        ("parts.sampler.weights", "'sampler/missing.safetensors' is not a listed file under sampler/"),
        ("parts.../up", "not the name of a part"),
        ("contract.latent.stride", "must be an integer >= 1, not 0"),
        ("contract.conditions.0.kind", "'smell' is not tokens, vector or frames"),
        ("requires.0.distribution", "'evil; rm -rf /' is not the name of a distribution"),
        ("metrics.loss", "must be a number or a short text"),
    ]


@pytest.mark.parametrize(
    "data, what",
    [
        (b"", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "must be an object, not list"),
        (b'{"schema": 1, "schema": 1}', "not JSON: duplicate key 'schema'"),
        (b'{"schema": NaN}', "not JSON: NaN is not JSON"),
        (b"\xff\xfe", "not JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"[" * 100_000, "not JSON: maximum recursion depth exceeded"),
        (b" " * 1_000_001, "larger than 1,000,000 bytes"),
    ],
)
def test_what_is_no_manifest_is_refused(data, what):
    assert problems_of(data)[0][1].startswith(what)


def test_an_oversized_file_is_not_read_whole(tmp_path):
    with open(tmp_path / "mgzoo.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtifactError, match="larger than 1,000,000 bytes"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_named(tmp_path):
    with pytest.raises(MgzooError) as caught:
        read_manifest(tmp_path)
    assert str(caught.value) == f"{tmp_path} is not an artifact: it has no mgzoo.json\n    -> give the folder of a saved model"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(key=st.sampled_from(sorted(json.loads(GOOD.to_json()))), value=json_values)
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere_is_read_or_refused_with_problems(key, value):
    try:
        parse_manifest(changed(**{key: value}))
    except ArtifactError as error:
        assert error.problems


@given(data=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused_with_problems(data):
    with pytest.raises(ArtifactError):
        parse_manifest(data)


def test_reading_manifests_and_refs_never_imports_torch():
    code = "import sys, mgzoo.artifact.manifest, mgzoo.hub.references, mgzoo.artifact.integrity, mgzoo.hub.fetch; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
