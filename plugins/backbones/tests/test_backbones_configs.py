"""Closed forms against what is built: parameters on the meta device, FLOPs against torch's counter."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mgzoo.parts import Condition
from mgzoo.spec import ConditionSpec, LatentSpec
from mgzoo_backbones.configs import DiTConfig, Llama3Config
from mgzoo_backbones.dit import DiT
from mgzoo_backbones.llama3 import Llama3
from mgzoo_backbones.plugin import mgzoo_components

TAE = LatentSpec(space="autoencoders.tae16", channels=16, stride=(8, 8, 8))
SOUND = LatentSpec(space="autoencoders.dacvae", channels=12, stride=(1920,), layout="sound")
PAPER_TEXT = tuple(
    ConditionSpec(name=name, dim=dim, max_len=longest)
    for name, dim, longest in (("ul2", 4096, 512), ("byt5", 1472, 128), ("metaclip", 1280, 256))
)
TEXT = ConditionSpec(name="text", dim=24, max_len=9)
EVERY_KIND = (TEXT, ConditionSpec(name="fps", dim=5, kind="vector"), ConditionSpec(name="video", dim=7, kind="frames"))


def build_on_meta(target, config, latent, conditions, concat_channels):
    with torch.device("meta"):
        return target(config, latent=latent, conditions=conditions, concat_channels=concat_channels)


@pytest.mark.parametrize("target, config", [(Llama3, Llama3Config), (DiT, DiTConfig)])
@pytest.mark.parametrize(
    "changes, latent, conditions, concat_channels",
    [
        ({}, TAE, (TEXT,), 0),
        ({"depth": 3, "ffn": 100, "frequency_dim": 32}, TAE, EVERY_KIND, 16),
        ({"width": 96, "heads": 3, "patch": (2, 2, 2)}, TAE, (), 1),
        ({"patch": (1,), "max_len": (50,)}, SOUND, EVERY_KIND[1:], 0),
    ],
)
def test_parameters_equal_the_build(target, config, changes, latent, conditions, concat_channels):
    config = dataclasses.replace(config.tiny(), **changes)
    model = build_on_meta(target, config, latent, conditions, concat_channels)
    assert sum(p.numel() for p in model.parameters()) == config.num_parameters(latent, conditions, concat_channels)


def test_tiny_is_tiny():
    for config in (Llama3Config, DiTConfig):
        assert config.tiny().num_parameters(TAE, EVERY_KIND) < 5_000_000


def test_defaults_are_the_papers_30b():
    config = Llama3Config()
    model = build_on_meta(Llama3, config, TAE, PAPER_TEXT, 0)
    assert sum(p.numel() for p in model.parameters()) == config.num_parameters(TAE, PAPER_TEXT) == 29_303_513_088
    per_layer = 8 * 6144**2 + 3 * 6144 * 16384
    assert sum(p.numel() for p in model.blocks[0].parameters() if p.shape != (6, 6144)) == per_layer + 2 * 6144
    assert config.num_tokens(TAE.axes(256, 768, 768)) == 73_728
    assert config.validate_shapes(TAE, PAPER_TEXT, TAE.axes(256, 768, 768)) == []


def test_a_modulation_of_its_own_in_each_layer_would_not_make_30b():
    # The paper's count leaves no room for 6 d^2 per layer (39.86 B with them).
    config = Llama3Config()
    assert config.num_parameters(TAE, PAPER_TEXT) + 47 * 6 * config.width**2 > 39e9


@pytest.mark.parametrize("target, config", [(Llama3, Llama3Config), (DiT, DiTConfig)])
@pytest.mark.parametrize(
    "latent, changes, axes, conditions, concat_channels",
    [
        (TAE, {}, (2, 8, 6), (TEXT,), 0),
        (TAE, {"checkpoint": False}, (1, 4, 4), PAPER_TEXT[:2], 3),
        (TAE, {"patch": (1, 1, 1)}, (3, 5, 2), (), 0),
        (SOUND, {"patch": (1,), "max_len": (50,)}, (50,), (TEXT,), 0),
    ],
)
def test_flops_equal_torchs_counter(target, config, latent, changes, axes, conditions, concat_channels):
    config = dataclasses.replace(config.tiny(), **changes)
    with torch.device("meta"):
        model = target(config, latent=latent, conditions=conditions, concat_channels=concat_channels)
        given = {
            c.name: Condition(name=c.name, values=torch.zeros(1, c.max_len, c.dim), mask=torch.ones(1, c.max_len).bool())
            for c in conditions
        }
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, latent.channels + concat_channels, *axes), torch.zeros(1), given)
    tokens = sum(c.max_len for c in conditions)
    projections = sum(2 * c.max_len * c.dim * config.width for c in conditions)
    assert counter.get_total_flops() - projections == config.flops(latent, axes, tokens, concat_channels)


def numbers_saved(model, latents, given):
    """Numbers that autograd keeps for the backward pass, parameters aside; shared storages once."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor  # holding it keeps its address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(latents, torch.rand(len(latents)), given)
    return sum(t.untyped_storage().nbytes() // t.element_size() for address, t in kept.items() if address not in own)


@pytest.mark.parametrize("target, config", [(Llama3, Llama3Config), (DiT, DiTConfig)])
@pytest.mark.parametrize("width, ffn", [(64, 64), (64, 256)])
def test_activations_are_what_autograd_keeps(target, config, width, ffn):
    config = dataclasses.replace(config.tiny(), width=width, ffn=ffn, depth=16)
    text = Condition(name="text", values=torch.randn(1, 9, 24), mask=torch.ones(1, 9).bool())
    latents, axes = torch.randn(1, 16, 4, 16, 16), (4, 16, 16)
    model = target(config, latent=TAE, conditions=(TEXT,))
    estimate = config.activations(TAE, axes, 9)
    assert numbers_saved(model, latents, {"text": text}) == pytest.approx(estimate, rel=0.07)
    recomputed = dataclasses.replace(config, checkpoint=True)
    model = target(recomputed, latent=TAE, conditions=(TEXT,))
    block = estimate // config.depth
    assert recomputed.activations(TAE, axes, 9) == config.activations(TAE, axes, 9, checkpoint=True)
    assert numbers_saved(model, latents, {"text": text}) == pytest.approx(recomputed.activations(TAE, axes, 9) - block, rel=0.35)


@pytest.mark.parametrize(
    "axes, problems",
    [
        ((2, 8, 8), []),
        ((2, 7, 8), ["latent size 7 along h is not a multiple of the patch 2"]),
        ((9, 8, 34), ["9 patches along t exceed max_len 8", "17 patches along w exceed max_len 16"]),
        ((2, 8), ["latent sizes (2, 8) have 2 axes, but patch (1, 2, 2) has 3"]),
    ],
)
def test_check_says_which_sizes_do_not_fit(axes, problems):
    assert Llama3Config.tiny().validate_shapes(TAE, (TEXT,), axes) == problems


def test_check_compares_ranks():
    assert Llama3Config.tiny().validate_shapes(SOUND, (), (50,)) == [
        "patch (1, 2, 2) has 3 axes, latents of autoencoders.dacvae have 1"
    ]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"heads": 3}, "heads 3 does not divide width 128"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"patch": (1, 2)}, "patch (1, 2) and max_len (8, 16, 16) must have the same axes"),
        ({"patch": (0, 2, 2)}, "patch (0, 2, 2) and max_len (8, 16, 16) must be at least 1 along each axis"),
        ({"frequency_dim": 7}, "frequency_dim must be even, got 7"),
        ({"eps": 0.0}, "eps must be positive, got 0.0"),
    ],
)
def test_nonsense_is_refused_when_configured(changes, message):
    with pytest.raises(ValueError) as error:
        dataclasses.replace(Llama3Config.tiny(), **changes)
    assert str(error.value) == message


def test_declaring_imports_no_torch():
    code = "import sys, mgzoo_backbones.plugin, mgzoo_backbones.configs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
    assert [c.id for c in mgzoo_components()] == ["backbones.llama3.v1", "backbones.dit.v1"]
