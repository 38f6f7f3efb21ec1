"""What the sound benchmarks hear with, apart from what any model or ranking uses: a pitch estimator, onsets, and a judge of instruments.

Pitch: YIN (de Cheveigné and Kawahara 2002), on its own code. Onsets: rises of the energy in short windows. Instruments: a linear
classifier on the course of a mel spectrogram whose pitch is taken out as far as averaging over bands does it; trained on real notes that
models are trained on, judged at other pitches of the same instruments. It never hears a generated sound in training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy
import torch
from torch import Tensor

from mgzoo import media
from mgzoo.media.audio import mono, resample, slice_padded
from mgzoo.media.spectrogram import mel_spectrogram
from mgzoo_autoencoders.dacvae_codec import codec_round_trip

DATA = Path(__file__).parents[1] / "data" / "sounds48"
COMBINATIONS = DATA.parent / "sounds48_held_out_combinations.txt"
RATE, SAMPLES = 48_000, 76_800
A4, QUIET = 69, 1e-3


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One sound of the data. labels: its line of captions.jsonl."""

    key: str
    labels: dict

    @property
    def caption(self) -> str:
        return self.labels["caption"]

    def audio(self) -> Tensor:
        """(1, 76800) float32."""
        found = media.read(DATA / self.labels["file"])
        return slice_padded(resample(mono(found.audio), found.rate, RATE), 0, SAMPLES)

    def clip(self) -> media.Media:
        return media.read(DATA / self.labels["file"])


@cache
def sounds(kind: str, split: str = "train") -> list[Heard]:
    """The sounds of a kind, in the order of their keys. split: ``train``; ``held_out``, of notes those of pitches that no instrument
    played in training; ``combinations``, notes of pitches that others played."""
    lines = [json.loads(line) for line in (DATA / "captions.jsonl").read_text().splitlines()]
    every = [Heard(key=Path(line["file"]).stem, labels=line) for line in lines if line["kind"] == kind]
    apart = {line.split("\t")[0] for line in COMBINATIONS.read_text().splitlines()}
    return [one for one in every if split == ("held_out" if one.labels["held_out"] else "combinations" if one.key in apart else "train")]


def evenly(some: Sequence, count: int) -> list:
    """So many of them, spread evenly; all where there are fewer."""
    return [some[i * len(some) // count] for i in range(count)] if count < len(some) else list(some)


# ------------------------------------------------------------------------------------------------------------------ pitch


def yin(audio: Tensor, lowest: float = 100.0, highest: float = 700.0, limit: float = 0.2) -> float:
    """Hz of the loudest 100 ms after the loudest rise, nan where nothing repeats."""
    wave = audio[0].double().numpy()
    size, longest = round(0.06 * RATE), round(RATE / lowest)
    if len(wave) < size + longest or numpy.abs(wave).max() < QUIET:
        return math.nan
    energy = numpy.convolve(wave**2, numpy.ones(size), "valid")
    start = min(int(energy.argmax()), len(wave) - size - longest - 1)
    part = wave[start : start + size + longest]
    difference = numpy.array([((part[:size] - part[lag : lag + size]) ** 2).sum() for lag in range(longest)])
    mean = difference[1:] * numpy.arange(1, longest) / numpy.maximum(difference[1:].cumsum(), 1e-12)
    first = round(RATE / highest)
    below = [lag for lag in range(first, longest - 2) if mean[lag - 1] < limit]
    if not below:
        return math.nan
    lag = below[0]
    while lag + 1 < longest - 1 and mean[lag] < mean[lag - 1]:
        lag += 1
    left, middle, right = mean[lag - 2], mean[lag - 1], mean[lag]
    bend = left - 2 * middle + right
    return RATE / (lag + (0.5 * (left - right) / bend if bend else 0.0))


def cents(hertz: float, midi: int) -> float:
    """Hundredths of a half-tone between a frequency and a MIDI pitch, octaves apart (-1200 … 1200) counted as they are."""
    return 1200 * math.log2(hertz / (440.0 * 2 ** ((midi - A4) / 12)))


# ----------------------------------------------------------------------------------------------------------------- onsets


def onsets(audio: Tensor, *, window: float = 0.005, rise: float = 9.0, apart: float = 0.1) -> list[float]:
    """Seconds at which the energy of a 5 ms window rises by `rise` dB over the mean of the 40 ms before it, at least `apart` from the last."""
    size = round(window * RATE)
    power = audio[0, : audio.shape[1] // size * size].reshape(-1, size).square().mean(1).tolist()
    floor = max(1e-7, 1e-3 * max(power))
    found: list[float] = []
    for i in range(len(power)):
        before = sum(power[max(0, i - 8) : i]) / min(8, i) if i else 0.0
        if power[i] > 10 * floor and power[i] > 10 ** (rise / 10) * (before + floor) and (not found or i * window - found[-1] >= apart):
            found.append(i * window)
    return found


def onset_error(found: Sequence[float], wanted: Sequence[float], length: float) -> float:
    """Mean distance in seconds from each wanted onset to the nearest found one, and back; the sound's length where there is none."""
    if not found:
        return length
    there = [min(abs(one - other) for other in found) for one in wanted]
    back = [min(abs(one - other) for other in wanted) for one in found]
    return 0.5 * (sum(there) / len(there) + sum(back) / len(back))


# ------------------------------------------------------------------------------------------------------------ instruments


def timbre(audio: Tensor) -> Tensor:
    """(1, N) -> features of how the sound begins and goes on: from its loudest rise, 24 mel bands in 12 steps of 60 ms, less their mean."""
    level = audio / audio.abs().max().clamp_min(1e-6)
    start = int((onsets(level) or [0.0])[0] * RATE)
    bands = mel_spectrogram(slice_padded(level, start, round(0.75 * RATE)), RATE, size=2048, hop=960, bands=24)[0]
    steps = torch.nn.functional.adaptive_avg_pool1d(bands, 12)
    return torch.cat([(steps - steps.mean()).flatten(), torch.fft.rfft(steps - steps.mean(0), dim=0).abs()[1:9].flatten()])


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A linear classifier. names: of its classes."""

    names: list[str]
    mean: Tensor
    spread: Tensor
    weight: Tensor

    def __call__(self, audio: Tensor) -> str:
        x = (timbre(audio) - self.mean) / self.spread
        return self.names[int((torch.cat([x, torch.ones(1)]) @ self.weight).argmax())]


@cache
def judge(codec=None, ridge: float = 30.0) -> Judge:
    """Fitted by ridge regression to the instruments of the notes of training. codec: a sound autoencoder through which it heard them (every
    third of them); what a model makes has been through one, which keeps less of the highs than the judge of real notes expects."""
    notes = sounds("note")[:: 3 if codec else 1]
    heard = [note.audio() for note in notes]
    features = torch.stack([timbre(codec_round_trip(codec, one, RATE) if codec else one) for one in heard])
    names = sorted({note.labels["instrument"] for note in notes})
    target = torch.nn.functional.one_hot(torch.tensor([names.index(note.labels["instrument"]) for note in notes]), len(names)).float()
    mean, spread = features.mean(0), features.std(0).clamp_min(1e-3)
    x = torch.cat([(features - mean) / spread, torch.ones(len(features), 1)], 1)
    weight = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]), x.T @ target)
    return Judge(names=names, mean=mean, spread=spread, weight=weight)
