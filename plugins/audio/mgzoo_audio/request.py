"""What a request for sound says: how long, for what, and where it goes on from. No torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from mgzoo.spec import MgzooError

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_EXTEND, _INFILL = re.compile(rf"([+-]?){_NUMBER}\s*s?"), re.compile(rf"{_NUMBER}\s*s?\s*-\s*{_NUMBER}\s*s?")
EXAMPLE = 'mgzoo generate MODEL "a bell rings"'
USES = "--video CLIP for the sound of a clip; --audio FILE with --extend 20s, --extend=-5s or --infill 2s-3s; or a prompt"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is made and where it lies, in samples at the model's rate.

    given: samples of the sound that is extended or filled in, 0 without one. first, last: the stretch that is new, counted from the given
    sound's first sample: a first below 0 is new sound before it, a last beyond ``given`` new sound after it.
    """

    given: int
    first: int
    last: int

    @property
    def new(self) -> int:
        """Samples that are new."""
        return self.last - self.first


def seconds_of(text: str) -> float:
    """``20s``, ``20``, ``-5s`` -> seconds, never 0."""
    found = _EXTEND.fullmatch(text.strip())
    value = float(found[2]) * (-1 if found[1] == "-" else 1) if found else 0.0
    if not found or not math.isfinite(value):
        raise MgzooError(f"--extend is {text[:60]!r}, not a number of seconds", remedy="use --extend 20s, or --extend=-5s for sound before it")
    if value == 0:
        raise MgzooError("--extend 0 adds nothing", remedy="give the seconds to add: 20s after the sound, or -5s before it")
    return value


def stretch_of(text: str) -> tuple[float, float]:
    """``2s-3s`` -> (2.0, 3.0), the first before the second."""
    found = _INFILL.fullmatch(text.strip())
    if not found:
        raise MgzooError(f"--infill is {text[:60]!r}, not a time interval", remedy="use --infill 2s-3s")
    first, last = float(found[1]), float(found[2])
    if not first < last:
        raise MgzooError(f"--infill {text.strip()[:60]} does not end after its start", remedy="give the earlier time first: --infill 2s-3s")
    return first, last


def validate_request(*, prompt: bool, video: bool, audio: bool, extend: str | None, infill: str | None, seconds: float | None, candidates: int,
            quality: float | None) -> None:  # fmt: skip
    """Raise MgzooError where the parts of a request do not go together."""
    if not (prompt or video or audio):
        raise MgzooError("the request has no prompt, video or audio", remedy=f"add a prompt, e.g. {EXAMPLE}, or a --video")
    if (extend or infill) and not audio:
        raise MgzooError(f"{'--extend' if extend else '--infill'} needs --audio", remedy="add --audio FILE.wav")
    if audio and not (extend or infill):
        raise MgzooError("--audio needs --extend or --infill", remedy="add --extend 20s, --extend=-5s or --infill 2s-3s")
    if extend and infill:
        raise MgzooError("--extend and --infill cannot be combined", remedy="run one, then the other on its result")
    if extend and video:
        raise MgzooError("--video and --extend cannot be combined: the sound has the length of the clip", remedy="remove --video or --extend")
    if seconds is not None and (video or audio):
        raise MgzooError(f"--seconds is not allowed: the {'clip' if video else 'sound'} sets the length", remedy="remove --seconds")
    if seconds is not None and not 0 < seconds < math.inf:
        raise MgzooError(f"cannot generate a sound of {seconds:g} seconds", remedy="use a positive length")
    if candidates < 1:
        raise MgzooError(f"invalid number of candidates: {candidates}", remedy="use 1 or more")
    if quality is not None and not 1 <= quality <= 10:
        raise MgzooError(f"the quality score is {quality:g}, not within 1-10", remedy="use 1 to 10")


def plan_request(rate: int, given: int, extend: str | None, infill: str | None, seconds: float) -> Plan:
    """Where the new sound lies. given: samples of the sound given. seconds: of a new one. Raises MgzooError where that is nowhere."""
    if extend:
        count = round(seconds_of(extend) * rate)
        if not count:
            raise MgzooError(f"--extend {extend} is less than one sample", remedy="use a larger value")
        return Plan(given=given, first=given if count > 0 else count, last=given + count if count > 0 else 0)
    if infill:
        first, last = (round(second * rate) for second in stretch_of(infill))
        if last > given or first == last or last - first == given:
            what = "lies outside" if last > given else "leaves nothing of" if first != last else "is less than a sample of"
            raise MgzooError(f"--infill {infill} {what} the sound ({given / rate:g} s)",
                             remedy="give an interval within the sound" if last > given else "give another interval; to regenerate the whole sound, use a prompt without --audio")
        return Plan(given=given, first=first, last=last)
    count = round(seconds * rate)
    if count < 1:
        raise MgzooError(f"cannot generate a sound of {seconds:g} seconds", remedy="use a positive length")
    return Plan(given=0, first=0, last=count)
