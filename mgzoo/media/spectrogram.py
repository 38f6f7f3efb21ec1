"""Spectra of sound, and their picture. Sound is float (..., S); shape letters: S samples, K channels, Q frequencies, T windows, M mel bands."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mgzoo.media.audio import mono
from mgzoo.spec import MgzooError
from mgzoo.storage import atomic_path

FLOOR = 1e-4
"""Magnitudes of spectra are compared down to -80 dB of full scale."""
COLOURS = ((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164))


@lru_cache(maxsize=32)
def _hann_window(size: int, device: str) -> Tensor:
    return torch.hann_window(size, device=device)


def stft_magnitude(audio: Tensor, size: int, hop: int | None = None) -> Tensor:
    """(..., S) -> magnitudes (..., Q, T) of Hann windows, hop a quarter of the window; a full-scale sine has magnitude 1 at its frequency."""
    window = _hann_window(size, str(audio.device))
    flat = audio.float().reshape(-1, audio.shape[-1])
    flat = F.pad(flat, (size // 2, size // 2))
    found = torch.stft(flat, size, hop or size // 4, window=window, center=False, return_complex=True)
    power = found.real.square() + found.imag.square()
    return ((power + 1e-14).sqrt() * (2 / window.sum())).reshape(*audio.shape[:-1], *found.shape[-2:])


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


def mel_spectrogram(audio: Tensor, rate: int, *, size: int = 2048, hop: int = 512, bands: int = 80) -> Tensor:
    """(..., S) -> log10 mel magnitudes (..., M, T), at least -4 (-80 dB of full scale)."""
    found = stft_magnitude(audio, size, hop)
    return (mel_filters(rate, size, bands).to(found.device) @ found).clamp_min(FLOOR).log10()


def draw_spectrogram(audio: Tensor, rate: int, path: str | Path, *, title: str = "") -> Path:
    """Draw (K, S) as a PNG: wave above, mel spectrogram of the channels' mean below, seconds along, Hz up, -80 dB dark to 0 dB bright."""
    sound = mono(audio.detach().cpu().float())[0]
    if not len(sound):
        raise MgzooError("there is no sample to draw", remedy="give at least one", origin=str(path))
    bands, left, top, tall, bottom = 160, 56, 24, 64, 22
    width = min(1600, max(320, round(len(sound) / rate * 160)))
    hop = max(1, math.ceil(len(sound) / width))
    levels = (mel_spectrogram(sound, rate, size=2048, hop=max(hop, 64), bands=bands) + 4) / 4
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
