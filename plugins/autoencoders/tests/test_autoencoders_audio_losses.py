"""Distances between sounds against what was mixed in."""

import pytest
import torch

from mgzoo_autoencoders.audio_losses import log_spectral_distance, si_sdr, stft_loss


def test_distances_are_zero_of_the_same_and_in_decibels():
    audio = 0.5 * (2 * torch.rand(2, 1, 24_000, generator=torch.Generator().manual_seed(0)) - 1)
    assert log_spectral_distance(audio, audio).abs().max() == 0
    # Away from the floor, half the level is 6 dB everywhere.
    assert log_spectral_distance(0.5 * audio, audio)[0].item() == pytest.approx(6.02, abs=0.05)
    assert stft_loss(audio, audio, (512, 128)).item() == 0


def test_si_sdr_is_the_ratio_that_was_mixed_and_blind_to_level():
    draw = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(1, 48_000, generator=draw), torch.randn(1, 48_000, generator=draw)
    assert si_sdr(clean + 0.1 * noise, clean).item() == pytest.approx(20.0, abs=0.2)
    assert si_sdr(3 * (clean + 0.1 * noise), clean).item() == pytest.approx(20.0, abs=0.2)
    assert si_sdr(noise, clean).item() < -20


def test_gradients_of_the_losses_are_finite_in_silence():
    output = torch.zeros(1, 1, 4096, requires_grad=True)
    loss = stft_loss(output, torch.zeros(1, 1, 4096), (512, 64)) + si_sdr(output, torch.zeros(1, 1, 4096)).mean()
    loss.backward()
    assert torch.isfinite(output.grad).all()
