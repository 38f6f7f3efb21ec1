"""What the objective may be told; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import option


@dataclass(frozen=True, kw_only=True)
class WeightedFlowConfig:
    """Rectified flow on straight paths. Time t runs from 0 (noise) to 1 (data)."""

    power: float = option(1.0, "p of the weight (p + 1) (1 - t)^p, whose mean over t is 1; 0 is plain flow, 2 the error of the predicted data")

    def __post_init__(self):
        if self.power < 0:
            raise ValueError(f"power must not be negative, not {self.power}")

    @classmethod
    def tiny(cls):
        """The default: it costs nothing."""
        return cls()

    def num_parameters(self) -> int:
        """An objective has no weights."""
        return 0

    def prediction_type(self) -> str:
        """What the backbone predicts; the recipe's sampler must accept it."""
        return "velocity"
