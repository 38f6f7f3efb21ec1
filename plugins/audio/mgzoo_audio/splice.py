"""A given sound on its way in, and the join of what was given with what is new.

Shape letters: A channels, N samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mgzoo.media import Media
from mgzoo.media.audio import downmix, resample, validate_audio
from mgzoo_audio.request import Plan

CHANNELS = 2


def prepare_given(audio: Media, rate: int) -> Tensor:
    """A given sound (A, N) at the model's rate, silence included, more than two channels mixed down to them. Raises MgzooError for what is no sound."""
    given = validate_audio(audio.audio, audio.rate, origin="--audio", silent=True)
    return resample(downmix(given, CHANNELS) if len(given) > CHANNELS else given, audio.rate, rate)


def splice(given: Tensor, made: Tensor, plan: Plan, origin: int, fade: int, peak: float) -> Tensor:
    """The given sound (A, N) with the new stretch in it or at one end of it -> (A, N').

    made: what was sampled (A, M), its first sample at ``origin`` in the given sound's time; it goes on beyond the new stretch, where it is the
    given sound as the codec hears it. Over ``fade`` samples of the given sound next to the new stretch the two pass into each other,
    linearly since they are alike; every other given sample is kept bit for bit. New samples louder than ``peak`` dB, and than the given
    sound, make the whole new stretch quieter.
    """
    first, last = min(plan.first, 0), max(plan.last, plan.given)
    whole = made.new_zeros(len(given), last - first)
    whole[:, -first : plan.given - first] = given
    share = torch.zeros(last - first)
    share[plan.first - first : plan.last - first] = 1.0
    ramp = torch.linspace(0, 1, fade + 2)[1:-1]
    before, after = min(fade, plan.first, plan.first - origin), min(fade, plan.given - plan.last, origin + made.shape[1] - plan.last)
    if before > 0:
        share[plan.first - before - first : plan.first - first] = ramp[-before:]
    if after > 0:
        share[plan.last - first : plan.last + after - first] = ramp.flip(0)[:after]
    new = torch.zeros_like(whole)
    begin, end = max(origin, first), min(origin + made.shape[1], last)
    new[:, begin - first : end - first] = made[:, begin - origin : end - origin]
    loudest, limit = float((new * (share > 0)).abs().max()), max(10 ** (peak / 20), float(given.abs().max()))
    if loudest > limit:
        new = new * (limit / loudest)
    return torch.where(share == 0, whole, whole + share * (new - whole))
