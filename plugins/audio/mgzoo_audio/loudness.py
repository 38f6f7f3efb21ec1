"""Loudness of a sound (ITU-R BS.1770-4) and its true peak; new sounds are brought to a loudness.

Shape letters: A channels, N samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mgzoo.media.audio import SILENT, resample

OVERSAMPLED = 4  # for the true peak, as ITU-R BS.1770-4, annex 2 has it
WEIGHTS = {1: (1.0,), 2: (1.0, 1.0), 5: (1.0, 1.0, 1.0, 1.41, 1.41), 6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)}  # BS.1770-4, table 3, by the number of channels


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
    """Integrated loudness of (A, N) in LUFS (ITU-R BS.1770-4): K-weighted, gated at -70 LUFS and 10 LU below the mean. -inf of silence.

    The filters are applied to the spectrum; a second of silence keeps the end out of the beginning. Shorter than 400 ms, the
    whole is one block (our choice)."""
    channels, samples = audio.shape
    size = 2 ** math.ceil(math.log2(samples + rate))
    response = torch.ones((), dtype=torch.complex128)
    for over, under in k_weighting(rate):
        response = response * torch.fft.rfft(torch.tensor(over, dtype=torch.float64), size) / torch.fft.rfft(torch.tensor(under, dtype=torch.float64), size)
    heard = torch.fft.irfft(torch.fft.rfft(audio.detach().cpu().double(), size) * response, size)[:, :samples]
    block = min(round(0.4 * rate), samples)
    power_AB = heard.square().unfold(-1, block, max(1, round(0.1 * rate))).mean(-1)
    weights = torch.tensor(WEIGHTS.get(channels, (1.0,) * channels), dtype=torch.float64)
    power_B = (weights[:, None] * power_AB).sum(0)
    power_B = power_B[power_B > _power(-70.0)]
    if not len(power_B):
        return -math.inf
    power_B = power_B[power_B > _power(_lufs(power_B.mean().item()) - 10)]
    return _lufs(power_B.mean().item())


def _power(lufs: float) -> float:
    return 10 ** ((lufs + 0.691) / 10)


def _lufs(power: float) -> float:
    return -0.691 + 10 * math.log10(power)


def true_peak(audio: Tensor, rate: int) -> float:
    """Largest magnitude of (A, N) between its samples too, by fourfold oversampling; 1 is full scale."""
    over = resample(audio, rate, OVERSAMPLED * rate)
    return max(float(audio.abs().max()), float(over.abs().max())) if audio.numel() else 0.0


def normalize_loudness(audio: Tensor, rate: int, lufs: float, peak: float) -> Tensor:
    """(A, N) at this loudness, or as near below as a true peak of at most ``peak`` dB of full scale allows. Silence stays as it is."""
    found, highest = loudness(audio, rate), true_peak(audio, rate)
    if found == -math.inf or highest < SILENT:
        return audio
    return audio * min(10 ** ((lufs - found) / 20), 10 ** (peak / 20) / highest)
