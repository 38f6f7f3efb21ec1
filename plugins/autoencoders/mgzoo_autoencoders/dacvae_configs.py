"""Configs of the sound autoencoder and of the task that trains it. No torch here.

The closed form walks the same levels as `dacvae.Encoder` and `dacvae.Decoder`: (parameters, multiply-add FLOPs) of each layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mgzoo.spec import LatentSpec, RequestOption, TaskConfig, option

Cost = tuple[int, int]
KERNEL, DILATIONS = 7, (1, 3, 9)  # of the residual units


@dataclass(frozen=True, kw_only=True)
class DacVaeConfig:
    """Movie Gen Audio's sound autoencoder (section 6): DAC (Kumar et al. 2023) with a Gaussian bottleneck, in its open configuration."""

    rate: int = option(48_000, "samples per second of the mono sound")
    channels: int = option(128, "latent channels C")
    encoder_dim: int = option(64, "activation channels of the encoder's first level; each level doubles them")
    rates: tuple[int, ...] = option((2, 8, 10, 12), "strides of the encoder's levels, in order; the decoder has them reversed")
    latent_dim: int = option(1024, "width between encoder, bottleneck and decoder")
    decoder_dim: int = option(1536, "activation channels of the decoder's first level; each level halves them")
    patch: int = option(1, "neighbouring samples folded into channels before the first convolution; 1: none, as published")
    linear: bool = option(False, "a lapped linear transform (initialised as the MDCT) in parallel to the network: training starts from a codec")
    space: str = option("autoencoders.dacvae128", "identity of the latent space")
    chunk: int = option(50, "latents per chunk; longer sounds are coded in overlapping chunks, with the same result as in one piece")

    def __post_init__(self):
        if not self.rates or any(r < 2 for r in self.rates):
            raise ValueError(f"rates holds strides of at least 2, not {self.rates}")
        if min(self.rate, self.channels, self.encoder_dim, self.latent_dim, self.decoder_dim, self.patch, self.chunk) < 1:
            raise ValueError("rate, channels, encoder_dim, latent_dim, decoder_dim, patch and chunk are at least 1")
        if self.decoder_dim % 2 ** len(self.rates):
            raise ValueError(f"decoder_dim={self.decoder_dim} is halved {len(self.rates)} times: make it a multiple of {2 ** len(self.rates)}")
        if self.linear and self.channels > self.hop:
            raise ValueError(f"linear=True: channels={self.channels} exceeds the size of a block of {self.hop} samples")

    @property
    def hop(self) -> int:
        """Samples per latent."""
        return self.patch * math.prod(self.rates)

    @classmethod
    def tiny(cls) -> DacVaeConfig:
        """48 kHz, 25 latents a second, 128 channels, 2.1 M parameters: trains in minutes on a CPU (our choice).

        Samples are folded by 16 in place of the two finest levels, which hold few weights and most of the work."""
        return cls(encoder_dim=16, rates=(10, 12), latent_dim=128, decoder_dim=192, patch=16, linear=True, space="autoencoders.dacvae-tiny")

    def latent_spec(self) -> LatentSpec:
        return LatentSpec(space=self.space, channels=self.channels, stride=(self.hop,), layout="sound")

    def num_parameters(self) -> int:
        """Trainable parameters (the two normalisation vectors of C are buffers)."""
        blocks = 4 * self.hop * self.channels if self.linear else 0
        return blocks + sum(p for p, _ in (*self._encoder(1), *self._decoder(1)))

    def flops(self, samples: int) -> int:
        """FLOPs (two per multiply-add) of encoding one sound of this length in one piece."""
        latents = math.ceil(samples / self.hop)
        blocks = 4 * self.hop * self.channels * latents if self.linear else 0
        return blocks + sum(f for _, f in self._encoder(latents))

    def reach(self) -> tuple[int, int]:
        """Latents to either side that (a latent of the encoder, a sample of the decoder) depends on, at most."""
        unit, seen = KERNEL // 2 * sum(DILATIONS), 0.0
        span = KERNEL // 2 * self.patch  # in samples, to one side
        step = self.patch
        for r in self.rates:
            span += step * (unit + r)
            step *= r
        span += step  # the last convolution is 3 wide
        seen = KERNEL // 2
        step = 1.0  # latents per position
        for r in reversed(self.rates):
            seen += step
            step /= r
            seen += step * unit
        seen += step * (KERNEL // 2)
        return math.ceil(span / self.hop) + 1, math.ceil(seen) + 1

    def _encoder(self, latents: int) -> Iterator[Cost]:
        width, length = self.encoder_dim, latents * self.hop // self.patch
        yield self._conv(self.patch, width, KERNEL, length)
        for r in self.rates:
            yield from self._units(width, length)
            length //= r
            yield width, 0
            yield self._conv(width, 2 * width, 2 * r, length)
            width *= 2
        yield width, 0
        yield self._conv(width, self.latent_dim, 3, length)
        yield self._conv(self.latent_dim, 2 * self.channels, 1, length)

    def _decoder(self, latents: int) -> Iterator[Cost]:
        width, length = self.decoder_dim, latents
        yield self._conv(self.channels, self.latent_dim, 1, length)
        yield self._conv(self.latent_dim, width, KERNEL, length)
        for r in reversed(self.rates):
            yield width, 0
            length *= r
            # Weight norm has one gain for each input of a transposed convolution.
            yield width * (width // 2) * 2 * r + width + width // 2, 2 * width * (width // 2) * 2 * length
            width //= 2
            yield from self._units(width, length)
        yield width, 0
        yield self._conv(width, self.patch, KERNEL, length)

    def _units(self, width: int, length: int) -> Iterator[Cost]:
        for _ in DILATIONS:
            yield 2 * width, 0
            yield self._conv(width, width, KERNEL, length)
            yield self._conv(width, width, 1, length)

    def _conv(self, c_in: int, c_out: int, taps: int, length: int) -> Cost:
        return c_in * c_out * taps + 2 * c_out, 2 * c_in * c_out * taps * length


@dataclass(frozen=True, kw_only=True)
class CodecConfig(TaskConfig):
    """Training a sound autoencoder. Distances are means over what they compare, so that weights mean the same at every length."""

    l1: float = option(1.0, "weight of the mean absolute error of samples in [-1, 1]")
    si_sdr: float = option(0.0, "weight of the negative scale-invariant signal-to-distortion ratio, in units of 10 dB")
    stft: float = option(1.0, "weight of the distance of spectra at several sizes, of log magnitude and magnitude")
    stft_sizes: tuple[int, ...] = option((2048, 512, 128), "samples per window of those spectra")
    mel: float = option(0.0, "weight of the distance of log mel spectra")
    kl: float = option(1e-4, "weight of the Kullback-Leibler term: mean over batch and time of the sum over channels, as published")
    decoder_only: bool = option(False, "freeze the encoder and the latent statistics: models trained on its latents stay valid")
    adversarial: float = option(0.0, "weight of the adversarial term; 0 builds no discriminators")
    features: float = option(2.0, "weight of the distance of the discriminators' features, times `adversarial`")
    periods: tuple[int, ...] = option((2, 3, 5, 7, 11), "periods of the multi-period discriminators")
    resolutions: tuple[int, ...] = option((2048, 1024, 512), "samples per window of the spectral discriminators")
    discriminator_width: int = option(32, "channels of each discriminator's first layer")

    def __post_init__(self):
        for name in ("l1", "si_sdr", "stft", "mel", "kl", "adversarial", "features"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a weight: at least 0, not {getattr(self, name)}")
        if not (self.l1 or self.si_sdr or self.stft):
            raise ValueError("l1, si_sdr and stft are all 0: the loss has no reconstruction term")
        if any(size < 8 for size in (*self.stft_sizes, *self.resolutions)) or any(period < 1 for period in self.periods):
            raise ValueError("stft_sizes and resolutions are at least 8 samples, periods at least 1")
        if self.adversarial and not (self.periods or self.resolutions):
            raise ValueError("adversarial needs at least one discriminator: give periods or resolutions")

    @classmethod
    def tiny(cls) -> CodecConfig:
        """Weights for short trainings (our choice)."""
        return cls(l1=5.0, si_sdr=0.1, kl=5e-5, discriminator_width=4)

    def required_parts(self) -> tuple[str, ...]:
        return ("autoencoder",)

    def modalities(self) -> tuple[str, ...]:
        return ()

    def layout(self) -> str:
        """It needs latents of sound."""
        return "sound"

    def request_options(self) -> tuple[RequestOption, ...]:
        return (
            RequestOption(name="prompt", kind="text", help="name of the sound, used as its caption"),
            RequestOption(name="audio", kind="sound", help="the sound to encode and decode, any rate, one or two channels", required=True),
        )

    def output_modalities(self) -> tuple[str, ...]:
        return ("sound",)

    def num_parameters(self) -> int:
        """Those of the discriminators, 0 without."""
        if not self.adversarial:
            return 0
        w = self.discriminator_width
        period = 5 * (w + w * 2 * w + 2 * w * 4 * w) + 3 * 4 * w + 7 * w + 1
        spectral = 27 * 2 * w + 2 * 27 * w * w + 9 * w * w + 9 * w + 4 * w + 1
        return len(self.periods) * period + len(self.resolutions) * spectral
