"""DAC-VAE, the autoencoder of sound: Movie Gen Audio, section 6; layers of DAC (Kumar et al. 2023), names as in the public checkpoints.

Shape letters: B batch, C channels, S samples or positions of the level at hand, T latents, N taps of a window.

Sound of any length is coded in chunks of `config.chunk` latents. A chunk is cut with as many neighbours on either side as its result
depends on (`config.reach()`), so that what is kept of it is what one piece would have given, and memory does not grow with the length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.spec import MgzooError
from mgzoo_autoencoders.dacvae_configs import DILATIONS, KERNEL, DacVaeConfig

START_SCALE = -3.0  # with a codec to start from, a posterior of deviation 0.05: a wider one would drown it in noise


class _Snake(torch.autograd.Function):
    """x + sin(a x)^2 / a in three passes over memory, and its gradient in five; autograd's own takes twice as many."""

    @staticmethod
    def forward(ctx, x_BCS: Tensor, alpha_1C1: Tensor) -> Tensor:
        sine = torch.sin(x_BCS * alpha_1C1)
        ctx.save_for_backward(x_BCS, alpha_1C1, sine)
        return torch.addcmul(x_BCS, sine * sine, alpha_1C1.reciprocal())

    @staticmethod
    def backward(ctx, grad_BCS: Tensor) -> tuple[Tensor, Tensor]:
        x_BCS, alpha_1C1, sine = ctx.saved_tensors
        double = torch.sin(x_BCS * (2 * alpha_1C1))
        grad_x = torch.addcmul(grad_BCS, grad_BCS, double)
        slope = double.mul_(x_BCS).sub_(sine.square() / alpha_1C1).mul_(grad_BCS)
        grad_alpha = slope.sum((0, 2), keepdim=True, dtype=torch.float32).to(alpha_1C1.dtype) / alpha_1C1
        return grad_x, grad_alpha


class Snake(nn.Module):
    """Periodic activation with a frequency for each channel (Ziyin et al. 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x_BCS: Tensor) -> Tensor:
        return _Snake.apply(x_BCS, self.alpha + 1e-9)


class Conv(nn.Module):
    """1-D convolution with weight norm: weight = weight_g * weight_v / |weight_v|, one gain for each output channel."""

    def __init__(self, c_in: int, c_out: int, taps: int, *, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.padding = math.ceil(stride / 2) if stride > 1 else (taps - 1) * dilation // 2
        bound = (c_in * taps) ** -0.5
        self.weight_v = nn.Parameter(torch.empty(c_out, c_in, taps).uniform_(-bound, bound))
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(1, 2), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x_BCS: Tensor) -> Tensor:
        weight = torch._weight_norm(self.weight_v, self.weight_g, 0)
        return F.conv1d(x_BCS, weight, self.bias, self.stride, self.padding, self.dilation)


class Up(nn.Module):
    """Transposed convolution of 2 * stride taps with weight norm, one gain for each input channel: S positions become S * stride."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.stride = stride
        bound = (c_in * 2) ** -0.5  # two taps of each input meet in every output
        self.weight_v = nn.Parameter(torch.empty(c_in, c_out, 2 * stride).uniform_(-bound, bound))
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(1, 2), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x_BCS: Tensor) -> Tensor:
        weight = torch._weight_norm(self.weight_v, self.weight_g, 0)
        return F.conv_transpose1d(x_BCS, weight, self.bias, self.stride, math.ceil(self.stride / 2), self.stride % 2)


class ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.block = nn.Sequential(Snake(channels), Conv(channels, channels, KERNEL, dilation=dilation), Snake(channels), Conv(channels, channels, 1))

    def forward(self, x_BCS: Tensor) -> Tensor:
        return x_BCS + self.block(x_BCS)


class Level(nn.Module):
    """One level of the encoder (units, then stride) or of the decoder (stride, then units)."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.block(x_BCS)


def units(channels: int) -> list[nn.Module]:
    return [ResidualUnit(channels, dilation) for dilation in DILATIONS]


class Encoder(nn.Module):
    """Sound (B, patch, S) -> features (B, latent_dim, T)."""

    def __init__(self, config: DacVaeConfig):
        super().__init__()
        width = config.encoder_dim
        layers: list[nn.Module] = [Conv(config.patch, width, KERNEL)]
        for r in config.rates:
            layers.append(Level(*units(width), Snake(width), Conv(width, 2 * width, 2 * r, stride=r)))
            width *= 2
        self.block = nn.Sequential(*layers, Snake(width), Conv(width, config.latent_dim, 3))

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.block(x_BCS)


class Decoder(nn.Module):
    """Features (B, latent_dim, T) -> sound (B, patch, S)."""

    def __init__(self, config: DacVaeConfig):
        super().__init__()
        width = config.decoder_dim
        layers: list[nn.Module] = [Conv(config.latent_dim, width, KERNEL)]
        for r in reversed(config.rates):
            layers.append(Level(Snake(width), Up(width, width // 2, r), *units(width // 2)))
            width //= 2
        self.model = nn.Sequential(*layers, Snake(width), Conv(width, config.patch, KERNEL), nn.Tanh())

    def forward(self, z_BCT: Tensor) -> Tensor:
        return self.model(z_BCT)


class Bottleneck(nn.Module):
    """Instead of DAC's quantiser: 1x1 convolutions to mean and scale of a Gaussian, and back."""

    def __init__(self, config: DacVaeConfig):
        super().__init__()
        self.in_proj = Conv(config.latent_dim, 2 * config.channels, 1)
        self.out_proj = Conv(config.channels, config.latent_dim, 1)


class MDCT(nn.Module):
    """A linear codec of overlapping windows whose output is added to the network's: `analyse` and `synthesise`, 2 hops per latent.

    It starts as the MDCT (Princen and Bradley 1987; sine window), of whose hop coefficients the lowest C are kept: sound below
    C * rate / (2 * hop) Hz, the band that carries most of its power. With the network's last layers at zero, training starts from a
    working codec of a narrow band and the network learns what a linear one cannot do (our choice).
    """

    def __init__(self, config: DacVaeConfig):
        super().__init__()
        self.hop, self.scale = config.hop, (2 * config.hop) ** -0.5  # Adam's steps are of the learning rate: see `tae_block_transform`
        self.analysis = nn.Parameter(torch.empty(config.channels, 2 * config.hop))
        self.synthesis = nn.Parameter(torch.empty(config.channels, 2 * config.hop))
        self._set(mdct_basis(config.hop)[: config.channels], torch.ones(config.channels))

    @torch.no_grad()
    def _set(self, rows_CN: Tensor, deviation_C: Tensor) -> None:
        self.analysis.copy_(rows_CN / deviation_C[:, None] / self.scale)
        self.synthesis.copy_(rows_CN * deviation_C[:, None] / self.scale)

    @torch.no_grad()
    def fit(self, media: Iterable[Tensor]) -> None:
        """Scale the coefficients to about unit power in batches of sound (B, 1, S), S a multiple of the hop.

        Power is averaged over nine neighbours, so that the pitches that happen to be in the batches are not what it fits."""
        rows, power, count = mdct_basis(self.hop)[: len(self.analysis)].to(self.analysis.device), 0.0, 0
        for batch in media:
            found_BTC = self._windows(batch.float()) @ rows.T
            power, count = power + found_BTC.square().sum((0, 1)), count + found_BTC.shape[0] * found_BTC.shape[1]
        smooth = F.avg_pool1d((power / max(count, 1))[None], 9, stride=1, padding=4, count_include_pad=False)[0]
        self._set(rows, smooth.clamp_min(1e-8).sqrt())

    def _windows(self, x_B1S: Tensor) -> Tensor:
        """(B, T, 2 hops): half a hop more on either side, mirrored with the signs that the MDCT's windows end with."""
        half, x = self.hop // 2, x_B1S.squeeze(1)
        return torch.cat([-x[:, :half].flip(-1), x, x[:, -half:].flip(-1)], -1).unfold(-1, 2 * self.hop, self.hop)

    def analyse(self, x_B1S: Tensor) -> Tensor:
        """Sound (B, 1, S), S a multiple of the hop -> raw latents (B, C, T)."""
        return (F.linear(self._windows(x_B1S), self.analysis) * self.scale).transpose(1, 2)

    def synthesise(self, z_BCT: Tensor) -> Tensor:
        """Raw latents -> sound: the inverse of `analyse` up to the coefficients that were not kept."""
        windows_BTN = (z_BCT.transpose(1, 2) @ self.synthesis) * self.scale
        first, second = windows_BTN.unflatten(-1, (2, self.hop)).unbind(2)
        blocks = F.pad(first, (0, 0, 0, 1)) + F.pad(second, (0, 0, 1, 0))
        half = self.hop // 2
        return blocks.flatten(1)[:, None, half:-half]


def mdct_basis(hop: int) -> Tensor:
    """Orthonormal lapped basis (hop, 2 hop), one row per frequency, the lowest first; the sine window is in it."""
    n, k = torch.arange(2 * hop, dtype=torch.float64), torch.arange(hop, dtype=torch.float64)[:, None]
    window = torch.sin(torch.pi / (2 * hop) * (n + 0.5))
    return (window * (2 / hop) ** 0.5 * torch.cos(torch.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))).float()


class DacVae(nn.Module):
    """Movie Gen Audio's autoencoder: mono sound float (B, 1, S) in [-1, 1] <-> normalised latents (B, C, T), T = ceil(S / hop).

    Any length from one sample: the end is mirrored up to a whole hop (and the decoder's spurious samples are dropped). Stereo is
    two mono sounds (`mgzoo_autoencoders.dacvae_codec.codec_round_trip`). The statistics that normalise the latents are buffers, set by `calibrate` and saved
    with the weights.
    """

    def __init__(self, config: DacVaeConfig):
        super().__init__()
        self.config = config
        self.spec = config.latent_spec()
        self.encoder = Encoder(config)
        self.quantizer = Bottleneck(config)
        self.decoder = Decoder(config)
        self.lapped = None
        if config.linear:
            self.lapped = MDCT(config)
            with torch.no_grad():
                self.quantizer.in_proj.weight_g.zero_()
                self.quantizer.in_proj.bias[config.channels :] = START_SCALE
                self.decoder.model[-2].weight_g.zero_()
        self.register_buffer("latent_mean", torch.zeros(config.channels))
        self.register_buffer("latent_std", torch.ones(config.channels))

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.block[0].bias.dtype

    def posterior(self, media: Tensor) -> tuple[Tensor, Tensor]:
        """Sound (B, 1, S) -> raw (not normalised) mean and deviation (B, C, T), float32, in one piece.

        deviation = softplus(scale) + 1e-4, as published."""
        x_B1S = to_whole(media, self.config.hop).to(self.dtype)
        mean, scale = self.quantizer.in_proj(self.encoder(fold(x_B1S, self.config.patch))).float().chunk(2, dim=1)
        if self.lapped is not None:
            mean = mean + self.lapped.analyse(x_B1S).float()
        return mean, F.softplus(scale) + 1e-4

    def sound(self, raw: Tensor) -> Tensor:
        """Raw latents (B, C, T) -> the sound (B, 1, T * hop) they stand for, float32, in one piece."""
        z_BCT = raw.to(self.dtype)
        sound = unfold(self.decoder(self.quantizer.out_proj(z_BCT)))
        return sound.float() if self.lapped is None else sound.float() + self.lapped.synthesise(z_BCT).float()

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw latents -> zero mean and unit deviation per channel."""
        return (raw - self.latent_mean.float()[:, None]) / self.latent_std.float()[:, None]

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return latents.float() * self.latent_std.float()[:, None] + self.latent_mean.float()[:, None]

    def encode(self, media: Tensor) -> Tensor:
        """Sound float (B, 1, S) in [-1, 1] -> normalised latents (B, C, ceil(S / hop)) float32: the posterior mean.

        Raises MgzooError where there is no sample, or more than one channel."""
        if media.ndim != 3 or media.shape[1] != 1 or not media.shape[2]:
            raise MgzooError(f"this autoencoder needs mono sound (batch, 1, samples), not {tuple(media.shape)}",
                             remedy="give at least one sample; code stereo as two mono sounds (mgzoo_autoencoders.dacvae_codec.codec_round_trip)")
        hop, media = self.config.hop, to_whole(media, self.config.hop)
        return chunked(
            lambda first, stop: self.normalise(self.posterior(media[..., first * hop : stop * hop])[0]),
            media.shape[-1] // hop, self.config.chunk, self.config.reach()[0], 1,
        )  # fmt: skip

    def decode(self, latents: Tensor, like: Sequence[int]) -> Tensor:
        """Normalised latents (B, C, T) -> sound (B, 1, S) float32 of length ``like`` = (S,); samples beyond it are dropped."""
        (samples,), T = like, latents.shape[-1]
        hop = self.config.hop
        if not 0 < samples <= T * hop:
            raise MgzooError(f"{T} latents give at most {T * hop} samples, requested: {samples}", remedy="use a length from 1 to this")
        part = lambda first, stop: self.sound(self.denormalise(latents[..., first:stop]))  # noqa: E731
        return chunked(part, T, self.config.chunk, self.config.reach()[1], hop)[..., :samples]

    def fit(self, media: Iterable[Tensor]) -> None:
        """Start the linear path, where there is one, from the power spectrum of batches of sound (B, 1, S)."""
        if self.lapped is not None:
            self.lapped.fit(to_whole(batch, self.config.hop) for batch in media)

    @torch.no_grad()
    def calibrate(self, raw: Iterable[Tensor]) -> None:
        """Set the normalisation from batches of raw latents (B, C, T): mean and deviation of each channel."""
        count, total, square = 0, 0.0, 0.0
        for batch in raw:
            x = batch.double().movedim(1, 0).flatten(1)
            count, total, square = count + x.shape[1], total + x.sum(1), square + x.square().sum(1)
        assert count, "no latents to calibrate with"
        mean = total / count
        self.latent_mean.copy_(mean)
        self.latent_std.copy_((square / count - mean.square()).clamp_min(1e-12).sqrt())


def to_whole(media: Tensor, hop: int) -> Tensor:
    """Sound (B, 1, S) with its end mirrored, to and fro where it is short, up to a multiple of the hop."""
    samples = media.shape[-1]
    if not samples % hop:
        return media
    place = torch.arange(math.ceil(samples / hop) * hop, device=media.device)
    if samples > 1:
        place = place % (2 * samples - 2)
        place = torch.minimum(place, 2 * samples - 2 - place)
    else:
        place = torch.zeros_like(place)
    return media[..., place]


def fold(x_B1S: Tensor, patch: int) -> Tensor:
    """(B, 1, S) -> (B, patch, S / patch): sample s of a patch becomes channel s."""
    return x_B1S.unflatten(-1, (-1, patch)).squeeze(1).transpose(1, 2)


def unfold(x_BPS: Tensor) -> Tensor:
    """The inverse of `fold`."""
    return x_BPS.transpose(1, 2).flatten(1)[:, None]


def chunked(part: Callable[[int, int], Tensor], length: int, chunk: int, reach: int, scale: int) -> Tensor:
    """``part(first, stop)``, the last axis ``scale`` for each of the positions, put together from chunks with neighbours on either side.

    Without gradients the result is written as it comes; memory beyond it does not grow with the length."""
    if length <= chunk + 2 * reach:
        return part(0, length)
    out, pieces = None, []
    for first in range(0, length, chunk):
        stop = min(first + chunk, length)
        before, after = max(0, first - reach), min(length, stop + reach)
        piece = part(before, after)[..., (first - before) * scale : (stop - before) * scale]
        if torch.is_grad_enabled():
            pieces.append(piece)
            continue
        if out is None:
            out = piece.new_empty(*piece.shape[:-1], length * scale)
        out[..., first * scale : stop * scale] = piece
    return torch.cat(pieces, -1) if out is None else out
