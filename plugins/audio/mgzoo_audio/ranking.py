"""The best of several candidates, by metric components."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from mgzoo.discovery import discover
from mgzoo.media import Media


def choose_best(metrics: Sequence[str], candidates: Sequence[Media]) -> tuple[int, dict[str, list[float]]]:
    """(number of the candidate with the largest sum of standardised scores, the first where several have it, scores by metric).

    metrics: component ids. A metric that scores all alike says nothing. Raises MgzooError for an id that is no metric.
    """
    registry, totals, scores = discover(), [0.0] * len(candidates), {}
    for name in metrics:
        config = registry.config_class(name)()
        found = [float(score) for score in registry.build_class(name)(config)(candidates)]
        scores[name] = found
        mean, spread = statistics.fmean(found), statistics.pstdev(found)
        sign = 1 if config.higher_is_better() else -1
        if spread > 1e-9:
            totals = [total + sign * (score - mean) / spread for total, score in zip(totals, found, strict=True)]
    return max(range(len(candidates)), key=lambda i: totals[i]), scores
