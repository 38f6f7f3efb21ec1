"""Laws of filters and metrics."""

from __future__ import annotations

import math

from mgzoo.testing import inputs
from mgzoo.testing.build_part import build_part
from mgzoo.testing.component_under_test import Subject, require

COUNT = 6


def scores_are_finite(subject: Subject) -> None:
    """It gives one finite number for each clip or medium, pictures included, and none for none."""
    part = build_part(subject)
    scores = part(inputs.media_to_score(subject, COUNT))
    require(isinstance(scores, (list, tuple)) and len(scores) == COUNT, f"{COUNT} given, it answers {scores!r}")
    require(all(isinstance(score, (int, float)) and math.isfinite(score) for score in scores), f"its scores {scores} are not finite numbers")
    require(list(part([])) == [], "given nothing, it does not answer with an empty list")


def scores_do_not_depend_on_the_batch(subject: Subject) -> None:
    """The score of a clip or medium is the same alone and in any company."""
    part, given = build_part(subject), inputs.media_to_score(subject, COUNT)
    together, turned = list(part(given)), list(part(given[::-1]))[::-1]
    for i, one in enumerate(given):
        alone = part([one])[0]
        for score in (together[i], turned[i]):
            require(math.isclose(score, alone, rel_tol=1e-4, abs_tol=1e-6), f"number {i} scores {score:g} in a batch and {alone:g} alone")


def scores_tell_apart(subject: Subject) -> None:
    """Different clips or media do not all score the same."""
    scores = build_part(subject)(inputs.media_to_score(subject, COUNT))
    require(len(set(scores)) > 1, f"{COUNT} different ones all score the same")


LAWS = [scores_are_finite, scores_do_not_depend_on_the_batch, scores_tell_apart]
