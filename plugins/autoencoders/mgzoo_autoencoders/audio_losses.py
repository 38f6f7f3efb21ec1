"""Distances between sounds, for training and for validating a codec. Sound is float (..., S) in [-1, 1], S samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgzoo.media.spectrogram import FLOOR, stft_magnitude


def log_spectral_distance(output: Tensor, audio: Tensor, sizes: Sequence[int] = (4096, 1024, 256, 64)) -> Tensor:
    """Multi-scale STFT distance in dB (...,) of (..., S): mean absolute difference of log magnitudes above -80 dB of full scale, over
    frequencies, windows and sizes."""
    found = []
    for size in sizes:
        a, b = (20 * stft_magnitude(x, size).clamp_min(FLOOR).log10() for x in (output, audio))
        found.append((a - b).abs().mean((-2, -1)))
    return torch.stack(found).mean(0)


def stft_loss(output: Tensor, audio: Tensor, sizes: Sequence[int]) -> Tensor:
    """Differentiable mean over sizes of the log distance (in units of 20 dB) and the relative distance of magnitudes. Scalar."""
    total = output.new_zeros((), dtype=torch.float32)
    for size in sizes:
        a = stft_magnitude(output, size)
        with torch.no_grad():
            b = stft_magnitude(audio, size)
        logs = (a.clamp_min(FLOOR).log10() - b.clamp_min(FLOOR).log10()).abs().mean()
        total = total + logs + (a - b).abs().mean() / b.mean().clamp_min(FLOOR)
    return total / len(sizes)


def si_sdr(output: Tensor, audio: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB (...,) of (..., S) (Le Roux et al. 2019), means taken out."""
    a, b = (x.float() - x.float().mean(-1, keepdim=True) for x in (output, audio))
    target = (a * b).sum(-1, keepdim=True) / b.square().sum(-1, keepdim=True).clamp_min(1e-12) * b
    return 10 * (target.square().sum(-1).clamp_min(1e-12) / (a - target).square().sum(-1).clamp_min(1e-12)).log10()
