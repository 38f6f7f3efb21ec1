"""Configs: closed forms equal the built network, nonsense is refused, nothing imports torch."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mgzoo_autoencoders.configs import FramewiseConfig, ReconstructConfig, TaeConfig
from mgzoo_autoencoders.plugin import mgzoo_components
from mgzoo_autoencoders.reconstruct import Reconstruct
from mgzoo_autoencoders.tae import Tae

SMALL = dict(widths=(8, 16), time_strides=(2,), space_strides=(2,), patch=2, groups=4, channels=4)
CONFIGS = {
    "paper": TaeConfig(),
    "tiny": TaeConfig.tiny(),
    "framewise": FramewiseConfig(),
    "framewise tiny": FramewiseConfig.tiny(),
    "small": TaeConfig(**SMALL, encoder_blocks=(0, 2), decoder_blocks=(1, 0), attention=False),
    "3-D": TaeConfig(**SMALL, encoder_blocks=(0, 2), decoder_blocks=(1, 0), temporal="3d"),
    "3-D tiny": dataclasses.replace(TaeConfig.tiny(), temporal="3d", widths=(22, 44, 88, 88)),
    "small linear": TaeConfig(**SMALL, encoder_blocks=(1, 1), decoder_blocks=(1, 1), linear=True, norm="rms"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_in_closed_form_equal_the_meta_build(name):
    config = CONFIGS[name]
    with torch.device("meta"):
        model = Tae(config)
    assert sum(p.numel() for p in model.parameters()) == config.num_parameters()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", [(1, 16, 16), (5, 16, 24), (16, 32, 16)])
def test_flops_in_closed_form_equal_counted_ones(name, size):
    config = CONFIGS[name]
    with torch.device("meta"):
        model = Tae(config)
        with FlopCounterMode(display=False) as counter:
            model.posterior(torch.empty(1, 3, *size))
    assert counter.get_total_flops() == config.flops(*size)


def test_defaults_are_the_papers():
    spec = TaeConfig().latent_spec()
    assert (spec.channels, spec.stride, spec.space) == (16, (8, 8, 8), "autoencoders.tae16")
    assert FramewiseConfig().latent_spec().stride == (1, 8, 8)
    assert TaeConfig().tile_frames == 32 and TaeConfig().tile_overlap == 16


def test_tiny_stays_under_five_million():
    for config in (TaeConfig.tiny(), FramewiseConfig.tiny()):
        assert config.num_parameters() < 5_000_000
    assert TaeConfig.tiny().latent_spec().axes(16, 64, 64) == (2, 8, 8)


def test_tiny_in_3d_of_equal_size():
    """The widths for comparing 2.5-D with 3-D at equal parameters: within 2 %."""
    assert CONFIGS["3-D tiny"].num_parameters() == pytest.approx(TaeConfig.tiny().num_parameters(), rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(widths=()), "widths is empty"),
        (dict(time_strides=(2, 2)), "time_strides has 2 entries, but 4 widths need 3"),
        (dict(space_strides=(2, 3, 2)), "hold 1 or 2"),
        (dict(groups=48), "groups=48 does not divide every width"),
        (dict(temporal="2d"), "set every time_strides to 1"),
        (dict(shortcut=True, widths=(128, 192, 512, 512)), "needs every width to divide its neighbour's"),
        (dict(patch=0), "at least 1"),
        (dict(linear=True, channels=2000), "exceeds the size of a block"),
        (dict(tile_frames=30), "multiples of the temporal stride 8"),
        (dict(tile_overlap=24), "at most half a tile"),
        (dict(tile_height=100), "tile_height=100 and tile_space_overlap=64 are multiples of the spatial stride 8"),
        (dict(tile_width=120), "tile_width=120 and tile_space_overlap=64 .* at most half a tile"),
        (dict(tile_width=-128), "tile_width=-128"),
        (dict(tile_width=256, tile_space_overlap=4), "multiples of the spatial stride 8"),
    ],
)
def test_nonsense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TaeConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(kl=-1.0), "kl is a weight"),
        (dict(image_share=1.5), "image_share is between 0 and 1"),
        (dict(perceptual=1.0), "perceptual needs perceptual_weights"),
        (dict(l1=0.0), "no reconstruction term"),
    ],
)
def test_nonsense_of_the_task_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ReconstructConfig(**changes)


def test_discriminator_in_closed_form():
    config = ReconstructConfig(adversarial=0.1, discriminator_width=8)
    assert sum(p.numel() for p in Reconstruct(config).parameters()) == config.num_parameters()
    assert ReconstructConfig().num_parameters() == 0 == sum(1 for _ in Reconstruct(ReconstructConfig()).parameters())


def test_declaring_imports_no_torch():
    code = (
        "import sys, mgzoo_autoencoders.plugin as p, mgzoo_autoencoders.configs as c\n"
        "p.mgzoo_components(); c.TaeConfig().num_parameters(); c.TaeConfig().flops(16, 64, 64)\n"
        "assert not {'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_ids_stay_in_the_namespace():
    assert {c.id for c in mgzoo_components()} == {
        "autoencoders.tae.v1", "autoencoders.framewise.v1", "autoencoders.reconstruct.v1", "autoencoders.dacvae.v1", "autoencoders.codec.v1"}
