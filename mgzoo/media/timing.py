"""When frames are shown and how fast: from their timestamps. Headers only name candidates. Never imports torch."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

SAME_RATE = 0.005
"""Rates this near, as a fraction, are one: 23.976 is 24 and 29.97 is 30 (NTSC counts are 1000/1001 of whole rates)."""
SHORTEST_DELAY, PLAYED_DELAY = 0.01, 0.1
"""Browsers show a picture of a GIF, WebP or APNG whose delay is at most the first for the second, in seconds."""


def same_rate(one: float, other: float) -> bool:
    """Whether two frame rates are the same for whoever watches."""
    return abs(one - other) <= SAME_RATE * max(one, other)


def evenly(times: Sequence[float]) -> list[int]:
    """Frames shown from these times on, ascending, in seconds -> as many indices of frames, equally spaced from the first to the last: at each, what
    was on screen."""
    step = (times[-1] - times[0]) / max(1, len(times) - 1)
    return [bisect.bisect_right(times, times[0] + i * step + 1e-6) - 1 for i in range(len(times))]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What timestamps say of a video stream.

    fps: mean rate, None where nothing tells. times: seconds of each frame after the first, where they are known and not equally spaced; None otherwise.
    known: whether every frame had a timestamp. duration: seconds from the first frame to the end of the last, None where fps is.
    """

    fps: float | None
    times: tuple[float, ...] | None
    known: bool
    duration: float | None


def timing(stamps: Sequence[float | None], last: float, tick: float, candidates: Sequence[float]) -> Timing:
    """stamps: seconds at which each frame is shown, in order. last: seconds that the last frame is shown for, 0 where nothing says it.
    tick: seconds that a timestamp may be off. candidates: rates that the header names, the likeliest first; one that every timestamp agrees with
    is exact, where timestamps are rounded. Of none that agrees, frames / seconds is the mean rate."""
    n, headers = len(stamps), [rate for rate in candidates if rate and math.isfinite(rate) and rate > 0]
    known = n > 0 and all(stamp is not None for stamp in stamps) and all(b > a for a, b in zip(stamps, stamps[1:]))
    if not known:
        fps = headers[0] if headers else None
        return Timing(fps=fps, times=None, known=False, duration=n / fps if fps else None)
    if n == 1:
        fps = next((rate for rate in headers if not last or abs(1 / rate - last) <= tick), 1 / last if last else headers[0] if headers else None)
        return Timing(fps=fps, times=None, known=True, duration=1 / fps if fps else None)
    times = [stamp - stamps[0] for stamp in stamps]
    gaps = [b - a for a, b in zip(times, times[1:])]
    if max(gaps) - min(gaps) <= 2.001 * tick + 0.01 * max(gaps):  # equally spaced, as far as timestamps tell
        agree = (rate for rate in headers if all(abs(time - i / rate) <= 1.001 * tick + 0.001 / rate for i, time in enumerate(times)))
        fps = next(agree, (n - 1) / times[-1])
        return Timing(fps=fps, times=None, known=True, duration=n / fps)
    whole = times[-1] + (last or median(gaps))
    return Timing(fps=n / whole, times=tuple(times), known=True, duration=whole)


def played(delays: Sequence[float]) -> list[float]:
    """Delays of a moving picture in seconds, as browsers play them: one that is missing or too short is a tenth of a second."""
    return [PLAYED_DELAY if delay <= SHORTEST_DELAY + 1e-9 else delay for delay in delays]


def spread(frames: int, fps: float, per_second: int, least: int) -> list[tuple[int, int]]:
    """(frame, delay) of a file that counts delays in units of 1 / per_second, none below `least` of them.

    Each boundary between frames is rounded by itself, so that no error adds up; frames that would be shown for less than `least` are left out."""
    bounds = [round(per_second * i / fps) for i in range(frames + 1)]
    end = max(bounds[-1], least)
    kept = [0]
    for frame in range(1, frames):
        if bounds[frame] - bounds[kept[-1]] >= least and end - bounds[frame] >= least:
            kept.append(frame)
    ends = [bounds[frame] for frame in kept[1:]] + [end]
    return [(frame, stop - bounds[frame]) for frame, stop in zip(kept, ends)]
