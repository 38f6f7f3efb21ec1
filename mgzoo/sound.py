"""Sound as tensors: rates, channels, loudness, distances, pictures. What codecs, data and task heads of sound share.

Sound is float (..., channels, S) in [-1, 1]; shape letters: S samples, K channels, Q frequencies, T windows, M mel bands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mgzoo.media.audio import SILENT, checked, cut, downmix, mono, resample  # noqa: F401, names that this module had first
from mgzoo.media.decode import read_audio as read  # noqa: F401
from mgzoo.spec import MgzooError
from mgzoo.storage import atomic_path

FLOOR = 1e-4
"""Magnitudes of spectra are compared down to -80 dB of full scale."""
WEIGHTS = {1: (1.0,), 2: (1.0, 1.0), 5: (1.0, 1.0, 1.0, 1.41, 1.41), 6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)}  # BS.1770-4, table 3


@torch.no_grad()
def coded(autoencoder, audio: Tensor, rate: int) -> Tensor:
    """float (K, S) at any rate through a sound autoencoder and back: each channel on its own, the same channels, rate and length."""
    own = autoencoder.config.rate
    media = resample(audio, rate, own)[:, None].to(next(autoencoder.parameters()).device)
    out = autoencoder.decode(autoencoder.encode(media), media.shape[2:])[:, 0].clamp(-1, 1).cpu()
    back = resample(out, own, rate)
    return F.pad(back, (0, audio.shape[-1] - back.shape[-1])) if back.shape[-1] < audio.shape[-1] else back[:, : audio.shape[-1]]


# ---------------------------------------------------------------------------------------------------- loudness


def k_weighting(rate: int) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    """The two filters of ITU-R BS.1770-4 as (numerator, denominator) of second order at any rate: a high shelf, then a high pass.

    The analogue prototypes that its tables at 48 kHz come from (as in libebur128), through the bilinear transform."""
    k = math.tan(math.pi * 1681.974450955533 / rate)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    shelf = ((high + band * k / q + k * k) / a0, 2 * (k * k - high) / a0, (high - band * k / q + k * k) / a0), (1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0)
    k, q = math.tan(math.pi * 38.13547087602444 / rate), 0.5003270373238773
    a0 = 1 + k / q + k * k
    return shelf, ((1.0, -2.0, 1.0), (1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0))


def loudness(audio: Tensor, rate: int) -> float:
    """Integrated loudness of (K, S) in LUFS (ITU-R BS.1770-4): K-weighted, gated at -70 LUFS and 10 LU below the mean. -inf of silence.

    The filters are applied to the spectrum; a second of silence keeps the end out of the beginning. Shorter than 400 ms, the
    whole is one block (our choice)."""
    K, S = audio.shape
    size = 2 ** math.ceil(math.log2(S + rate))
    response = torch.ones((), dtype=torch.complex128)
    for over, under in k_weighting(rate):
        response = response * torch.fft.rfft(torch.tensor(over, dtype=torch.float64), size) / torch.fft.rfft(torch.tensor(under, dtype=torch.float64), size)
    heard = torch.fft.irfft(torch.fft.rfft(audio.detach().cpu().double(), size) * response, size)[:, :S]
    block = min(round(0.4 * rate), S)
    power_KB = heard.square().unfold(-1, block, max(1, round(0.1 * rate))).mean(-1)
    weights = torch.tensor(WEIGHTS.get(K, (1.0,) * K), dtype=torch.float64)
    power_B = (weights[:, None] * power_KB).sum(0)
    power_B = power_B[power_B > _power(-70.0)]
    if not len(power_B):
        return -math.inf
    power_B = power_B[power_B > _power(_lufs(power_B.mean().item()) - 10)]
    return _lufs(power_B.mean().item())


def _power(lufs: float) -> float:
    return 10 ** ((lufs + 0.691) / 10)


def _lufs(power: float) -> float:
    return -0.691 + 10 * math.log10(power)


def normalised(audio: Tensor, rate: int, lufs: float = -16.0, peak: float = -1.0) -> Tensor:
    """(K, S) at a loudness, or as near to it as a sample peak of at most `peak` dB of full scale allows. Silence stays as it is."""
    found = loudness(audio, rate)
    if found == -math.inf:
        return audio
    gain = min(10 ** ((lufs - found) / 20), 10 ** (peak / 20) / audio.abs().max().item())
    return audio * gain


# ---------------------------------------------------------------------------------------------------- spectra and distances


@lru_cache(maxsize=32)
def _window(size: int, device: str) -> Tensor:
    return torch.hann_window(size, device=device)


def spectrum(audio: Tensor, size: int, hop: int | None = None) -> Tensor:
    """(..., S) -> magnitudes (..., Q, T) of Hann windows, hop a quarter of the window; a full-scale sine has magnitude 1 at its frequency."""
    window = _window(size, str(audio.device))
    flat = audio.float().reshape(-1, audio.shape[-1])
    flat = F.pad(flat, (size // 2, size // 2))
    found = torch.stft(flat, size, hop or size // 4, window=window, center=False, return_complex=True)
    power = found.real.square() + found.imag.square()
    return ((power + 1e-14).sqrt() * (2 / window.sum())).reshape(*audio.shape[:-1], *found.shape[-2:])


def log_spectral_distance(output: Tensor, audio: Tensor, sizes: Sequence[int] = (4096, 1024, 256, 64)) -> Tensor:
    """Multi-scale STFT distance in dB (...,) of (..., S): mean absolute difference of log magnitudes above -80 dB of full scale, over
    frequencies, windows and sizes."""
    found = []
    for size in sizes:
        a, b = (20 * spectrum(x, size).clamp_min(FLOOR).log10() for x in (output, audio))
        found.append((a - b).abs().mean((-2, -1)))
    return torch.stack(found).mean(0)


def stft_loss(output: Tensor, audio: Tensor, sizes: Sequence[int]) -> Tensor:
    """Differentiable mean over sizes of the log distance (in units of 20 dB) and the relative distance of magnitudes. Scalar."""
    total = output.new_zeros((), dtype=torch.float32)
    for size in sizes:
        a = spectrum(output, size)
        with torch.no_grad():
            b = spectrum(audio, size)
        logs = (a.clamp_min(FLOOR).log10() - b.clamp_min(FLOOR).log10()).abs().mean()
        total = total + logs + (a - b).abs().mean() / b.mean().clamp_min(FLOOR)
    return total / len(sizes)


def si_sdr(output: Tensor, audio: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB (...,) of (..., S) (Le Roux et al. 2019), means taken out."""
    a, b = (x.float() - x.float().mean(-1, keepdim=True) for x in (output, audio))
    target = (a * b).sum(-1, keepdim=True) / b.square().sum(-1, keepdim=True).clamp_min(1e-12) * b
    return 10 * (target.square().sum(-1).clamp_min(1e-12) / (a - target).square().sum(-1).clamp_min(1e-12)).log10()


@lru_cache(maxsize=16)
def mel_filters(rate: int, size: int, bands: int, low: float = 20.0) -> Tensor:
    """(M, Q) triangles, equally spaced in mel (2595 log10(1 + f/700)) from `low` Hz to half the rate, each of area 1 in bins where it has any."""
    mel = lambda f: 2595 * math.log10(1 + f / 700)  # noqa: E731
    edges = 700 * (10 ** (torch.linspace(mel(low), mel(rate / 2), bands + 2) / 2595) - 1)
    f = torch.arange(size // 2 + 1) * rate / size
    rise, fall = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None], (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(rise, fall).clamp_min(0)
    empty = filters.sum(1) == 0  # narrower than a bin: the nearest one
    filters[empty, (edges[1:-1][empty] * size / rate).round().long().clamp_max(size // 2)] = 1.0
    return filters / filters.sum(1, keepdim=True)


def mel(audio: Tensor, rate: int, *, size: int = 2048, hop: int = 512, bands: int = 80) -> Tensor:
    """(..., S) -> log10 mel magnitudes (..., M, T), at least -4 (-80 dB of full scale)."""
    found = spectrum(audio, size, hop)
    return (mel_filters(rate, size, bands).to(found.device) @ found).clamp_min(FLOOR).log10()


# ---------------------------------------------------------------------------------------------------- pictures


COLOURS = ((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164))


def spectrogram(audio: Tensor, rate: int, path: str | Path, *, title: str = "") -> Path:
    """Draw (K, S) as a PNG: wave above, mel spectrogram of the channels' mean below, seconds along, Hz up, -80 dB dark to 0 dB bright."""
    sound = mono(audio.detach().cpu().float())[0]
    if not len(sound):
        raise MgzooError("there is no sample to draw", remedy="give at least one", origin=str(path))
    bands, left, top, tall, bottom = 160, 56, 24, 64, 22
    width = min(1600, max(320, round(len(sound) / rate * 160)))
    hop = max(1, math.ceil(len(sound) / width))
    levels = (mel(sound, rate, size=2048, hop=max(hop, 64), bands=bands) + 4) / 4
    levels = F.interpolate(levels[None, None], (bands, width), mode="bilinear", align_corners=False)[0, 0].clamp(0, 1).flip(0)
    table = torch.tensor(COLOURS, dtype=torch.float32)
    place = levels * (len(table) - 1)
    low = place.floor().long().clamp_max(len(table) - 2)
    picture = table[low] + (table[low + 1] - table[low]) * (place - low)[..., None]
    sheet = Image.new("RGB", (left + width + 8, top + tall + 6 + bands + bottom), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    pen.text((left, 5), title, fill="black", font=font)
    middle = top + tall / 2
    pieces = F.pad(sound, (0, hop * width - len(sound))).reshape(width, -1) if hop * width >= len(sound) else sound[: hop * width].reshape(width, -1)
    for x, (least, most) in enumerate(zip(pieces.amin(1).tolist(), pieces.amax(1).tolist())):
        pen.line([(left + x, middle - most * tall / 2), (left + x, middle - least * tall / 2)], fill=(60, 90, 160))
    sheet.paste(Image.fromarray(picture.round().to(torch.uint8).numpy()), (left, top + tall + 6))
    scale = lambda f: 2595 * math.log10(1 + f / 700)  # noqa: E731
    for f in (100, 500, 1000, 2000, 4000, 8000, 16000):
        if f < rate / 2:
            y = top + tall + 6 + bands * (1 - (scale(f) - scale(20)) / (scale(rate / 2) - scale(20)))
            pen.text((4, y - 6), f"{f} Hz", fill="black", font=font)
    seconds = len(sound) / rate
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1e9) if seconds / s <= 12)
    for i in range(int(seconds / step) + 1):
        pen.text((left + i * step / seconds * width, top + tall + 6 + bands + 4), f"{i * step:g} s", fill="black", font=font)
    with atomic_path(Path(path)) as aside:
        sheet.save(aside, "PNG")
    return Path(path)
