"""Training a sound autoencoder: waveform, spectral, Kullback-Leibler and adversarial terms.

Shape letters: B batch, S samples, C latent channels, T latents, Q frequencies, P period.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.media.audio import SILENT, mono, resample, validate_audio
from mgzoo.media.spectrogram import mel_spectrogram
from mgzoo.parts import Clip, Example, Loss
from mgzoo.spec import MgzooError
from mgzoo_autoencoders.audio_losses import log_spectral_distance, si_sdr, stft_loss
from mgzoo_autoencoders.dacvae_configs import CodecConfig

SLOPE = 0.1
WIDE = 10.0  # dB: the unit in which the SI-SDR term counts


class Period(nn.Module):
    """Multi-period discriminator (Kong et al. 2020) of one period: the sound folded to (S / P, P), convolved along time alone."""

    def __init__(self, period: int, width: int):
        super().__init__()
        self.period = period
        widths = (1, width, 2 * width, 4 * width)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, (5, 1), (3, 1), padding=(2, 0)) for a, b in zip(widths, widths[1:]))
        self.last = nn.Conv2d(4 * width, 1, (3, 1), padding=(1, 0))

    def forward(self, sound_B1S: Tensor) -> list[Tensor]:
        """Features of every layer, the scores last."""
        whole = F.pad(sound_B1S, (0, -sound_B1S.shape[-1] % self.period))
        return through(self, whole.unflatten(-1, (-1, self.period)).to(self.last.weight.dtype))


class Spectral(nn.Module):
    """Multi-resolution discriminator (Jang et al. 2021) of one window size: 2-D convolutions over real and imaginary part of the spectrum."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.size = size
        self.layers = nn.ModuleList([
            nn.Conv2d(2, width, (9, 3), padding=(4, 1)),
            *(nn.Conv2d(width, width, (9, 3), (2, 1), padding=(4, 1)) for _ in range(2)),
            nn.Conv2d(width, width, 3, padding=1),
        ])  # fmt: skip
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, sound_B1S: Tensor) -> list[Tensor]:
        """Features of every layer, the scores last."""
        window = torch.hann_window(self.size, device=sound_B1S.device)
        found = torch.stft(sound_B1S.squeeze(1).float(), self.size, self.size // 4, window=window, pad_mode="constant", return_complex=True)
        return through(self, torch.view_as_real(found).movedim(-1, 1).to(self.last.weight.dtype) / window.sum().sqrt())


def through(net: Period | Spectral, x: Tensor) -> list[Tensor]:
    features = []
    for layer in net.layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return [*features, net.last(x)]


class Codec(nn.Module):
    """Train a sound autoencoder to give its sound back (Movie Gen Audio, section 6; losses of DAC), and run one over a file."""

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.config = config
        self.discriminators = None
        if config.adversarial:
            width = config.discriminator_width
            self.discriminators = nn.ModuleList([*(Period(p, width) for p in config.periods), *(Spectral(s, width) for s in config.resolutions)])

    def trained(self, model) -> Sequence[str]:
        return ["autoencoder", "task"] if self.discriminators is not None else ["autoencoder"]

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Clips of one length -> Example with latents = sound float32 (B, 1, S) in [-1, 1]; channels become the mean of them."""
        if strange := sorted({clip.rate for clip in clips} - {model.autoencoder.config.rate}):
            raise MgzooError(f"the data has {strange[0]} samples per second, the autoencoder {model.autoencoder.config.rate}",
                             remedy="set data.config.rate to the autoencoder's rate")
        device = next(model.autoencoder.parameters()).device
        return Example(latents=torch.stack([mono(clip.sound()) for clip in clips]).to(device))

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        c, media = self.config, example.latents
        with torch.set_grad_enabled(torch.is_grad_enabled() and not c.decoder_only):
            mean, deviation = model.autoencoder.posterior(media)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
        output = model.autoencoder.sound(mean + deviation * noise)[..., : media.shape[-1]]
        terms = {"l1": (output - media).abs().mean(), "kl": kl(mean, deviation)}
        if c.si_sdr:
            loud = media.abs().amax((1, 2)) > SILENT  # a ratio to silence says nothing
            terms["si_sdr"] = -(si_sdr(output, media)[:, 0] * loud).clamp_max(30).mean() / WIDE
        if c.stft:
            terms["stft"] = stft_loss(output, media, c.stft_sizes)
        if c.mel:
            rate = model.autoencoder.config.rate
            terms["mel"] = (mel_spectrogram(output, rate) - mel_spectrogram(media, rate)).abs().mean()
        total = sum(getattr(c, name) * term for name, term in terms.items())
        if self.discriminators is not None:
            terms |= self._adversarial(output, media)
            total = total + c.adversarial * (terms["adversarial"] + c.features * terms["features"]) + terms["discriminator"]
        return Loss(total=total, terms={name: term.detach() for name, term in terms.items()})

    def _adversarial(self, fake_B1S: Tensor, real_B1S: Tensor) -> dict[str, Tensor]:
        """adversarial, features: what the autoencoder descends, through discriminators that are held fixed. discriminator: what they
        descend, on sound without a history (least squares, as in DAC). One backward pass serves both, since neither reaches the other."""
        terms = dict.fromkeys(("adversarial", "features", "discriminator"), fake_B1S.new_zeros(()))
        for net in self.discriminators:
            real, judged = net(real_B1S), net(fake_B1S.detach())[-1].float()
            fixed = {name: weight.detach() for name, weight in net.named_parameters()}
            fake = torch.func.functional_call(net, fixed, (fake_B1S,))
            terms["discriminator"] = terms["discriminator"] + (1 - real[-1].float()).square().mean() + judged.square().mean()
            terms["adversarial"] = terms["adversarial"] + (1 - fake[-1].float()).square().mean()
            far = [(a.float() - b.detach().float()).abs().mean() / b.detach().float().abs().mean().clamp_min(1e-6) for a, b in zip(fake[:-1], real[:-1])]
            terms["features"] = terms["features"] + sum(far) / len(far)
        return {name: term / len(self.discriminators) for name, term in terms.items()}

    @torch.no_grad()
    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Posterior mean, no noise: loss = multi-scale STFT distance in dB; si_sdr in dB, mean over sounds that are not silent."""
        media = example.latents
        output = model.autoencoder.decode(model.autoencoder.encode(media), media.shape[2:])
        loud = media.abs().amax((1, 2)) > SILENT
        ratios = si_sdr(output, media)[:, 0][loud]
        return {"loss": log_spectral_distance(output, media).mean().item(), "si_sdr": ratios.mean().item() if len(ratios) else 0.0,
                "l1": (output - media).abs().mean().item()}  # fmt: skip

    def start(self, model, examples: Iterable[Example]) -> None:
        """Fit the autoencoder's linear path to real sound, unless the recipe gives it weights to start from."""
        if not model.recipe.parts["autoencoder"].weights:
            model.autoencoder.fit(example.latents for example in examples)

    @torch.no_grad()
    def finish(self, model, examples: Iterable[Example]) -> None:
        """Set the autoencoder's latent statistics from examples, once training is over and before it is saved; not in `decoder_only`."""
        if not self.config.decoder_only:
            model.autoencoder.calibrate(model.autoencoder.posterior(example.latents)[0] for example in examples)

    @torch.no_grad()
    def generate(self, model, *, audio, prompt: str = "", seed: int = 0):
        """A sound (`mgzoo.media.Media`) through the autoencoder and back: Media of the same rate, channels and length. prompt: its
        caption. seed: nothing is drawn, so it changes nothing."""
        from mgzoo.media import Media

        heard = validate_audio(audio.audio, audio.rate, origin="the given sound", silent=True)
        return Media(audio=codec_round_trip(model.autoencoder, heard, audio.rate), rate=audio.rate, caption=prompt)


@torch.no_grad()
def codec_round_trip(autoencoder, audio: Tensor, rate: int) -> Tensor:
    """float (K, S) at any rate through a sound autoencoder and back: each channel on its own, the same channels, rate and length."""
    own = autoencoder.config.rate
    media = resample(audio, rate, own)[:, None].to(next(autoencoder.parameters()).device)
    out = autoencoder.decode(autoencoder.encode(media), media.shape[2:])[:, 0].clamp(-1, 1).cpu()
    back = resample(out, own, rate)
    return F.pad(back, (0, audio.shape[-1] - back.shape[-1])) if back.shape[-1] < audio.shape[-1] else back[:, : audio.shape[-1]]


def kl(mean_BCT: Tensor, deviation_BCT: Tensor) -> Tensor:
    """Mean over batch and time of the sum over channels of mean^2 + var - log var - 1, as published (twice the divergence)."""
    variance = deviation_BCT.square()
    return (mean_BCT.square() + variance - variance.log() - 1).sum(1).mean()
