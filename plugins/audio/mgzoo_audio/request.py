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
        raise MgzooError(f"--extend is {text[:60]!r}, not a number of seconds", remedy="write --extend 20s, or --extend=-5s for sound before it")
    if value == 0:
        raise MgzooError("--extend 0 adds nothing", remedy="say how many seconds to add: 20s after the sound, or -5s before it")
    return value


def stretch_of(text: str) -> tuple[float, float]:
    """``2s-3s`` -> (2.0, 3.0), the first before the second."""
    found = _INFILL.fullmatch(text.strip())
    if not found:
        raise MgzooError(f"--infill is {text[:60]!r}, not a stretch of time", remedy="write --infill 2s-3s")
    first, last = float(found[1]), float(found[2])
    if not first < last:
        raise MgzooError(f"--infill {text.strip()[:60]} ends where it begins, or before", remedy="write the earlier time first: --infill 2s-3s")
    return first, last


def validate_request(*, prompt: bool, video: bool, audio: bool, extend: str | None, infill: str | None, seconds: float | None, candidates: int,
            quality: float | None) -> None:  # fmt: skip
    """Raise MgzooError where the parts of a request do not go together."""
    if not (prompt or video or audio):
        raise MgzooError("there is nothing to make a sound for", remedy=f"say what is to be heard, e.g. {EXAMPLE}, or name a --video")
    if (extend or infill) and not audio:
        raise MgzooError(f"{'--extend' if extend else '--infill'} goes on from a sound, and none is given", remedy="name it: --audio FILE.wav")
    if audio and not (extend or infill):
        raise MgzooError("it is not said what to do with the sound given", remedy="add --extend 20s, --extend=-5s or --infill 2s-3s")
    if extend and infill:
        raise MgzooError("a sound is extended or filled in, not both at once", remedy="do one, then the other with its result")
    if extend and video:
        raise MgzooError("the sound of a clip is as long as its picture, so it cannot be extended", remedy="take --video or --extend out")
    if seconds is not None and (video or audio):
        raise MgzooError(f"the {'clip' if video else 'sound'} given says how long the sound is", remedy="take --seconds out")
    if seconds is not None and not 0 < seconds < math.inf:
        raise MgzooError(f"cannot make a sound of {seconds:g} seconds", remedy="ask for a length above 0")
    if candidates < 1:
        raise MgzooError(f"cannot choose among {candidates} candidates", remedy="ask for one or more")
    if quality is not None and not 1 <= quality <= 10:
        raise MgzooError(f"the quality score is {quality:g}, not within 1-10", remedy="ask for 1 to 10")


def plan_request(rate: int, given: int, extend: str | None, infill: str | None, seconds: float) -> Plan:
    """Where the new sound lies. given: samples of the sound given. seconds: of a new one. Raises MgzooError where that is nowhere."""
    if extend:
        count = round(seconds_of(extend) * rate)
        if not count:
            raise MgzooError(f"--extend {extend} is less than one sample", remedy="ask for more")
        return Plan(given=given, first=given if count > 0 else count, last=given + count if count > 0 else 0)
    if infill:
        first, last = (round(second * rate) for second in stretch_of(infill))
        if last > given or first == last or last - first == given:
            what = "lies outside" if last > given else "leaves nothing of" if first != last else "is less than a sample of"
            raise MgzooError(f"--infill {infill} {what} the sound, which is {given / rate:g} s long",
                             remedy="name a stretch within it" if last > given else "name another stretch; to make all anew, give a prompt alone")
        return Plan(given=given, first=first, last=last)
    count = round(seconds * rate)
    if count < 1:
        raise MgzooError(f"cannot make a sound of {seconds:g} seconds", remedy="ask for a length above 0")
    return Plan(given=0, first=0, last=count)
