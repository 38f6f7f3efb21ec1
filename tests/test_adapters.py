"""Adapters: what a recipe may say of one, the mathematics, PEFT's files, and artifacts that refer to their base."""

import copy
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.checkpoint import checkpoint

import mgzoo
from mgzoo import storage
from mgzoo.artifact.manifest import WeightsReference, parse_manifest, read_manifest, write_manifest
from mgzoo.discovery import discover
from mgzoo.errors import ArtifactError
from mgzoo.hub.lookup import find_local
from mgzoo.model.build import build
from mgzoo.model.checks import meta_problems
from mgzoo.model.load import load
from mgzoo.model.lora import (
    adapted_layers,
    adapter_state_dict,
    attach_adapter,
    detach_adapter,
    linear_layers,
    merge_adapters,
    merge_state_dict,
    seed_dropout,
    set_train_mode,
)
from mgzoo.model.lora_files import load_adapter
from mgzoo.model.part_weights import load_part_weights
from mgzoo.model.save import save
from mgzoo.plan import plan
from mgzoo.recipe.compose import compose
from mgzoo.recipe.schema import Adapter
from mgzoo.share.pull import pull
from mgzoo.share.push import push
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError, RecipeError

torch.set_num_threads(1)

BASE = """\
schema: 1
description: a tiny text to video model
parts:
  encoders:
    text: {use: encoders.bytes.v1, config: {width: 16, depth: 1, heads: 2, buckets: 32, max_len: 16}}
  autoencoder:
    use: autoencoders.tae.v1
    config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0], attention: false}
    frozen: true
  backbone: {use: backbones.llama3.v1, config: {depth: 2, width: 32, heads: 2, ffn: 32, max_len: [4, 4, 4], frequency_dim: 16}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 32, width: 32}}
"""
ADAPTED = """\
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, weights: registry/base@v1, frozen: true}
  encoders:
    text: {use: encoders.bytes.v1, weights: registry/base@v1, frozen: true}
  backbone: {use: backbones.llama3.v1, weights: registry/base@v1, adapter: {rank: 2, alpha: 6}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 32, width: 32}}
"""
PER_BLOCK = 2 * (32 + 96 + 32 + 32) + 2 * (32 + 32 + 32 + 64 + 32 + 32) + 2 * (32 + 64 + 32 + 32)


def stir(part, seed=0, std=0.05):
    """Give a part other weights than it began with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in part.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=generator) * std)
    return part


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The artifact of a whole model."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "base.yaml").write_text(BASE)
    model = build(compose(folder / "base.yaml"))
    for name in model.part_names():
        stir(model.part(name))
    return save(model, folder / "model")


@pytest.fixture
def place(tmp_path, monkeypatch, base):
    """A working folder with a registry that holds the model as registry/base@v1."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry").mkdir()
    push(base, "registry/base@v1", probe=False)
    (tmp_path / "lora.yaml").write_text(ADAPTED)
    return tmp_path


@pytest.fixture
def trained(place):
    """A model with an adapter that is no longer zero."""
    model = build(compose("lora.yaml"))
    stir(model.backbone, seed=1)
    return model


def ask(model, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    noisy, t = torch.randn(2, 16, 2, 4, 4, generator=generator), torch.rand(2, generator=generator)
    return model.backbone(noisy.to(dtype), t, model.encode_conditions({"text": ["a cat", "two dogs"]})).float()


# what a recipe may say


def refused(text, tmp_path, meta=False):
    (tmp_path / "r.yaml").write_text(text)
    if meta:
        return [str(one) for one in meta_problems(compose("r.yaml"))]
    with pytest.raises(RecipeError) as caught:
        compose("r.yaml")
    return [str(one) for one in caught.value.problems]


def test_all_that_is_wrong_with_adapters_is_said_at_once_with_file_and_line(place):
    text = """\
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, weights: registry/base@v1, frozen: true, adapter: {}}
  encoders:
    text: {use: encoders.bytes.v1, config: {width: 16, heads: 2, max_len: 16}, adapter: {rank: 0, dropout: 1, rnak: 3}}
  backbone:
    use: backbones.llama3.v1
    weights: registry/base@v1
    adapter:
      rank: many
      alpha: -1
"""
    assert refused(text, place) == [
        "r.yaml:3: parts.autoencoder.adapter: the adapter on a frozen part is never trained\n"
        "    -> remove `frozen` (the base weights of autoencoder stay frozen anyway), or remove the adapter",
        "r.yaml:5: parts.encoders.text.adapter.rnak: unknown key\n    -> did you mean rank?",
        "r.yaml:5: parts.encoders.text.adapter: rank must be at least 1, not 0\n    -> change it",
        "r.yaml:5: parts.encoders.text.adapter: dropout must be in [0, 1), not 1.0\n    -> change it",
        "r.yaml:5: parts.encoders.text.adapter: LoRA needs a base model: this part has no `weights`\n"
        "    -> add `weights` (the base artifact), or remove the adapter",
        "r.yaml:10: parts.backbone.adapter.rank: Value 'many' of type 'str' could not be converted to Integer\n"
        "    -> rank takes int: rank of the update (alpha / rank) B A of each linear layer",
        "r.yaml:11: parts.backbone.adapter: alpha must be positive, not -1.0\n    -> change it",
    ]


def test_a_part_that_a_stage_trains_may_be_adapted_and_one_that_none_trains_may_not(place):
    def stages(*frozen):
        rows = "".join(f"  - {{name: s{i}, steps: 1, set: {{parts.backbone.frozen: {value}}}}}\n" for i, value in enumerate(frozen))
        (place / "staged.yaml").write_text(ADAPTED + "stages:\n" + rows)
        return compose("staged.yaml")

    assert stages("true", "false").at_stage(0).parts["backbone"].adapter == Adapter(rank=2, alpha=6)
    with pytest.raises(RecipeError, match="1 problem\nstaged.yaml:6: parts.backbone.adapter: the adapter on a frozen part is never trained"):
        stages("true", "true")


def test_a_base_that_no_one_else_can_reach_is_refused_before_anything_is_trained(place):
    shutil.copytree(place / "registry", place / "mine")
    (told,) = refused(ADAPTED.replace("{use: backbones.llama3.v1, weights: registry", "{use: backbones.llama3.v1, weights: ./mine"), place)
    assert told == (
        "r.yaml:6: parts.backbone.weights: ./mine/base@v1 is a local folder, but an adapter needs a base with a name on a hub\n"
        "    -> push the base to registry/NAME or org/name and use that reference"
    )


def test_targets_that_are_no_linear_layer_are_told_by_the_meta_check(place):
    text = ADAPTED.replace("alpha: 6}", "alpha: 6, targets: [qvk, blocks.0.ffn.w2, attention, zzz]}")
    assert refused(text, place, meta=True) == [
        "r.yaml:6: parts.backbone.adapter.targets: Llama3 has no linear layer 'qvk'\n    -> did you mean qkv?",
        "r.yaml:6: parts.backbone.adapter.targets: Llama3 has no linear layer 'attention'\n"
        "    -> layer names: 0, 2, embed, kv, modulation, out, output, project, q, qkv, w13, w2",
        "r.yaml:6: parts.backbone.adapter.targets: Llama3 has no linear layer 'zzz'\n"
        "    -> layer names: 0, 2, embed, kv, modulation, out, output, project, q, qkv, w13, w2",
    ]
    assert refused(ADAPTED, place, meta=True) == []
    with pytest.raises(MgzooError, match="r.yaml:6: Llama3 has no linear layer 'qvk'"):
        (place / "r.yaml").write_text(text)
        build(compose("r.yaml"))
    unfit = ADAPTED.replace("frozen: true}\n  encoders", "adapter: {}}\n  encoders")
    assert refused(unfit, place, meta=True) == [
        "r.yaml:3: parts.autoencoder.adapter.targets: Tae has no linear layer to adapt\n    -> remove the adapter, or adapt another part"
    ]


def test_another_part_forgets_the_adapter_of_the_one_it_replaces(place):
    (place / "over.yaml").write_text("defaults: [lora.yaml]\nparts: {backbone: {use: backbones.dit.v1, config: {size: tiny}}}\n")
    assert compose("over.yaml").parts["backbone"].adapter is None
    assert compose("lora.yaml", ["parts.backbone.adapter.rank=5"]).parts["backbone"].adapter == Adapter(rank=5, alpha=6)


def test_a_recipe_without_an_adapter_is_the_recipe_it_always_was(place):
    plain = compose("lora.yaml").with_adapter("backbone", None)
    (place / "plain.yaml").write_text(ADAPTED.replace(", adapter: {rank: 2, alpha: 6}", ""))
    assert plain.digest() == compose("plain.yaml").digest() and "adapter" not in plain.to_yaml()
    (place / "whole.yaml").write_text(compose("lora.yaml").to_yaml())
    assert compose("whole.yaml").digest() == compose("lora.yaml").digest() != plain.digest()


# the mathematics


class Stranger(nn.Module):
    """A third party's part: layers called by keyword, two in a Sequential, and attention that reads its weights itself."""

    def __init__(self):
        super().__init__()
        self.first, self.attention = nn.Linear(6, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 12), nn.SiLU(), nn.Linear(12, 8)) for _ in range(2))

    def forward(self, x):
        x = self.first(input=x)
        x = x + self.attention(x, x, x)[0]
        for layer in self.layers:
            x = x + layer(x)
        return x


def test_an_adapter_adds_scaled_b_a_x_and_starts_at_the_base():
    layer = nn.Sequential(nn.Linear(5, 7))
    x, before = torch.randn(3, 5), copy.deepcopy(layer)
    attach_adapter(layer, Adapter(rank=2, alpha=6))
    assert torch.equal(layer(x), before(x))
    stir(layer)
    expected = before(x) + 3 * x @ layer[0].lora_A.weight.T @ layer[0].lora_B.weight.T
    assert torch.allclose(layer(x), expected, atol=1e-6) and not torch.allclose(layer(x), before(x), atol=1e-3)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert {key for key, p in layer.named_parameters() if p.requires_grad} == {"0.lora_A.weight", "0.lora_B.weight"}
    assert (layer[0].lora_A.weight.abs() <= 1).all() and layer[0].lora_A.weight.std() > 0.1  # U(-1/sqrt(5), 1/sqrt(5)), stirred
    with pytest.raises(MgzooError, match="Sequential has an adapter already"):
        attach_adapter(layer, Adapter())
    detach_adapter(layer)
    assert torch.equal(layer(x), before(x)) and layer.state_dict().keys() == before.state_dict().keys()


@pytest.mark.parametrize("targets, adapted", [
    ([], ["layers.0.0", "layers.0.2", "layers.1.0", "layers.1.2"]),
    (["first", "layers.1.0"], ["first", "layers.1.0"]),
    (["2"], ["layers.0.2", "layers.1.2"]),
])  # fmt: skip
def test_any_part_can_be_adapted_without_knowing(targets, adapted):
    part, x = Stranger().eval(), torch.randn(2, 4, 6)
    before = part(x)
    attach_adapter(part, Adapter(rank=2, targets=targets))
    assert list(adapted_layers(part)) == adapted and torch.allclose(part(x), before, atol=1e-6)  # torch takes another way through attention at rest
    stir(part)(x).square().sum().backward()
    own = adapter_state_dict(part)
    assert {key for key, p in part.named_parameters() if p.grad is not None and p.grad.abs().max() > 0} == set(own)
    merged = Stranger().eval()
    merged.load_state_dict(merge_state_dict({key: value for key, value in part.state_dict().items() if key not in own}, own, 8.0))
    assert torch.allclose(merged(x), part(x), atol=1e-5) and not torch.allclose(part(x), before, atol=1e-2)


def test_attention_that_reads_its_weights_itself_cannot_be_adapted():
    part = Stranger()
    assert "attention.out_proj" in dict(part.named_modules()) and "attention.out_proj" not in linear_layers(part)
    with pytest.raises(MgzooError, match="Stranger has no linear layer 'out_proj'"):
        attach_adapter(part, Adapter(targets=["out_proj"]))


@pytest.mark.parametrize("seeded", [True, False])
def test_what_is_computed_again_drops_the_same_inputs(seeded):
    """Under activation checkpointing that keeps no random state, as `backbones.llama3.v1` has it; unseeded, the gradient is wrong."""
    part = nn.Sequential(nn.Linear(16, 16))
    attach_adapter(part, Adapter(rank=4, dropout=0.5))
    stir(part)
    set_train_mode(part, True)
    grads = []
    for again in (False, True):
        torch.manual_seed(0)
        if seeded:
            seed_dropout(part, 7)
        x = torch.ones(2, 16)
        out = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False) if again else part(x)
        part.zero_grad()
        out.square().sum().backward()
        grads.append(part[0].lora_A.weight.grad.clone())
    assert torch.equal(*grads) is seeded
    seed_dropout(part, 8)
    assert not torch.equal(part(x), out)
    set_train_mode(part, False)
    assert torch.equal(part(x), part(x)) and not part.training


# PEFT


def test_peft_reads_our_file_and_answers_the_same(trained, tmp_path):
    PeftModel = pytest.importorskip("peft").PeftModel
    folder = save(trained, tmp_path / "model", golden=False)
    plain = build(compose("lora.yaml").with_adapter("backbone", None)).eval()
    before = ask(plain)
    theirs = PeftModel.from_pretrained(plain.backbone, folder / "backbone")
    assert sum(isinstance(layer, nn.Module) and hasattr(layer, "lora_A") for layer in theirs.modules()) == 14
    plain.backbone = theirs.base_model.model.eval()
    assert torch.allclose(ask(plain), ask(trained), atol=1e-5) and not torch.allclose(ask(plain), before, atol=1e-2)


@pytest.mark.parametrize("targets", [["qkv", "w2"], "all-linear", r".*blocks\.1\..*(out|w13)"])
def test_we_read_peft_s_file_and_answer_the_same(place, tmp_path, targets):
    theirs = pytest.importorskip("peft")
    ours, other = build(compose("lora.yaml").with_adapter("backbone", None)).eval(), build(compose("lora.yaml").with_adapter("backbone", None)).eval()
    wrapped = theirs.get_peft_model(other.backbone, theirs.LoraConfig(r=3, lora_alpha=5, target_modules=targets, init_lora_weights=False))
    wrapped.save_pretrained(tmp_path / "theirs")
    load_adapter(ours, "backbone", tmp_path / "theirs")
    other.backbone = wrapped.base_model.model.eval()
    assert torch.allclose(ask(ours), ask(other), atol=1e-5)
    assert ours.recipe.parts["backbone"].adapter.rank == 3
    stored = save(ours, tmp_path / "model", golden=False)
    assert torch.allclose(ask(load(stored)), ask(other), atol=1e-5)


@pytest.mark.parametrize("key, value, told", [
    ("use_dora", True, "uses use_dora; only PEFT supports this"),
    ("bias", "all", "uses bias; only PEFT supports this"),
    ("rank_pattern", {"qkv": 4}, "uses rank_pattern; only PEFT supports this"),
    ("peft_type", "LOHA", "has the type 'LOHA'; only LORA is supported"),
    ("r", "two", "is not an adapter config: ValueError: invalid literal"),
    ("r", 0, "is not an adapter config: ValueError: rank must be at least 1, not 0"),
    ("r", 3, r"backbone.adapter_model.safetensors: blocks.0.attention.out.lora_A.weight has shape \[2, 32\], not of rank 3"),
])  # fmt: skip
def test_an_adapter_that_means_something_else_is_refused(trained, tmp_path, key, value, told):
    folder = save(trained, tmp_path / "model", golden=False) / "backbone"
    said = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**said, key: value}))
    model = build(compose("lora.yaml").with_adapter("backbone", None))
    with pytest.raises(MgzooError, match=told):
        load_adapter(model, "backbone", folder)
    assert model.recipe.parts["backbone"].adapter is None and not adapted_layers(model.backbone)


def test_an_adapter_of_another_part_is_refused_and_leaves_no_trace(trained, tmp_path):
    folder = save(trained, tmp_path / "model", golden=False) / "backbone"
    state = load_file(folder / "adapter_model.safetensors")
    save_file({key: torch.zeros(2, 5) if key.endswith("0.ffn.w2.lora_A.weight") else value for key, value in state.items()}, folder / "adapter_model.safetensors")
    model = build(compose("lora.yaml").with_adapter("backbone", None))
    with pytest.raises(MgzooError, match="does not match Llama3: tensor names or shapes differ"):
        load_adapter(model, "backbone", folder)
    assert not adapted_layers(model.backbone) and model.recipe.parts["backbone"].adapter is None


# artifacts


def reference(name="base", part="backbone"):
    digest = storage.digest_file(find_local(f"registry/{name}") / "mgzoo.json")
    return WeightsReference(repo=f"registry/{name}", commit=digest[:12], part=part, digest=digest)


def test_an_artifact_holds_the_adapter_alone_and_refers_to_its_base(trained, place):
    saved = save(trained, place / "model")
    files = sorted(path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file() and "/" in path.relative_to(saved).as_posix())
    assert [name for name in files if not name.startswith("probe")] == [
        "autoencoder/config.json", "backbone/adapter_config.json", "backbone/adapter_model.safetensors", "backbone/config.json", "encoders.text/config.json",
    ]  # fmt: skip
    entry = read_manifest(saved).parts["backbone"]
    assert entry.is_adapter and entry.trained and entry.base == entry.requires == reference()
    said = json.loads((saved / "backbone/adapter_config.json").read_text())
    assert {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "bias": "none", "base_model_name_or_path": "registry/base"}.items() <= said.items()
    assert said["revision"] == reference().commit and said["target_modules"] == ["kv", "out", "q", "qkv", "w13", "w2"]
    stored = load_file(saved / "backbone/adapter_model.safetensors")
    assert set(stored) == {f"base_model.model.{key}" for key in adapter_state_dict(trained.backbone)} and len(stored) == 28
    assert stored["base_model.model.blocks.1.ffn.w13.lora_B.weight"].shape == (64, 2)

    push(saved, "./hub/lora@v1")
    pulled = pull("./hub/lora@v1", "pulled")
    assert verify(pulled) == []
    loaded = mgzoo.load(pulled)
    assert torch.equal(ask(loaded), ask(trained.eval()))
    same = [model.generate("a cat", seed=1).video for model in (loaded, trained)]
    assert torch.equal(*same) and loaded.base_models["backbone"] == reference()
    again = save(loaded, place / "again", golden=False)
    assert (again / "backbone/adapter_model.safetensors").read_bytes() == (saved / "backbone/adapter_model.safetensors").read_bytes()
    assert read_manifest(again).parts["backbone"] == entry
    assert f"an adapter, in this artifact, on `{reference()}`" in (saved / "README.md").read_text()


def test_a_wrong_base_is_refused_wherever_it_is_asked_for(trained, place):
    saved = save(trained, place / "model", golden=False)
    push(saved, "./hub/lora@v1")
    folder = find_local("registry/base@v1")
    manifest = read_manifest(folder)
    (folder / "mgzoo.json").write_text(dataclasses.replace(manifest, description="another").to_json())
    for use in (lambda: mgzoo.load(saved), lambda: load_part_weights(saved, "backbone"), lambda: save(trained, place / "other")):
        with pytest.raises(MgzooError, match="is another artifact than the one used: its mgzoo.json has digest"):
            use()
    assert [(one.kind, one.key) for one in verify(saved)] == [("base", f"parts.{name}") for name in ("autoencoder.weights", "backbone.base", "encoders.text.weights")]
    with pytest.raises(ArtifactError, match="is another artifact than the one used"):
        pull("./hub/lora@v1", "pulled")
    shutil.rmtree(place / "registry/base")
    with pytest.raises(ArtifactError, match=r"parts.backbone.base: registry/base@\w+ is not on this machine"):
        pull("./hub/lora@v1", "pulled")
    assert not (place / "pulled").exists() and not (place / "other").exists()


def test_damaged_weights_of_the_base_are_found(trained, place):
    saved = save(trained, place / "model", golden=False)
    path = find_local("registry/base@v1") / "backbone/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="backbone/model.safetensors: the file has blake3"):
        mgzoo.load(saved)


def test_the_base_is_what_was_read_and_not_what_the_name_means_later(place, base):
    """registry/base moves while an adapter is trained; the adapter still refers to the commit it started from."""
    (place / "lora.yaml").write_text(ADAPTED.replace("base@v1", "base"))
    model, before = build(compose("lora.yaml")), reference()
    other = stir(load(base).backbone, seed=9)
    moved = load(base)
    moved.backbone.load_state_dict(other.state_dict())
    push(save(moved, place / "moved", golden=False), "registry/base", probe=False)
    assert reference() != before
    saved = save(model, place / "model")
    assert read_manifest(saved).parts["backbone"].base == before and verify(saved) == []


@pytest.mark.parametrize("change, told", [
    (lambda text: text.replace("alpha: 6.0", "alpha: 60.0"), "the adapter is of rank 2 and alpha 6, recipe.yaml has of rank 2 and alpha 60"),
    (lambda text: text[:text.index("    adapter:")] + text[text.index("  objective"):], "the adapter is of rank 2 and alpha 6, recipe.yaml has none"),
], ids=["alpha", "none"])  # fmt: skip
def test_a_recipe_that_means_another_adapter_is_refused(trained, place, change, told):
    saved = save(trained, place / "model", golden=False)
    text = (saved / "recipe.yaml").read_text()
    assert change(text) != text
    (saved / "recipe.yaml").write_text(change(text))
    write_manifest(read_manifest(saved), saved)
    with pytest.raises(ArtifactError, match=told):
        mgzoo.load(saved)


def test_a_manifest_with_an_adapter_and_no_base_is_refused(trained, place):
    saved = save(trained, place / "model", golden=False)
    content = json.loads((saved / "mgzoo.json").read_text())
    del content["parts"]["backbone"]["base"]
    with pytest.raises(ArtifactError, match="parts.backbone: an adapter is one file, backbone/adapter_model.safetensors, and its base"):
        parse_manifest(json.dumps(content).encode())


def test_weights_beside_the_adapter_that_are_not_the_base_s_are_not_lost(trained, place):
    with torch.no_grad():
        trained.backbone.blocks[0].attention.qkv.weight[0, 0] += 1
    with pytest.raises(MgzooError, match=r"the base weights of backbone differ from registry/base@\w+; an adapter artifact cannot store them"):
        save(trained, place / "model")
    assert not (place / "model").exists()


@pytest.mark.parametrize("use", [one.id for one in discover().components.values() if one.kind == "backbone"])
def test_an_adapter_on_any_backbone_goes_through_a_hub(place, use):
    """One step of training, saved, pushed, pulled, loaded: only the adapter moved, and the answers are the same."""
    written = re.compile(r"  backbone: .*")
    Path("other.yaml").write_text(written.sub(f"  backbone: {{use: {use}, config: {{size: tiny}}}}", BASE))
    whole = build(compose("other.yaml"))
    stir(whole.backbone)
    push(save(whole, "other", golden=False, dtype=torch.float32), "registry/other@v1", probe=False)
    text = written.sub(f"  backbone: {{use: {use}, weights: registry/other@v1, adapter: {{rank: 2}}}}", ADAPTED)
    Path("any.yaml").write_text(text.replace("registry/base@v1", "registry/other@v1"))
    model = build(compose("any.yaml"))
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.backbone.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # B begins at zero, so A moves in the second step
        ask(model).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    own = adapter_state_dict(model.backbone)
    assert own and all((key in own) != torch.equal(value, before[key]) for key, value in model.backbone.state_dict().items())
    push(save(model, "adapted", golden=False, dtype=torch.float32), "registry/adapted@v1", probe=False)
    pulled = pull("registry/adapted@v1", "pulled")
    entry = read_manifest(pulled).parts["backbone"]
    assert entry.is_adapter and (entry.base.repo, entry.base.digest) == ("registry/other", storage.digest_file(find_local("registry/other@v1") / "mgzoo.json"))
    with torch.no_grad():
        assert torch.equal(ask(mgzoo.load(pulled)), ask(model))


def test_a_merged_model_answers_the_same_and_is_a_fine_tune_of_its_base(trained, place):
    before = ask(trained.eval())
    assert merge_adapters(trained) is trained and not adapted_layers(trained.backbone)
    assert torch.allclose(ask(trained), before, atol=1e-5)
    assert all(p.requires_grad for p in trained.backbone.parameters())
    saved = save(trained, place / "merged")
    entry = read_manifest(saved).parts["backbone"]
    assert entry.weights == ("backbone/model.safetensors",) and entry.base == reference() and entry.requires is None
    assert verify(saved) == [] and torch.allclose(ask(mgzoo.load(saved)), before, atol=1e-5)
    assert "adapter" not in (saved / "recipe.yaml").read_text()


def test_an_adapter_can_be_the_base_of_another(trained, place):
    """What starts from it starts from the merged weights."""
    push(save(trained, place / "model", golden=False), "registry/lora@v1", probe=False)
    text = ADAPTED.replace("{use: backbones.llama3.v1, weights: registry/base@v1", "{use: backbones.llama3.v1, weights: registry/lora@v1")
    (place / "second.yaml").write_text(text)
    second = build(compose("second.yaml")).eval()
    assert meta_problems(compose("second.yaml")) == [] and torch.allclose(ask(second), ask(trained.eval()), atol=1e-5)
    stir(second.backbone, seed=5)
    saved = save(second, place / "second")
    assert read_manifest(saved).parts["backbone"].base == reference("lora") and verify(saved) == []
    assert torch.allclose(ask(mgzoo.load(saved)), ask(second), atol=1e-5)


# fine-tunes


def test_a_fine_tune_records_what_it_started_from_and_loads_without_it(place):
    model = build(compose("lora.yaml").with_adapter("backbone", None))
    stir(model.backbone, seed=2)
    saved = save(model, place / "tuned")
    parts = read_manifest(saved).parts
    assert parts["backbone"].base == reference() and parts["backbone"].weights == ("backbone/model.safetensors",)
    assert parts["encoders.text"].weights == reference(part="encoders.text") and parts["encoders.text"].base is None
    assert f"trained, in this artifact, from `{reference()}`" in (saved / "README.md").read_text()
    again = save(mgzoo.load(saved), place / "again", golden=False)
    assert read_manifest(again).parts["backbone"] == parts["backbone"]
    assert "base" not in json.loads((find_local("registry/base") / "mgzoo.json").read_text())["parts"]["backbone"]


# plan


def test_a_plan_counts_the_adapter_as_trained_and_its_base_as_frozen(place):
    (place / "data.yaml").write_text("defaults: [lora.yaml]\ndata: {use: video.clips.v1, config: {path: x, frames: 8, height: 32, width: 32}}\ntrain: {batch: 4}\n")
    adapted, whole = plan(compose("data.yaml")), plan(compose("data.yaml").with_adapter("backbone", None))
    total = sum(p.numel() for p in build(compose("lora.yaml"), device="meta").backbone.parameters())
    (stage,), (plain,) = adapted.stages, whole.stages
    assert stage.trained_parameters == 2 * PER_BLOCK == sum(x.numel() for x in adapter_state_dict(build(compose("lora.yaml"), device="meta").backbone).values())
    assert plain.trained_parameters + stage.trained_parameters == total
    assert stage.frozen_parameters == plain.frozen_parameters + plain.trained_parameters
    assert adapted.artifact == 4 * stage.trained_parameters and adapted.checkpoint < whole.checkpoint / 3
    assert stage.step_flops < plain.step_flops
    assert "backbone" in stage.trained and "adapter of rank 2" in adapted.render()
    narrow = plan(compose("data.yaml", ["parts.backbone.adapter.targets=[qkv]"]))
    assert narrow.stages[0].trained_parameters == 2 * 2 * (32 + 96)


def test_the_shipped_recipe_holds(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    recipe = compose("tiny/emoji_lora")
    assert meta_problems(recipe) == []
    (stage,) = plan(recipe).stages
    built = build(recipe, device="meta").backbone
    assert stage.trained_parameters == sum(p.numel() for p in built.parameters() if p.requires_grad) == 909_312
    assert len(adapted_layers(built)) == 7 * 8
