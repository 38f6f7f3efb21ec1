"""Measures of a sound and of a moving picture that need no learning: onsets, pitch, turns of motion.

Shape letters: N samples, W analysis windows, K frequencies, F frames, Y X pixels.
"""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

HOP = 0.01  # seconds between analysis windows
FLOOR = 1e-4  # magnitudes below this are silence: about -80 dB of full scale
NOTE = re.compile(r"\b([A-G])(#|b|♯|♭)?(-?\d)\b")
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def mono(audio: Tensor) -> Tensor:
    """(channels, N) -> (N,)."""
    return audio.float().mean(0)


def onset_strength(audio: Tensor, rate: int) -> Tensor:
    """(channels, N) -> (W,), one value every `HOP` seconds: how much louder any frequency gets (spectral flux of log magnitudes, at least 0)."""
    hop, size = max(1, round(HOP * rate)), 1 << max(5, round(math.log2(0.02 * rate)))
    sound = F.pad(mono(audio), (size // 2, size // 2 + hop))
    frames_WN = sound.unfold(0, size, hop) * torch.hann_window(size)
    levels_WK = (torch.fft.rfft(frames_WN).abs() / size).clamp_min(FLOOR).log()
    flux = levels_WK.diff(dim=0).clamp_min(0).mean(1)
    return torch.cat([flux.new_zeros(1), flux])


def motion_reversals(video: Tensor, size: int = 32) -> Tensor:
    """uint8 (F, Y, X, 3) -> (F,), at least 0: how far the main motion of a clip turns round at each frame.

    The main motion is the first principal component of the frames; the turn at one of its extremes is how far the extreme stands out on its
    lower side (topographic prominence). 0 for what stands still, or goes on the same way.
    """
    frames = F.interpolate(video.permute(0, 3, 1, 2).float() / 255, size=(size, size), mode="bilinear", antialias=True, align_corners=False).flatten(1)
    frames = frames - frames.mean(0)
    values, vectors = torch.linalg.eigh(frames @ frames.T)
    line = (vectors[:, -1] * values[-1].clamp_min(0).sqrt()).tolist()
    found = torch.zeros(len(line))
    for way in ([*line], [-value for value in line]):
        for i in range(1, len(way) - 1):
            if way[i - 1] < way[i] >= way[i + 1]:
                before = next((j for j in range(i - 1, -1, -1) if way[j] > way[i]), 0)
                after = next((j for j in range(i + 1, len(way)) if way[j] > way[i]), len(way) - 1)
                found[i] = way[i] - max(min(way[before:i]), min(way[i + 1 : after + 1]))
    return found


def pitch(audio: Tensor, rate: int, lowest: float = 50.0, highest: float = 2000.0) -> tuple[float, float]:
    """(Hz, clearness in 0-1) of the loudest stretch of a sound, by the peak of its autocorrelation; (nan, 0) where there is none to measure.

    The first peak of at least 0.9 of the largest counts, so that a multiple of the period is not taken for it.
    """
    sound, size = mono(audio), round(0.1 * rate)
    if len(sound) < size or sound.abs().max() < FLOOR:
        return math.nan, 0.0
    energy = F.avg_pool1d(sound.square()[None, None], size, stride=max(1, size // 4))[0, 0]
    start = int(energy.argmax()) * max(1, size // 4)
    part = sound[start : start + size]
    part = part - part.mean()
    spectrum = torch.fft.rfft(part, 2 * size)
    correlation = torch.fft.irfft(spectrum.abs().square())[:size]
    weight = 1 - torch.arange(size) / size  # fewer samples overlap at longer lags
    correlation = correlation / (correlation[0].clamp_min(1e-12) * weight)
    first, last = max(2, int(rate / highest)), min(int(rate / lowest), size // 2)
    lags = correlation[first:last]
    if len(lags) < 3:
        return math.nan, 0.0
    peaks = (lags[1:-1] > lags[:-2]) & (lags[1:-1] >= lags[2:])
    if not peaks.any():
        return math.nan, 0.0
    places = peaks.nonzero()[:, 0] + 1
    lag = int(places[(lags[places] >= 0.9 * lags[places].max()).nonzero()[0, 0]])
    left, middle, right = lags[lag - 1 : lag + 2].tolist()
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend else 0.0
    return rate / (first + lag + shift), max(0.0, min(1.0, middle))


def note_of(words: str) -> float | None:
    """Hz of the first note that a text names (``A4``, ``C#3``, ``Bb2``; A4 is 440 Hz), None where there is none."""
    found = NOTE.search(words)
    if not found:
        return None
    half = STEPS[found[1]] + {"#": 1, "♯": 1, "b": -1, "♭": -1}.get(found[2] or "", 0)
    return 440.0 * 2 ** ((half - 9) / 12 + int(found[3]) - 4)


def cents(hertz: float, reference: float) -> float:
    """Hundredths of a half-tone from the reference."""
    return 1200 * math.log2(hertz / reference)
