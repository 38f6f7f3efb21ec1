"""Saving and loading: the same bits, whole or not at all, and nothing is used before its digest was checked."""

import dataclasses
import errno
import importlib
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mgzoo import storage
from mgzoo.artifact import quantization
from mgzoo.artifact.integrity import check_plugins
from mgzoo.artifact.manifest import Requirement, WeightsReference, commit_of, is_allowed_file, read_manifest, read_part_config, write_manifest
from mgzoo.artifact.quantization import dequantize_rows, quantize_rows
from mgzoo.artifact.tensors import read_tensors, write_shards
from mgzoo.discovery import discover
from mgzoo.errors import ArtifactError, RecipeError
from mgzoo.hub.lookup import find_local
from mgzoo.model.build import build
from mgzoo.model.card import parse_evaluation
from mgzoo.model.load import fill_part, load
from mgzoo.model.part_weights import load_part_weights
from mgzoo.model.save import save
from mgzoo.recipe.compose import compose
from mgzoo.share.describe import describe
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
T2V = """
schema: 1
description: a tiny text to video model
parts:
  autoencoder: {use: autoencoders.tae.v1, weights: registry/tae@v1, frozen: true}
  encoders:
    text: {use: encoders.bytes.v1, config: {width: 16, depth: 1, heads: 2, buckets: 32, max_len: 16}}
  backbone: {use: backbones.llama3.v1, config: {depth: 1, width: 32, heads: 2, ffn: 32, max_len: [4, 4, 4], frequency_dim: 16}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 32, width: 32}}
"""


def model_of(text, folder, seed=0):
    (folder / "recipe.yaml").write_text(text + f"seed: {seed}\n")
    model = build(compose(folder / "recipe.yaml"))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


@pytest.fixture(scope="module")
def tae(tmp_path_factory):
    """An autoencoder's artifact."""
    folder = tmp_path_factory.mktemp("tae")
    return save(model_of(TAE, folder), folder / "model", metrics={"loss": 0.5, "steps": 10}, data_note="Emoji, MIT.")


@pytest.fixture
def place(tmp_path, monkeypatch, tae):
    """A working folder with a registry that holds the autoencoder as registry/tae@v1."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry").mkdir()
    push(tae, "registry/tae@v1", probe=False)
    return tmp_path


def copied(source, dest):
    shutil.copytree(source, dest)
    return dest


def kinds(folder, **options):
    return [problem.kind for problem in verify(folder, **options)]


def resealed(folder, change):
    """Change a part's tensors and write a manifest that agrees with the change."""
    path = folder / "autoencoder" / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    write_manifest(read_manifest(folder), folder)
    return folder


def test_a_saved_model_loads_with_the_same_bits_and_is_found_sound(tae):
    assert verify(tae) == []
    loaded, saved = load(tae), load_file(tae / "autoencoder" / "model.safetensors")
    assert not loaded.training
    assert all(torch.equal(value, saved[key]) for key, value in loaded.autoencoder.state_dict().items())
    again = save(loaded, tae.parent / "again")
    assert (again / "autoencoder" / "model.safetensors").read_bytes() == (tae / "autoencoder" / "model.safetensors").read_bytes()
    assert (again / "probe" / "outputs.safetensors").read_bytes() == (tae / "probe" / "outputs.safetensors").read_bytes()


def test_the_layout_is_the_design_s(tae):
    files = sorted(path.relative_to(tae).as_posix() for path in tae.rglob("*") if path.is_file())
    assert files == [
        "LICENSE", "README.md", "autoencoder/config.json", "autoencoder/model.safetensors", "mgzoo.json",
        "probe/inputs.safetensors", "probe/outputs.safetensors", "recipe.lock.json", "recipe.yaml",
    ]  # fmt: skip
    manifest = read_manifest(tae)
    assert {name: (part.use, part.trained) for name, part in manifest.parts.items()} == {
        "autoencoder": ("autoencoders.tae.v1", True),
        "task": ("autoencoders.reconstruct.v1", False),
    }
    assert [requirement.distribution for requirement in manifest.requires] == ["mgzoo-autoencoders"]
    assert manifest.contract.latent.space == "autoencoders.tae16" and manifest.metrics == {"loss": 0.5, "steps": 10}
    assert read_part_config(tae, "autoencoder")["widths"] == [16, 16, 16, 16]


def test_large_parts_are_stored_in_bf16_and_buffers_and_small_parts_in_float32(tmp_path, monkeypatch):
    model = model_of(TAE, tmp_path)
    small = save(model, tmp_path / "small", golden=False)
    assert {value.dtype for value in load_file(small / "autoencoder" / "model.safetensors").values()} == {torch.float32}
    monkeypatch.setattr(importlib.import_module("mgzoo.model.save"), "BF16_FROM", 1000)
    large = save(model, tmp_path / "large", golden=False)
    dtypes = {key: value.dtype for key, value in load_file(large / "autoencoder" / "model.safetensors").items()}
    parameters = {key for key, _ in model.autoencoder.named_parameters()}
    assert {key for key, dtype in dtypes.items() if dtype == torch.bfloat16} == parameters
    assert {dtypes[key] for key in dtypes.keys() - parameters} == {torch.float32}
    chosen = load(large, dtype=torch.float32).autoencoder
    assert {parameter.dtype for parameter in chosen.parameters()} == {torch.float32}


def test_eight_bits_are_half_of_bfloat16_and_within_the_rounding_of_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "MIN_QUANTIZED_SIZE", 64)
    model = model_of(TAE, tmp_path)
    plain, small = model.save(tmp_path / "plain", dtype=torch.bfloat16), model.save(tmp_path / "small", dtype=torch.int8)
    assert verify(small) == [] and loaded_bytes(small) < 0.62 * loaded_bytes(plain)
    for key, weight in load(small).autoencoder.state_dict().items():
        exact = model.autoencoder.state_dict()[key].float()
        largest = exact.abs().flatten(1).amax(1) if exact.ndim > 1 else exact.abs().max()
        error = (weight.float() - exact).abs().flatten(1).amax(1) if exact.ndim > 1 else (weight.float() - exact).abs()
        assert (error <= largest * (0.5 / 127 + 2**-8)).all(), key
    damaged = quantize_rows({"a": torch.randn(64, 64)})
    for change in ({"a:scale": torch.ones(3)}, {"a": torch.ones(64, 64)}, {"b:scale": torch.ones(64)}):
        with pytest.raises(MgzooError, match="scale"):
            dequantize_rows({**damaged, **change})


def loaded_bytes(folder) -> int:
    return (folder / "autoencoder" / "model.safetensors").stat().st_size


def test_given_state_goes_before_the_model_s_own(tmp_path):
    model = model_of(TAE, tmp_path)
    name = next(name for name, _ in model.autoencoder.named_parameters())
    value = torch.full_like(model.autoencoder.state_dict()[name], 0.25)
    save(model, tmp_path / "model", state={"autoencoder": {name: value}}, golden=False)
    assert torch.equal(load_part_weights(tmp_path / "model", "autoencoder")[1][name], value)
    with pytest.raises(MgzooError, match="the state to save has an unknown tensor 'nothing' of autoencoder"):
        save(model, tmp_path / "other", state={"autoencoder": {"nothing": value}})
    with pytest.raises(MgzooError, match="gather the weights of all ranks"):
        save(model, tmp_path / "other", state={"autoencoder": {name: value.flatten()[:0]}})
    assert not (tmp_path / "other").exists()


def test_a_frozen_part_of_a_hub_is_a_reference_and_a_changed_one_is_stored(place):
    model = build(compose_text(T2V, place))
    saved = save(model, place / "t2v")
    base = find_local("registry/tae@v1")
    digest = storage.digest_file(base / "mgzoo.json")
    entry = read_manifest(saved).parts["autoencoder"]
    assert entry.weights == WeightsReference(repo="registry/tae", commit=digest[:12], part="autoencoder", digest=digest) and not entry.trained
    assert sorted(path.name for path in (saved / "autoencoder").iterdir()) == ["config.json"]
    assert verify(saved) == []
    loaded = load(saved)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    config, state = load_part_weights(saved, "autoencoder")
    assert config["widths"] == [16, 16, 16, 16] and torch.equal(state["latent_mean"], model.autoencoder.latent_mean)

    push(saved, "./hub/t2v", probe=False)
    assert verify(pull("./hub/t2v", "pulled"), probe=False) == []
    rounded = build(compose_text(T2V, place))
    rounded.autoencoder.bfloat16()
    assert isinstance(read_manifest(save(rounded, place / "rounded", golden=False)).parts["autoencoder"].weights, WeightsReference)

    shutil.rmtree(place / "registry" / "tae")
    assert kinds(saved) == ["base"]
    with pytest.raises(ArtifactError, match="registry/tae@.* is not on this machine"):
        pull("./hub/t2v", "again")
    with pytest.raises(MgzooError, match="has no artifact 'tae'"):
        load(saved)

    with torch.no_grad():
        next(model.autoencoder.parameters()).add_(1)
    changed = save(model, place / "changed")
    assert read_manifest(changed).parts["autoencoder"].weights == ("autoencoder/model.safetensors",)


def test_a_base_that_is_another_one_is_refused(place):
    saved = save(build(compose_text(T2V, place)), place / "t2v")
    base = find_local("registry/tae@v1")
    manifest = read_manifest(base)
    (base / "mgzoo.json").write_text(dataclasses.replace(manifest, description="another").to_json())
    assert kinds(saved) == ["base"]
    with pytest.raises(MgzooError, match="is another artifact than the one used: its mgzoo.json has digest"):
        load(saved)


def compose_text(text, folder):
    (folder / "recipe.yaml").write_text(text)
    return compose(folder / "recipe.yaml")


def test_shards_hold_what_one_file_holds(tmp_path):
    generator = torch.Generator().manual_seed(0)
    state = {f"block.{i}": torch.randn(10, 10, generator=generator) for i in range(7)} | {"tied": torch.ones(3)}
    names = write_shards(state, tmp_path / "backbone", shard_bytes=1000)
    assert names == [f"model-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4)]
    index = json.loads((tmp_path / "backbone" / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 7 * 400 + 12} and index["weight_map"].keys() == state.keys()
    back = read_tensors(tmp_path / "backbone" / name for name in names)
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)
    assert all(is_allowed_file(f"backbone/{path.name}") for path in (tmp_path / "backbone").iterdir())


def test_tied_and_strided_tensors_are_written_as_they_look(tmp_path):
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    write_shards({"a": weight, "b": weight, "c": weight.transpose(0, 1)}, tmp_path)
    back = read_tensors([tmp_path / "model.safetensors"])
    assert torch.equal(back["a"], weight) and torch.equal(back["b"], weight) and torch.equal(back["c"], weight.transpose(0, 1))


def test_weights_keep_the_memory_layout_of_the_part():
    part = torch.nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    state = {key: torch.randn(value.shape).bfloat16() for key, value in part.state_dict().items()}
    fill_part(part, dict(state))
    assert part.weight.is_contiguous(memory_format=torch.channels_last) and not part.weight.is_contiguous()
    assert torch.equal(part.weight, state["weight"]) and part.weight.requires_grad


def test_values_that_are_not_finite_are_not_saved(tmp_path):
    model = model_of(TAE, tmp_path)
    with torch.no_grad():
        next(model.autoencoder.parameters())[0] = float("nan")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MgzooError, match="non-finite values"):
        save(model, tmp_path / "model")
    assert sorted(tmp_path.iterdir()) == before


def flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 0x10
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def leave(path):
    outside = path.parents[2] / "outside"
    shutil.move(path, outside)
    path.symlink_to(outside)


@pytest.mark.parametrize(
    "damage, kind, what",
    [
        (flip, "digest", "the file has blake3 {actual}, expected {expected}"),
        (cut, "size", "the file has {short:,} bytes, expected {size:,}"),
        (os.remove, "missing-file", "the file is missing"),
        (leave, "link", "the file is a link to a place outside the artifact"),
    ],
)
def test_damaged_weights_are_found_and_named_and_never_used(tae, tmp_path, damage, kind, what):
    folder = copied(tae, tmp_path / "model")
    path = folder / "autoencoder" / "model.safetensors"
    expected = storage.digest_file(path)
    size = path.stat().st_size
    damage(path)
    said = what.format(actual=storage.digest_file(path) if path.exists() else "", expected=expected, size=size, short=size - 8)
    assert [str(one) for one in verify(folder)] == [f"{path}: {said}\n    -> pull or save the artifact again"] or kind == "link"
    assert kinds(folder) == [kind]
    for use in (lambda: load(folder), lambda: load_part_weights(folder, "autoencoder")):
        with pytest.raises(ArtifactError) as caught:
            use()
        assert [one.kind for one in caught.value.problems] == [kind]


def test_a_config_that_is_not_the_recipes_is_found_though_its_digest_is_right(tae, tmp_path):
    """Recipes that start from these weights inherit it."""
    folder = tmp_path / "model"
    shutil.copytree(tae, folder)
    config = json.loads((folder / "autoencoder/config.json").read_text())
    (folder / "autoencoder/config.json").write_text(json.dumps({**config, "widths": [32, 16, 16, 16], "of_a_later_version": 1}))
    write_manifest(read_manifest(folder), folder)
    (problem,) = verify(folder)
    assert str(problem) == (
        f"{folder}/autoencoder/config.json: widths: is [32, 16, 16, 16], recipe.yaml has [16, 16, 16, 16]\n    -> save the artifact again"
    )


@pytest.mark.parametrize("name", ["README.md", "recipe.yaml", "autoencoder/config.json", "probe/outputs.safetensors", "LICENSE"])
def test_any_changed_file_is_found(tae, tmp_path, name):
    folder = copied(tae, tmp_path / "model")
    flip(folder / name)
    assert [(one.kind, one.origin.source) for one in verify(folder)] == [("digest", str(folder / name))]


def test_all_damage_is_reported_at_once(tae, tmp_path):
    folder = copied(tae, tmp_path / "model")
    flip(folder / "README.md")
    os.remove(folder / "LICENSE")
    (folder / "evil.py").write_text("print()")
    assert sorted(kinds(folder)) == ["digest", "missing-file", "unlisted"]


def test_weights_that_do_not_fit_the_part_are_found_by_their_headers(tae, tmp_path):
    def change(state):
        state["latent_mean"] = torch.zeros(3)
        state["stranger"] = state.pop("latent_std")

    folder = resealed(copied(tae, tmp_path / "model"), change)
    found = verify(folder)
    assert [one.what for one in found] == [
        "missing tensor latent_std [16]",
        "unexpected tensor stranger [16]",
        "latent_mean has shape [3], the part has [16]",
    ]
    with pytest.raises(ArtifactError, match="3 problems"):
        load(folder)


def test_the_probe_finds_other_weights_and_passes_rounding(tae, tmp_path):
    def other(state):
        key = max(state, key=lambda name: state[name].numel())
        state[key] = state[key] * 1.5

    def rounded(state):
        key = max(state, key=lambda name: state[name].numel())
        state[key] = state[key] * (1 + 1e-6)

    assert "probe" in kinds(resealed(copied(tae, tmp_path / "other"), other))
    assert kinds(resealed(copied(tae, tmp_path / "rounded"), rounded)) == []
    assert kinds(tmp_path / "other", probe=False) == []


def test_a_manifest_that_does_not_agree_with_its_recipe_is_refused(tae, tmp_path):
    folder, manifest = copied(tae, tmp_path / "model"), read_manifest(tae)
    parts = {"autoencoder": dataclasses.replace(manifest.parts["autoencoder"], weights=()), "sampler": manifest.parts["task"]}
    write_manifest(dataclasses.replace(manifest, parts=parts), folder)
    with pytest.raises(ArtifactError) as caught:
        load(folder)
    assert [(one.key, one.what) for one in caught.value.problems] == [
        ("parts.sampler", "the part is autoencoders.reconstruct.v1, recipe.yaml has nothing"),
        ("parts.task", "the part is nothing, recipe.yaml has autoencoders.reconstruct.v1"),
        ("parts.autoencoder", "the part has no weights"),
    ]


def test_a_recipe_that_asks_for_more_memory_than_its_weights_hold_gets_none(tae, tmp_path):
    folder = copied(tae, tmp_path / "model")
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("- 16\n", "- 1000000\n").replace("[16, 16, 16, 16]", "[1000000, 16, 16, 16]"))
    assert (folder / "recipe.yaml").read_text() != text
    write_manifest(read_manifest(folder), folder)
    with pytest.raises(ArtifactError, match="has shape .*1000000"):
        load(folder)


def test_describing_an_artifact_changes_its_card_and_not_its_weights(tae, tmp_path):
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "s.png")
    folder = copied(tae, tmp_path / "emoji")
    describe(folder, metrics={"minutes": 5}, samples=tmp_path / "s.png", data_note="Emoji, MIT.", license="mit")
    text = (folder / "README.md").read_text()
    assert "# emoji" in text and "| minutes | 5 |" in text and "| loss | 0.5 |" in text and "(sample.png)" in text and "license: mit" in text
    assert (folder / "autoencoder/model.safetensors").read_bytes() == (tae / "autoencoder/model.safetensors").read_bytes()
    assert verify(folder) == [] and commit_of(folder) != commit_of(tae)
    assert sorted(os.listdir(tmp_path)) == ["emoji", "s.png"]


def test_stored_values_that_are_not_finite_are_found(tae, tmp_path):
    folder = resealed(copied(tae, tmp_path / "model"), lambda state: state["latent_mean"].fill_(float("inf")))
    assert "not-finite" in kinds(folder)


def test_a_missing_plugin_is_named_with_its_pip_line_and_a_stranger_s_without(tae, tmp_path):
    manifest = read_manifest(tae)
    parts = {
        "autoencoder": dataclasses.replace(manifest.parts["autoencoder"], use="acme.vae.v1"),
        "task": dataclasses.replace(manifest.parts["task"], use="autoencoders.gone.v9"),
    }
    found = check_plugins(dataclasses.replace(manifest, parts=parts), tmp_path)
    assert [(one.key, one.what) for one in found] == [
        ("parts.autoencoder.use", "no installed plugin declares 'acme.vae.v1'"),
        ("parts.task.use", "unknown component 'autoencoders.gone.v9'"),
    ]
    assert found[0].remedy == "identify the plugin and check that you trust it; distributions in the manifest: mgzoo-autoencoders==0.1.0"
    assert "pip install" not in found[0].remedy


def test_a_missing_plugin_is_answered_with_the_version_that_is_required(tae, tmp_path, monkeypatch):
    """Of one on our list or in ./registry the pip line; of a stranger's the name and version alone, without those that are here."""
    manifest, registry = read_manifest(tae), discover()
    parts = {"autoencoder": dataclasses.replace(manifest.parts["autoencoder"], use="acme.vae.v1")}
    requires = (Requirement(distribution="mgzoo-acme", version="1.2"), Requirement(distribution="mgzoo-autoencoders", version="0.1.0"))
    wanted = dataclasses.replace(manifest, parts=parts, requires=requires)
    monkeypatch.chdir(tmp_path)
    (stranger,) = check_plugins(wanted, tmp_path)
    assert stranger.remedy == "identify the plugin and check that you trust it; distributions in the manifest: mgzoo-acme==1.2"
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "plugins.json").write_text('{"acme": "mgzoo-acme"}')
    (listed,) = check_plugins(wanted, tmp_path)
    assert listed.remedy == "pip install mgzoo-acme==1.2 (according to ./registry/plugins.json; check that you trust it)"
    monkeypatch.setattr(registry, "providers", {name: one for name, one in registry.providers.items() if name != "autoencoders"})
    monkeypatch.setattr(registry, "components", {name: one for name, one in registry.components.items() if one.namespace != "autoencoders"})
    (ours,) = check_plugins(dataclasses.replace(manifest, parts={"autoencoder": manifest.parts["autoencoder"]}), tmp_path)
    assert ours.remedy == "pip install mgzoo-autoencoders==0.1.0"
    with pytest.raises(RecipeError) as caught:  # and where the recipe is composed first
        compose(tae / "recipe.yaml")
    assert "pip install mgzoo-autoencoders==0.1.0" in str(caught.value)


class Interrupt:
    """Lets ``count`` calls of a function pass and raises at the next."""

    def __init__(self, call, count, error):
        self.call, self.left, self.error = call, count, error

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left == -1:
            raise self.error
        return self.call(*args, **kwargs)


@pytest.mark.parametrize("function", ["fsync", "rename"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")], ids=["ctrl-c", "full"])
def test_a_save_that_is_cut_short_anywhere_leaves_what_was_there(tmp_path, monkeypatch, function, error):
    model = model_of(TAE, tmp_path)
    old = save(model, tmp_path / "model", golden=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    count = 0
    while True:
        with monkeypatch.context() as patch:
            patch.setattr(os, function, Interrupt(getattr(os, function), count, error))
            try:
                save(model, old, metrics={"count": count}, golden=False)
            except (KeyboardInterrupt, MgzooError) as caught:
                if isinstance(caught, MgzooError):
                    assert caught.what == f"disk full while saving {old}"
            else:
                break
        kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        replaced = read_manifest(old).metrics == {"count": count} and verify(old, probe=False) == []
        assert kept == before or replaced
        before = kept
        count += 1
    assert count >= 2 and verify(old, probe=False) == []


def test_a_first_save_that_is_cut_short_leaves_nothing(tmp_path, monkeypatch):
    model = model_of(TAE, tmp_path)
    monkeypatch.setattr(os, "fsync", Interrupt(os.fsync, 3, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(model, tmp_path / "runs" / "model")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_that_is_no_artifact_is_never_replaced(tmp_path):
    model = model_of(TAE, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(MgzooError, match="exists and is not an artifact"):
        save(model, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_saving_leaves_the_model_and_the_random_stream_alone(tmp_path):
    model = model_of(TAE, tmp_path).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(1)
    first = torch.rand(3)
    torch.manual_seed(1)
    save(model, tmp_path / "model")
    assert torch.equal(torch.rand(3), first) and model.training
    assert all(torch.equal(value, before[key]) and value.dtype == before[key].dtype for key, value in model.state_dict().items())


EVALUATION = [
    {"name": "PSNR, held-out clips (dB)", "value": 23.77, "baseline": 21, "command": "mgzoo eval registry/tae judge.psnr.v1"},
    {"name": "by eye | twelve prompts", "value": "11 of 12"},
]


def test_every_section_of_the_card_is_there_and_says_so_where_nothing_is_known(tmp_path):
    sections = ["What it is made of", "Recipe", "Data", "Training", "Evaluation", "How to use it", "Limits", "Licence"]
    model = model_of(TAE, tmp_path)
    bare = (save(model, tmp_path / "bare", golden=False) / "README.md").read_text()
    assert [line[3:] for line in bare.splitlines() if line.startswith("## ")] == sections
    for said in ("No figures of the training were kept.", "It has not been evaluated.", "Its recipe names no data.", "trains it again", "weights: REF"):
        assert said in bare, said
    full = save(model, tmp_path / "full", metrics={"loss": 0.5}, data_note="Emoji, MIT.", evaluation=EVALUATION, golden=False)
    text = (full / "README.md").read_text()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == sections
    assert "| PSNR, held-out clips (dB) | 23.77 | 21 | `mgzoo eval registry/tae judge.psnr.v1` |" in text
    assert r"| by eye \| twelve prompts | 11 of 12 | – | – |" in text
    assert json.loads((full / "evaluation.json").read_text()) == EVALUATION and verify(full) == []


def test_an_evaluation_stays_until_another_is_given(tmp_path):
    folder = save(model_of(TAE, tmp_path), tmp_path / "tae", evaluation=EVALUATION, golden=False)
    describe(folder, metrics={"minutes": 5})
    assert "23.77" in (folder / "README.md").read_text() and json.loads((folder / "evaluation.json").read_text()) == EVALUATION
    (tmp_path / "figures.json").write_text('[{"name": "loss", "value": 1.5}]')
    describe(folder, evaluation=tmp_path / "figures.json")
    assert "| loss | 1.5 | – | – |" in (folder / "README.md").read_text() and "23.77" not in (folder / "README.md").read_text()
    describe(folder, evaluation=[])
    assert "It has not been evaluated." in (folder / "README.md").read_text() and not (folder / "evaluation.json").exists() and verify(folder) == []


@pytest.mark.parametrize("given, what", [
    ({"name": "loss"}, "an evaluation is a list of figures"),
    ([3], "figure 0 cannot be used: it is not an object"),
    ([{"name": "a", "value": 1}, {"name": "loss"}], "figure 1 cannot be used: it has name, not name, value, baseline and command"),
    ([{"name": "loss", "value": 1, "valeu": 2}], "it has name, value, valeu, not"),
    ([{"name": "loss", "value": float("nan")}], "value is nan"),
    ([{"name": "loss", "value": 1, "command": ["rm"]}], "command is ['rm']"),
    ("none.json", "no such file"),
])
def test_an_evaluation_that_says_something_else_is_refused(tmp_path, given, what):
    with pytest.raises(MgzooError) as caught:
        parse_evaluation(given)
    assert what in str(caught.value) and caught.value.remedy


def test_the_card_says_what_it_is_and_shows_pictures(tmp_path):
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "c.png")
    folder = save(
        model_of(TAE, tmp_path), tmp_path / "emoji-tae", metrics={"loss": 0.123456, "machine": "two cores", "bad": float("nan"), "validation": {"loss": 0.5}},
        curve=tmp_path / "c.png", samples=[tmp_path / "c.png"], data_note="Animated emoji under MIT.", golden=False,
    )  # fmt: skip
    text = (folder / "README.md").read_text()
    for line in (
        "license: apache-2.0", "# emoji-tae", "A tiny autoencoder.", "| loss | 0.1235 |", "| machine | two cores |", "| validation.loss | 0.5 |",
        "![training curve](curve.png)", "![what the model made](sample.png)", "Animated emoji under MIT.",
        "| autoencoder | `autoencoders.tae.v1` |", "`mgzoo-autoencoders`",
    ):  # fmt: skip
        assert line in text, line
    assert read_manifest(folder).metrics["bad"] == "nan" and verify(folder) == []
    with pytest.raises(MgzooError, match="cannot be used as curve.png"):
        save(model_of(TAE, tmp_path), tmp_path / "other", curve=tmp_path / "none.png")


def half(folder, **details):
    """The tiny autoencoder stored in bfloat16."""
    return save(model_of(TAE, folder), folder / "half", dtype=torch.bfloat16, **details)


def dtypes_of(model):
    return {parameter.dtype for parameter in model.autoencoder.parameters()}


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.int8])
def test_what_is_stored_in_bfloat16_is_computed_in_what_the_device_is_good_at(tmp_path, monkeypatch, stored):
    monkeypatch.setattr(quantization, "MIN_QUANTIZED_SIZE", 64)
    folder = save(model_of(TAE, tmp_path), tmp_path / "model", dtype=stored, golden=False)
    loaded = {}
    for said in ("bf16", "fp32"):
        monkeypatch.setenv("MGZOO_PRECISION", said)
        loaded[said] = load(folder)
    assert dtypes_of(loaded["bf16"]) == {torch.bfloat16} and dtypes_of(loaded["fp32"]) == {torch.float32}
    assert dtypes_of(load(folder, dtype=torch.bfloat16)) == {torch.bfloat16}  # asked for, wins
    for key, value in loaded["fp32"].autoencoder.state_dict().items():
        assert torch.equal(value, loaded["bf16"].autoencoder.state_dict()[key].to(value.dtype)), key
    again = save(loaded["fp32"], tmp_path / "again", dtype=torch.bfloat16, golden=False)
    if stored is torch.bfloat16:
        assert (again / "autoencoder/model.safetensors").read_bytes() == (folder / "autoencoder/model.safetensors").read_bytes()


@pytest.mark.parametrize("made, here", [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_probe_is_the_same_on_every_kind_of_processor_and_finds_a_wrong_weight(tmp_path, monkeypatch, made, here):
    """It is float32 whatever the file holds; a hundredth of one layer's weights is found either way."""
    monkeypatch.setenv("MGZOO_PRECISION", made)
    folder = half(tmp_path)
    monkeypatch.setenv("MGZOO_PRECISION", here)
    assert verify(folder) == []

    def slightly(state):
        key = max(state, key=lambda name: state[name].numel())
        state[key] = (state[key].float() * 1.02).bfloat16()

    assert set(kinds(resealed(folder, slightly))) == {"probe"}


def test_a_probe_of_before_that_was_computed_in_bfloat16_is_held_to_bfloat16(tmp_path, monkeypatch):
    folder = half(tmp_path)
    inputs, outputs = folder / "probe/inputs.safetensors", folder / "probe/outputs.safetensors"
    expected = {key: value * 1.01 for key, value in load_file(outputs).items()}
    save_file(load_file(inputs), inputs, {"parts": '["autoencoder"]'})
    save_file(expected, outputs)
    write_manifest(read_manifest(folder), folder)
    assert verify(folder) == []
    save_file({key: value * 1.04 for key, value in expected.items()}, outputs)
    write_manifest(read_manifest(folder), folder)
    assert set(kinds(folder)) == {"probe"}


def test_a_probe_that_differs_says_that_another_kind_of_processor_made_it(tmp_path):
    folder = half(tmp_path)
    inputs, outputs = folder / "probe/inputs.safetensors", folder / "probe/outputs.safetensors"
    save_file(load_file(inputs), inputs, {"parts": '["autoencoder"]', "precision": "float32", "processor": "riscv64"})
    save_file({key: value * 1.01 for key, value in load_file(outputs).items()}, outputs)
    write_manifest(read_manifest(folder), folder)
    assert "made on another kind of processor (riscv64, here " in verify(folder)[0].what
