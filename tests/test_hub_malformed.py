"""Malformed weights: each gives a clear error, and nothing of them is loaded, pushed or pulled."""

import os
import shutil

import malformed
import pytest
import torch

from mgzoo import storage
from mgzoo.artifact.manifest import commit_of, read_manifest, write_manifest
from mgzoo.artifact.safetensors_header import DTYPE_BYTES, MAX_HEADER_BYTES, read_header, read_metadata
from mgzoo.artifact.tensors import DTYPES, MappedFiles, is_finite, read_tensors, tensor_shapes
from mgzoo.cli import run
from mgzoo.errors import ArtifactError
from mgzoo.model.build import build
from mgzoo.model.load import load
from mgzoo.model.part_weights import load_part_weights
from mgzoo.model.save import save
from mgzoo.recipe.compose import compose
from mgzoo.share.pull import pull
from mgzoo.share.push import push
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError

TAE = """
schema: 1
parts:
  autoencoder:
    use: autoencoders.tae.v1
    config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0], attention: false}
  task: {use: autoencoders.reconstruct.v1}
"""
WEIGHTS = "autoencoder/model.safetensors"
NOT_FINITE = ("NaN", "infinity")
"""Well formed: looked for when weights are saved, pushed, pulled and verified, and not again at each load, where a digest says they are the same."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An artifact whose weights each test replaces, with a manifest that says so."""
    place = tmp_path_factory.mktemp("malformed")
    (place / "recipe.yaml").write_text(TAE)
    return save(build(compose(place / "recipe.yaml")), place / "model", golden=False)


def test_the_corpus_has_at_least_fifteen_files_and_a_good_one_is_read(tmp_path):
    assert len(malformed.FILES) >= 15
    (tmp_path / "good.safetensors").write_bytes(malformed.GOOD)
    assert read_tensors([tmp_path / "good.safetensors"])["a"].tolist() == [1, 2]
    assert read_header(tmp_path / "good.safetensors") == {"a": malformed.entry()}


@pytest.mark.parametrize("name", malformed.FILES)
def test_a_malformed_file_is_refused_by_name_wherever_weights_are_read(folder, name, capsys):
    path = folder / WEIGHTS
    path.write_bytes(malformed.FILES[name])
    write_manifest(read_manifest(folder), folder)
    uses = [lambda: read_tensors([path]), lambda: load_part_weights(folder, "autoencoder"), lambda: load(folder)]
    for use in uses[:1] if name in NOT_FINITE else uses:
        with pytest.raises(MgzooError) as caught:
            use()
        assert str(path) in str(caught.value) and caught.value.remedy and len(str(caught.value)) < 500
    found = verify(folder)
    assert found and all(one.what and one.remedy for one in found)
    assert any(str(path) in str(one) or "non-finite" in one.what or one.kind == "shape" for one in found)
    with pytest.raises(ArtifactError):
        push(folder, f"{folder.parent}/hub/model")
    assert not (folder.parent / "hub").exists()
    run(["show", str(path)])
    assert "Traceback" not in capsys.readouterr().err


def test_a_header_is_not_read_beyond_its_limit(tmp_path):
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(1 << 33)
    with pytest.raises(MgzooError, match="its header has 50,000,001 bytes, more than 50,000,000"):
        read_tensors([path])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0.0])
def test_one_value_that_is_not_finite_is_seen(dtype, value):
    if dtype == torch.float8_e4m3fn and value == value:
        value = 0.0  # it knows no infinity
    tensor = torch.ones(3, 5).to(dtype)
    tensor[1, 2] = value
    assert is_finite(tensor) == (value == 0.0)
    assert is_finite(torch.zeros(0)) and is_finite(torch.ones(2, dtype=torch.int64))


def test_two_shards_with_one_name_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(malformed.GOOD)
    for read in (read_tensors, tensor_shapes):
        with pytest.raises(MgzooError, match="a is also in another shard"):
            read([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


@pytest.mark.parametrize("name, told", [("trailing bytes", "model.safetensors is damaged"), ("NaN", "a has non-finite values")])
def test_pulling_malformed_weights_leaves_nothing(folder, tmp_path, monkeypatch, name, told):
    monkeypatch.chdir(tmp_path)
    (folder / WEIGHTS).write_bytes(malformed.FILES[name])
    write_manifest(read_manifest(folder), folder)
    commit = commit_of(folder)
    shutil.copytree(folder, tmp_path / "hub" / "model" / commit)
    (tmp_path / "hub" / "model" / "refs.json").write_text(f'{{"main": "{commit}"}}')
    with pytest.raises(MgzooError, match=told):
        pull("./hub/model", "pulled")
    assert sorted(os.listdir(tmp_path)) == ["hub"]


def test_a_good_file_is_read_as_the_formats_own_library_reads_it(tmp_path):
    """Every type; a tensor without values, one without axes, and one at an address that its type cannot begin at."""
    from safetensors.torch import load_file, save_file

    state = {str(dtype): torch.ones(3, 2).to(dtype) for dtype in DTYPES.values()}
    state |= {"none": torch.zeros(0, 4), "one": torch.tensor(5.0), "x": torch.ones(1, dtype=torch.int8)}
    path = tmp_path / "a.safetensors"
    save_file(state, path, metadata={"said": "so"})
    assert {name: dtype.itemsize for name, dtype in DTYPES.items()} == DTYPE_BYTES
    back, known = read_tensors([path]), load_file(path)
    assert back.keys() == known.keys() and read_metadata(path) == {"said": "so"}
    for key, value in known.items():
        assert (back[key].dtype, back[key].shape) == (value.dtype, value.shape)
        assert torch.equal(back[key].contiguous().view(-1).view(torch.uint8), value.contiguous().view(-1).view(torch.uint8))
    odd = malformed.file(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   ', malformed.numbers(1, 2))
    (tmp_path / "odd.safetensors").write_bytes(odd)
    assert read_tensors([tmp_path / "odd.safetensors"])["a"].tolist() == [1, 2]


@pytest.mark.parametrize("name", malformed.FILES)
def test_what_the_formats_own_library_refuses_is_refused_by_the_header_alone(tmp_path, name):
    from safetensors import SafetensorError, safe_open

    path = tmp_path / "a.safetensors"
    path.write_bytes(malformed.FILES[name])
    try:
        with safe_open(path, "pt"):
            pass
    except (SafetensorError, OSError):
        with pytest.raises(MgzooError, match="is damaged"):
            read_header(path)


def test_weights_are_mapped_and_not_copied_and_the_file_stays_as_it_is(folder):
    (folder / WEIGHTS).write_bytes(malformed.GOOD)
    files = MappedFiles()
    digest = files.digest(folder / WEIGHTS)
    os.remove(folder / WEIGHTS)
    (folder / WEIGHTS).write_bytes(malformed.file({"a": malformed.entry()}, malformed.numbers(3, 4)))  # another file under the name
    a = files.tensors([folder / WEIGHTS])["a"]
    assert a.tolist() == [1, 2] and a.untyped_storage().nbytes() == 8
    assert digest != storage.digest_file(folder / WEIGHTS)
    a[0] = 7
    assert read_tensors([folder / WEIGHTS])["a"].tolist() == [3, 4]
    b = read_tensors([folder / WEIGHTS])["a"]
    b[0] = 7
    assert b.tolist() == [7, 4] and read_tensors([folder / WEIGHTS])["a"].tolist() == [3, 4]
