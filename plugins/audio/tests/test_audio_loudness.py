"""Loudness against the published tables and tones of ITU-R BS.1770-4."""

import math

import pytest
import torch

from mgzoo_audio.loudness import k_weighting, loudness, normalize_loudness


def sine(hertz: float, seconds: float = 1.0, rate: int = 48_000, level: float = 1.0, channels: int = 1) -> torch.Tensor:
    return (level * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)).repeat(channels, 1)


def test_k_weighting_is_the_published_table():
    (shelf, under), (high, below) = k_weighting(48_000)  # ITU-R BS.1770-4, tables 1 and 2
    assert shelf == pytest.approx((1.53512485958697, -2.69169618940638, 1.19839281085285), abs=1e-9)
    assert under == pytest.approx((1.0, -1.69065929318241, 0.73248077421585), abs=1e-9)
    assert high == pytest.approx((1.0, -2.0, 1.0))
    assert below == pytest.approx((1.0, -1.99004745483398, 0.99007225036621), abs=1e-9)


@pytest.mark.parametrize(("rate", "apart"), [(48_000, 0.02), (44_100, 0.02), (16_000, 0.05)])
def test_loudness_of_the_published_tone(rate, apart):
    # "If a 0 dB FS, 997 Hz sine wave is applied to the left, center, or right channel input, the indicated loudness will equal -3.01 LKFS."
    assert loudness(sine(997, 2.0, rate), rate) == pytest.approx(-3.01, abs=apart)
    assert loudness(sine(997, 2.0, rate, channels=2), rate) == pytest.approx(0.0, abs=apart)
    assert loudness(sine(997, 2.0, rate, 0.1), rate) == pytest.approx(-23.01, abs=apart)


def test_silence_between_sounds_does_not_count():
    tone, quiet = sine(997, 3.0, level=0.1), torch.zeros(1, 144_000)
    assert loudness(torch.cat([tone, quiet], 1), 48_000) == pytest.approx(loudness(tone, 48_000), abs=0.3)
    assert loudness(quiet, 48_000) == -math.inf


def test_a_level_is_reached_and_a_peak_is_kept():
    tone = sine(997, 2.0, level=0.05)
    assert loudness(normalize_loudness(tone, 48_000, -20.0, -1.0), 48_000) == pytest.approx(-20.0, abs=0.01)
    click = torch.zeros(1, 48_000)
    click[0, ::4800] = 0.5
    assert normalize_loudness(click, 48_000, -10.0, -1.0).abs().max() <= 10 ** (-1 / 20) + 1e-4
    assert not normalize_loudness(torch.zeros(1, 48_000), 48_000, -10.0, -1.0).any()
