"""Training a sound autoencoder: which term reaches which weights, and what a micro budget learns."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from mgzoo.media import Media
from mgzoo.parts import Clip, Example
from mgzoo.spec import MgzooError
from mgzoo_autoencoders.dacvae import DacVae
from mgzoo_autoencoders.dacvae_codec import Codec, kl
from mgzoo_autoencoders.dacvae_configs import CodecConfig, DacVaeConfig

SMALL = DacVaeConfig(rate=2400, channels=12, encoder_dim=4, rates=(2, 6), latent_dim=10, decoder_dim=16, patch=4, linear=True, chunk=50)
LOSSES = CodecConfig(l1=1.0, si_sdr=0.1, stft_sizes=(128, 32), mel=0.1, kl=1e-4)
ADVERSARIAL = dataclasses.replace(LOSSES, adversarial=0.5, periods=(2, 3), resolutions=(64,), discriminator_width=4)


def model(weights=None) -> SimpleNamespace:
    torch.manual_seed(0)
    recipe = SimpleNamespace(parts={"autoencoder": SimpleNamespace(weights=weights)})
    return SimpleNamespace(autoencoder=DacVae(SMALL), recipe=recipe)


def tones(batch: int = 4, seed: int = 0) -> torch.Tensor:
    """Two harmonics each, (B, 1, 960)."""
    draw = torch.Generator().manual_seed(seed)
    hertz, phase = 60 + 60 * torch.rand(batch, 1, 1, generator=draw), 6 * torch.rand(batch, 1, 1, generator=draw)
    time = torch.arange(960) / 2400
    return 0.3 * torch.sin(2 * math.pi * hertz * time + phase) + 0.1 * torch.sin(2 * math.pi * 6 * hertz * time)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_the_kullback_leibler_term_is_as_published():
    mean, deviation = torch.randn(3, 5, 7), 0.1 + torch.rand(3, 5, 7)
    expected = (mean**2 + deviation**2 - torch.log(deviation**2) - 1).sum(1).mean()
    assert torch.allclose(kl(mean, deviation), expected)
    assert kl(torch.zeros(1, 5, 2), torch.ones(1, 5, 2)) == 0


@pytest.mark.parametrize("config", [CodecConfig(adversarial=1.0), ADVERSARIAL, CodecConfig()], ids=["default", "small", "off"])
def test_discriminators_are_counted_in_closed_form(config):
    assert sum(p.numel() for p in Codec(config).parameters()) == config.num_parameters()


def test_only_a_weight_builds_discriminators():
    assert Codec(LOSSES).trained(None) == ["autoencoder"] and Codec(LOSSES).discriminators is None
    assert Codec(ADVERSARIAL).trained(None) == ["autoencoder", "task"] and len(Codec(ADVERSARIAL).discriminators) == 3


def grads(module: torch.nn.Module) -> list[bool]:
    return [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]


@pytest.mark.parametrize(("terms", "reaches"), [(("adversarial", "features"), "autoencoder"), (("discriminator",), "discriminators")])
def test_each_adversarial_term_reaches_its_own_side_alone(terms, reaches):
    task, part = Codec(ADVERSARIAL), model().autoencoder
    part.decoder.model[-2].weight_g.data.fill_(0.3)
    media = tones()
    output = part.sound(part.posterior(media)[0])[..., :960]
    found = task._adversarial(output, media)
    sum(found[name] for name in terms).backward()
    assert any(grads(part)) == (reaches == "autoencoder")
    assert any(grads(task.discriminators)) == (reaches == "discriminators")
    if reaches == "discriminators":
        assert all(grads(task.discriminators))


def test_the_whole_loss_reaches_every_weight_in_one_backward_pass():
    wired, task = model(), Codec(ADVERSARIAL)
    wired.autoencoder.quantizer.in_proj.weight_g.data.fill_(0.3)
    wired.autoencoder.decoder.model[-2].weight_g.data.fill_(0.3)
    loss = task.loss(wired, Example(latents=tones()), generator())
    loss.total.backward()
    assert all(grads(wired.autoencoder)) and all(grads(task))
    assert set(loss.terms) == {"l1", "kl", "si_sdr", "stft", "mel", "adversarial", "features", "discriminator"}


def test_the_discriminators_learn_to_tell_and_the_codec_to_please():
    wired, task = model(), Codec(ADVERSARIAL)
    wired.autoencoder.fit([tones(16)])
    before = task.validate(wired, Example(latents=tones(8, 9)), generator())
    optimizer = torch.optim.AdamW([*wired.autoencoder.parameters(), *task.parameters()], 3e-3)
    for step in range(40):
        optimizer.zero_grad()
        task.loss(wired, Example(latents=tones(8, 100 + step)), generator()).total.backward()
        optimizer.step()
    after = task.validate(wired, Example(latents=tones(8, 9)), generator())
    assert after["loss"] < 0.95 * before["loss"]  # dB of spectra of tones it has not met
    media = tones(16, 77)
    with torch.no_grad():
        made = wired.autoencoder.sound(wired.autoencoder.posterior(media)[0])[..., :960]
        real, fake = (sum(net(x)[-1].mean() for net in task.discriminators) for x in (media, made))
    assert real > fake


def test_a_decoder_trained_alone_leaves_the_latents():
    wired, task = model(weights="registry/x"), Codec(dataclasses.replace(LOSSES, decoder_only=True))
    part = wired.autoencoder
    part.quantizer.out_proj.weight_g.data.fill_(0.3)
    part.decoder.model[-2].weight_g.data.fill_(0.3)
    task.start(wired, iter(()))
    task.loss(wired, Example(latents=tones()), generator()).total.backward()
    task.finish(wired, [Example(latents=tones())])
    moved = {name.split(".")[0] + "." + name.split(".")[1] for name, p in part.named_parameters() if p.grad is not None}
    assert moved == {"decoder.model", "quantizer.out_proj", "lapped.synthesis"}
    assert part.latent_std.eq(1).all() and part.latent_mean.eq(0).all()
    task = Codec(LOSSES)
    task.finish(wired, [Example(latents=tones())])
    assert not part.latent_std.eq(1).any()


def test_silence_trains_to_something_finite():
    wired, task = model(), Codec(ADVERSARIAL)
    loss = task.loss(wired, Example(latents=torch.zeros(2, 1, 960)), generator())
    loss.total.backward()
    assert torch.isfinite(loss.total) and all(torch.isfinite(p.grad).all() for p in wired.autoencoder.parameters() if p.grad is not None)
    assert task.validate(wired, Example(latents=torch.zeros(2, 1, 960)), generator())["si_sdr"] == 0.0


def clip(rate: int, channels: int = 2) -> Clip:
    return Clip(key="x", digest="0" * 16, caption="", sound=lambda: tones(channels)[:, 0], samples=960, rate=rate)


def test_clips_become_mono_and_keep_their_rate():
    example = Codec(LOSSES).prepare(model(), [clip(2400), clip(2400)])
    assert torch.allclose(example.latents, tones(2)[:, 0].mean(0)[None, None].expand(2, 1, 960))
    with pytest.raises(MgzooError, match="800 samples per second, the autoencoder 2400"):
        Codec(LOSSES).prepare(model(), [clip(2400), clip(800)])


def test_a_sound_passes_through_and_a_bad_one_does_not():
    wired, task = model(), Codec(LOSSES)
    given = Media(audio=tones(2)[:, 0, :801], rate=800)
    found = task.generate(wired, audio=given)
    assert found.audio.shape == (2, 801) and found.rate == 800
    with pytest.raises(MgzooError, match="non-finite"):
        task.generate(wired, audio=dataclasses.replace(given, audio=given.audio * math.nan))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"kl": -1.0}, "kl is a weight"), ({"l1": 0.0, "stft": 0.0}, "no reconstruction term"), ({"stft_sizes": (4,)}, "at least 8"), ({"adversarial": 1.0, "periods": (), "resolutions": ()}, "discriminator")],
)
def test_impossible_losses_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        CodecConfig(**wrong)
