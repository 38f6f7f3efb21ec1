"""Sound as tensors: reading, rates, channels, cuts. Sound is float (..., channels, S) in [-1, 1]; shape letters: S samples, K channels."""

from __future__ import annotations

import av
import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from mgzoo.spec import MgzooError

SILENT = 1e-4
"""A peak below this (-80 dB of full scale) is silence."""


def resample(audio: Tensor, rate: int, to: int) -> Tensor:
    """float32 (K, S) at `rate` -> (K, round(S * to / rate)) at `to` samples per second, through FFmpeg's resampler, on the CPU.

    Band-limited; a whole sound keeps its place in time. Raises MgzooError for a rate below 1."""
    if min(rate, to) < 1:
        raise MgzooError(f"cannot resample from {rate} to {to} samples per second", remedy="give integer rates >= 1")
    wanted = round(audio.shape[-1] * to / rate)
    if rate == to or not audio.shape[-1]:
        return audio[..., :wanted].float()
    out = []
    for channel in F.pad(audio.float(), (0, 256)).cpu().numpy():  # one by one, so that no layout is guessed; the filter runs out in silence
        worker = av.AudioResampler(format="fltp", layout="mono", rate=to)
        frame = av.AudioFrame.from_ndarray(numpy.ascontiguousarray(channel[None]), format="fltp", layout="mono")
        frame.sample_rate = rate
        parts = [piece.to_ndarray() for piece in (*worker.resample(frame), *worker.resample(None))]
        sound = torch.from_numpy(numpy.concatenate(parts, 1))[0]
        out.append(F.pad(sound, (0, max(0, wanted - len(sound))))[:wanted])
    return torch.stack(out)


SIDES = {3: "LRF", 4: "LRlr", 5: "LRClr", 6: "LRCFlr", 7: "LRCFclr", 8: "LRCFlrlr"}
"""Channels as WAV and FFmpeg order them, by their number: left, right, centre, low frequencies (F), surround left, right and centre."""
SHARES = {"L": (1.0, 0.0), "R": (0.0, 1.0), "C": (0.5**0.5, 0.5**0.5), "F": (0.0, 0.0), "l": (0.5**0.5, 0.0), "r": (0.0, 0.5**0.5), "c": (0.5, 0.5)}
"""What of each goes to the left and the right (ITU-R BS.775-4, annex 4, table 2)."""


def downmix(audio: Tensor, channels: int) -> Tensor:
    """(K, S) -> (channels, S), 1 or 2 of them: more than two are mixed to left and right as ITU-R BS.775 does, without the low-frequency channel; one is
    their mean. What would then be beyond full scale makes the whole quieter. More than eight channels, which have no common order, are averaged."""
    if len(audio) > 2:
        places = SIDES.get(len(audio))
        shares = torch.tensor([SHARES[place] for place in places] if places else [(1 / len(audio),) * 2] * len(audio)).to(audio)
        loudest = audio.abs().max() if audio.numel() else audio.new_ones(())
        audio = shares.T @ audio
        if audio.numel() and (peak := audio.abs().max()) > 1:
            audio = audio * (loudest.clamp(max=1) / peak)
    return mono(audio) if channels == 1 else audio


def mono(audio: Tensor) -> Tensor:
    """(K, S) -> (1, S): the mean of two channels; more are mixed to two first (`downmix`)."""
    return downmix(audio, 2).mean(0, keepdim=True)


def validate_audio(audio: Tensor | None, rate: int | None, *, origin: str, silent: bool = False) -> Tensor:
    """Sound as a model may take it: float32, finite, within [-1, 1]. Values up to a quarter beyond, as lossy codecs make them, are clipped.

    Raises MgzooError where there is no sound, where it is empty, not finite or far beyond [-1, 1], or (unless `silent`) silent."""
    if audio is None or not rate:
        raise MgzooError("the file has no sound", remedy="give a file with a sound track", origin=origin)
    if not audio.shape[-1]:
        raise MgzooError("the sound track is empty", remedy="create the file again or remove it", origin=origin)
    if not torch.isfinite(audio).all():
        raise MgzooError("the sound has non-finite values", remedy="create the file again or remove it", origin=origin)
    peak = audio.abs().max().item()
    if peak > 1.25:  # a lossy codec overshoots full scale
        raise MgzooError(f"the sound has a peak of {peak:.3g}, beyond full scale", remedy="scale it into [-1, 1]", origin=origin)
    if not silent and peak < SILENT:
        raise MgzooError("the sound track is silent", remedy="remove it", origin=origin)
    return audio.float().clamp(-1, 1)


def slice_padded(audio: Tensor, start: int, samples: int) -> Tensor:
    """`samples` of (..., S) from `start` on; silence where there is no more."""
    piece = audio[..., max(start, 0) : max(start + samples, 0)]
    return F.pad(piece, (max(-start, 0) if piece.shape[-1] else 0, samples - piece.shape[-1] - (max(-start, 0) if piece.shape[-1] else 0)))
