"""The sound autoencoder: sizes, formulas, chunks, ends."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mgzoo.spec import LatentSpec, MgzooError
from mgzoo_autoencoders import dacvae
from mgzoo_autoencoders.audio_losses import si_sdr
from mgzoo_autoencoders.dacvae import MDCT, DacVae, chunked, mdct_basis, to_whole
from mgzoo_autoencoders.dacvae_codec import codec_round_trip
from mgzoo_autoencoders.dacvae_configs import DacVaeConfig

SMALL = DacVaeConfig(rate=2400, channels=6, encoder_dim=4, rates=(2, 3, 8), latent_dim=10, decoder_dim=32, chunk=4, space="test")
LINEAR = dataclasses.replace(SMALL, patch=4, rates=(2, 6), linear=True)
CONFIGS = {"published layout": SMALL, "odd stride": dataclasses.replace(SMALL, rates=(3, 5)), "folded": dataclasses.replace(SMALL, patch=4), "linear": LINEAR}


def built(config: DacVaeConfig) -> DacVae:
    torch.manual_seed(0)
    part = DacVae(config).eval()
    for weight in part.parameters():
        weight.data += 0.02 * torch.randn_like(weight)
    return part


def noise(samples: int, batch: int = 1) -> torch.Tensor:
    return 0.3 * torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------------------------------------------- configs


def test_the_open_configuration():
    config = DacVaeConfig()
    assert config.hop == 1920 and config.rate / config.hop == 25
    assert config.latent_spec() == LatentSpec(space="autoencoders.dacvae128", channels=128, stride=(1920,), layout="sound")
    with torch.device("meta"):
        part = DacVae(config)
    assert sum(p.numel() for p in part.parameters()) == config.num_parameters()
    # 1x1 convolutions 1024 -> 256 and 128 -> 1024, with a gain and a bias for each output
    assert sum(p.numel() for p in part.quantizer.parameters()) == 1024 * 256 + 2 * 256 + 128 * 1024 + 2 * 1024


@pytest.mark.parametrize("config", [*CONFIGS.values(), DacVaeConfig.tiny()], ids=[*CONFIGS, "tiny"])
def test_parameters_are_counted_in_closed_form(config):
    assert sum(p.numel() for p in DacVae(config).parameters()) == config.num_parameters() <= 3_000_000


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_flops_are_counted_in_closed_form(config):
    part, samples = DacVae(config), 5 * config.hop
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        part.posterior(noise(samples))
    assert counter.get_total_flops() == config.flops(samples)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rates": ()}, "at least 2"), ({"rates": (2, 1)}, "at least 2"), ({"decoder_dim": 1530}, "multiple of 16"), ({"chunk": 0}, "at least 1"),
        ({"linear": True, "channels": 1921}, "exceeds the size of a block of 1920"),
    ],
)  # fmt: skip
def test_impossible_configs_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        DacVaeConfig(**wrong)


# ---------------------------------------------------------------------------------------------------- chunks and ends


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_chunks_give_what_one_piece_gives(config):
    part, samples = built(config), 61 * config.hop - 5
    media = noise(samples)
    whole = part.normalise(part.posterior(media)[0])
    back = part.sound(part.denormalise(whole))[..., :samples]
    for chunk in (1, 3, 7, 50):
        part.config = dataclasses.replace(config, chunk=chunk)
        assert torch.allclose(part.encode(media), whole, atol=1e-5)
        assert torch.allclose(part.decode(whole, (samples,)), back, atol=1e-5)


@torch.no_grad()
def test_chunks_without_neighbours_would_differ():
    part = built(SMALL)
    raw = torch.randn(1, 6, 40, generator=torch.Generator().manual_seed(2))
    piece = lambda first, stop: part.sound(raw[..., first:stop])  # noqa: E731
    whole = piece(0, 40)
    assert not torch.allclose(chunked(piece, 40, 4, 0, SMALL.hop), whole, atol=1e-4)
    assert torch.allclose(chunked(piece, 40, 4, SMALL.reach()[1], SMALL.hop), whole, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_reach_is_as_far_as_anything_is_felt(config):
    part, (before, after) = built(config).double(), config.reach()
    hop, length = config.hop, 2 * max(config.reach()) + 21
    here = length // 2
    media = noise(length * hop).double()
    other = media.clone()
    other[..., here * hop : (here + 1) * hop] += 0.5
    felt = (part.posterior(media)[0] != part.posterior(other)[0]).any(1)[0].nonzero().flatten() - here
    assert -before <= felt.min() and felt.max() <= before
    raw = torch.randn(1, config.channels, length, dtype=torch.float64)
    moved = raw.clone()
    moved[..., here] += 0.5
    felt = (part.sound(raw) != part.sound(moved))[0, 0].nonzero().flatten().div(hop, rounding_mode="floor") - here
    assert -after <= felt.min() and felt.max() <= after and max(-felt.min(), felt.max()) >= after - 3


@pytest.mark.parametrize("samples", [1, 2, 47, 48, 49, 500])
@torch.no_grad()
def test_any_length_from_one_sample(samples):
    part, media = built(SMALL), noise(samples)
    latents = part.encode(media)
    assert latents.shape == (1, 6, math.ceil(samples / 48)) and torch.isfinite(latents).all()
    assert part.decode(latents, (samples,)).shape == media.shape


@pytest.mark.parametrize(("shape", "said"), [((1, 1, 0), "at least one sample"), ((1, 2, 96), "mono"), ((1, 96), "mono")])
def test_no_sample_and_stereo_are_refused(shape, said):
    with pytest.raises(MgzooError, match=said):
        built(SMALL).encode(torch.zeros(shape))


@pytest.mark.parametrize("samples", [0, 97])
def test_lengths_that_latents_cannot_fill_are_refused(samples):
    with pytest.raises(MgzooError, match="2 latents give at most 96 samples"):
        built(SMALL).decode(torch.zeros(1, 6, 2), (samples,))


def test_the_end_is_mirrored_to_a_whole_hop():
    media = noise(100)
    assert torch.equal(to_whole(media, 48), F.pad(media, (0, 44), mode="reflect"))
    assert torch.equal(to_whole(media[..., :96], 48), media[..., :96])
    assert to_whole(torch.tensor([[[1.0, 2.0, 3.0]]]), 8).tolist() == [[[1, 2, 3, 2, 1, 2, 3, 2]]]
    assert to_whole(torch.tensor([[[4.0]]]), 3).tolist() == [[[4, 4, 4]]]


# ---------------------------------------------------------------------------------------------------- formulas


def test_snake_and_its_gradient():
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    alpha = (0.5 + torch.rand(1, 3, 1, dtype=torch.float64)).requires_grad_()
    assert torch.allclose(dacvae._Snake.apply(x, alpha), x + torch.sin(alpha * x) ** 2 / alpha)
    x.grad = alpha.grad = None
    grad = torch.randn(2, 3, 5, dtype=torch.float64)
    expected = torch.autograd.grad(x + torch.sin(alpha * x) ** 2 / alpha, (x, alpha), grad)
    found = torch.autograd.grad(dacvae._Snake.apply(x, alpha), (x, alpha), grad)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected))


@torch.no_grad()
def test_the_posterior_is_as_published():
    part, media = built(SMALL), noise(480, 2)
    mean, deviation = part.posterior(media)
    features = part.encoder(media)
    projection = part.quantizer.in_proj
    weight = projection.weight_g * projection.weight_v / projection.weight_v.norm(dim=(1, 2), keepdim=True)
    both = torch.einsum("oci,bct->bot", weight, features) + projection.bias[:, None]
    assert torch.allclose(mean, both[:, :6], atol=1e-5)
    assert torch.allclose(deviation, torch.log1p(both[:, 6:].exp()) + 1e-4, atol=1e-5)


@torch.no_grad()
def test_weight_norm_knows_only_directions():
    part, media = built(SMALL), noise(480)
    before = part.sound(part.posterior(media)[0])
    for name, weight in part.named_parameters():
        if name.endswith("weight_v"):
            weight *= 3
    assert torch.allclose(part.sound(part.posterior(media)[0]), before, atol=1e-5)


@torch.no_grad()
def test_calibrated_latents_have_mean_zero_and_deviation_one():
    part, media = built(SMALL), noise(4800, 4)
    part.calibrate(part.posterior(x)[0] for x in media.split(2))
    latents = part.encode(media)
    assert torch.allclose(latents.mean((0, 2)), torch.zeros(6), atol=1e-4)
    assert torch.allclose(latents.std((0, 2), correction=0), torch.ones(6), atol=1e-3)
    assert torch.allclose(part.denormalise(latents), part.posterior(media)[0], atol=1e-5)


# ---------------------------------------------------------------------------------------------------- the linear path


def test_the_mdct_is_a_lapped_orthonormal_basis():
    rows = mdct_basis(24)
    assert torch.allclose(rows @ rows.T, torch.eye(24), atol=1e-5)
    assert torch.allclose(rows[:, :24] @ rows[:, 24:].T, torch.zeros(24, 24), atol=1e-5)  # neighbours do not see each other


@torch.no_grad()
def test_all_coefficients_give_the_sound_back():
    lapped = MDCT(dataclasses.replace(LINEAR, channels=48))
    media = noise(480)
    assert torch.allclose(lapped.synthesise(lapped.analyse(media))[..., 24:-24], media[..., 24:-24], atol=1e-4)


@torch.no_grad()
def test_training_starts_from_a_codec_of_the_lower_band():
    part = DacVae(LINEAR)  # 6 of 48 coefficients at 2,400 samples a second: up to 150 Hz
    time = torch.arange(2400) / 2400
    low, high = (0.5 * torch.sin(2 * math.pi * hertz * time)[None, None] for hertz in (70, 400))
    part.fit([low + 0.1 * noise(2400)])
    assert si_sdr(part.decode(part.encode(low), (2400,)), low).item() > 12
    assert si_sdr(part.decode(part.encode(high), (2400,)), high).item() < 0


@torch.no_grad()
def test_fitted_coefficients_have_about_unit_power():
    lapped = MDCT(DacVaeConfig(channels=32, rates=(6, 8), encoder_dim=4, decoder_dim=4, latent_dim=4, linear=True))
    media = noise(48 * 400).cumsum(-1)
    media = 0.1 * (media - media.mean())
    lapped.fit([media])
    found = lapped.analyse(media).square().mean((0, 2)).sqrt()
    assert 0.3 < found[8:].min() and found.max() < 3


# ---------------------------------------------------------------------------------------------------- files


@torch.no_grad()
def test_stereo_is_two_mono_sounds_at_any_rate():
    part = built(LINEAR)
    part.fit([noise(4800)])
    audio = 0.2 * torch.randn(2, 8001, generator=torch.Generator().manual_seed(3))
    both = codec_round_trip(part, audio, 8000)
    assert both.shape == audio.shape
    assert torch.allclose(both[1:], codec_round_trip(part, audio[1:], 8000), atol=1e-5)
