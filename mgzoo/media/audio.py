"""Sound as tensors: reading, rates, channels, cuts. Sound is float (..., channels, S) in [-1, 1]; shape letters: S samples, K channels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from mgzoo.media.decode import open_media
from mgzoo.spec import MgzooError

SILENT = 1e-4
"""A peak below this (-80 dB of full scale) is silence."""


def read(path: str | Path) -> tuple[Tensor, int]:
    """The whole sound track of a file as (float32 (K, S), samples per second); pictures are not decoded.

    Raises MgzooError where there is no such file, no sound track, or one that is damaged: packets that do not decode, samples missing in
    the middle or (more than a tenth of a second of them) at the end."""
    with open_media(path, str(path)) as container:
        stream = next(iter(container.streams.audio), None) if hasattr(container, "streams") else None
        if stream is None or stream.codec_context is None:
            raise MgzooError("there is no sound in it", remedy="give a file with a sound track", origin=str(path))
        said = stream.duration * stream.time_base if stream.duration else None
        parts, rate, last, plain = [], stream.rate, None, None
        for frame in container.decode(stream):
            plain = plain or av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
            begin = frame.pts * frame.time_base if frame.pts is not None and frame.time_base else None
            if begin is not None and last is not None and abs(begin - last) > 0.02:
                raise MgzooError(f"its sound track is damaged: {float(begin - last):.3f} s are missing at {float(last):.3f} s", remedy="copy it again or leave it out", origin=str(path))
            last = None if begin is None else begin + Fraction(frame.samples, rate)
            parts += [piece.to_ndarray() for piece in plain.resample(frame)]
    if not parts:
        raise MgzooError("its sound track is empty", remedy="make the file again or leave it out", origin=str(path))
    audio = torch.from_numpy(numpy.concatenate(parts, 1))
    if said and audio.shape[1] < (said - Fraction(1, 10)) * rate:
        what = f"its sound track says {float(said):.2f} s and holds {audio.shape[1] / rate:.2f} s"
        raise MgzooError(what, remedy="copy it again or leave it out", origin=str(path))
    return audio[:, : round(said * rate)] if said else audio, rate


def resample(audio: Tensor, rate: int, to: int) -> Tensor:
    """float32 (K, S) at `rate` -> (K, round(S * to / rate)) at `to` samples per second, through FFmpeg's resampler, on the CPU.

    Band-limited; a whole sound keeps its place in time. Raises MgzooError for a rate below 1."""
    if min(rate, to) < 1:
        raise MgzooError(f"cannot resample from {rate} to {to} samples per second", remedy="give whole rates of at least 1")
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


def mono(audio: Tensor) -> Tensor:
    """(K, S) -> (1, S): the mean of the channels; of 5.1 the low-frequency one is left out, as players do."""
    if len(audio) == 6:
        audio = audio[[0, 1, 2, 4, 5]]
    return audio.mean(0, keepdim=True)


def checked(audio: Tensor | None, rate: int | None, *, origin: str, silent: bool = False) -> Tensor:
    """Sound as a model may take it: float32, finite, within [-1, 1]. Values up to a quarter beyond, as lossy codecs make them, are clipped.

    Raises MgzooError where there is no sound, where it is empty, not finite or far beyond [-1, 1], or (unless `silent`) silent."""
    if audio is None or not rate:
        raise MgzooError("there is no sound in it", remedy="give a file with a sound track", origin=origin)
    if not audio.shape[-1]:
        raise MgzooError("its sound track is empty", remedy="make the file again or leave it out", origin=origin)
    if not torch.isfinite(audio).all():
        raise MgzooError("its sound holds values that are not finite", remedy="make the file again or leave it out", origin=origin)
    peak = audio.abs().max().item()
    if peak > 1.25:  # a lossy codec overshoots full scale
        raise MgzooError(f"its sound reaches {peak:.3g}, beyond full scale", remedy="scale it into [-1, 1]", origin=origin)
    if not silent and peak < SILENT:
        raise MgzooError("its sound track is silent", remedy="leave it out", origin=origin)
    return audio.float().clamp(-1, 1)


def cut(audio: Tensor, start: int, samples: int) -> Tensor:
    """`samples` of (..., S) from `start` on; silence where there is no more."""
    piece = audio[..., max(start, 0) : max(start + samples, 0)]
    return F.pad(piece, (max(-start, 0) if piece.shape[-1] else 0, samples - piece.shape[-1] - (max(-start, 0) if piece.shape[-1] else 0)))
