"""What the files that we write can hold: suffixes, sizes, rates. Standard library only, so that a wrong name is refused at once."""

from __future__ import annotations

from pathlib import Path

from mgzoo.spec import MgzooError

WRITTEN = (".mp4", ".png", ".gif", ".webp", ".wav")
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
LARGEST = {".mp4": 16384, ".webp": 16383, ".gif": 65535}
"""Pixels along a side that a format (H.264 as x264 writes it, WebP, GIF) can hold."""
RATES = {".mp4": (0.01, 1000), ".gif": (0.002, 10_000), ".webp": (0.001, 10_000)}
"""Frames per second. A GIF counts hundredths of a second in 16 bits, a WebP thousandths in 24; above 50 and 90 frames are left out (`spread`)."""


def can_hold(
    name: str | Path, *, frames: int | None = None, fps: float | None = None, height: int | None = None, width: int | None = None,
    rate: int | None = None,
) -> None:  # fmt: skip
    """Raises MgzooError where a file of this name cannot hold so many frames, at this rate, of this size, or sound at this rate: to be asked before the
    work. What is None is not asked. More than two channels of sound are no matter: they are mixed down."""
    suffix, origin = Path(name).suffix.lower(), str(name)
    if suffix not in WRITTEN:
        raise MgzooError(f"cannot write {suffix or 'a file without a suffix'}", remedy=f"use one of {', '.join(WRITTEN)}", origin=origin)
    if suffix == ".png" and frames is not None and frames != 1:
        raise MgzooError(f"a .png holds one frame, but this video has {frames}", remedy="use .mp4, .gif or .webp", origin=origin)
    if suffix in RATES and fps is not None and frames != 1:
        least, most = RATES[suffix]
        if not least <= fps <= most:
            raise MgzooError(f"a {suffix} cannot hold {fps:g} frames per second", remedy=f"use {least:g} to {most:g}", origin=origin)
    if (side := LARGEST.get(suffix)) and max(height or 0, width or 0) > side:
        raise MgzooError(f"a {suffix} is at most {side} pixels along a side, not {width} x {height}", remedy="use a smaller size", origin=origin)
    if suffix == ".mp4" and rate is not None and rate not in AAC_RATES:
        raise MgzooError(f"AAC cannot hold {rate} samples per second", remedy="resample to 48000, or write a .wav", origin=origin)
