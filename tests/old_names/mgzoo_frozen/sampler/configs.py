"""What the sampler may be told; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import option


@dataclass(frozen=True, kw_only=True)
class HeunConfig:
    """Heun's method: a step of Euler, corrected by the velocity at its end."""

    steps: int = option(25, "integration steps; two evaluations of the model each")
    guidance: float = option(4.0, "classifier-free guidance scale; 1 switches it off")

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")

    @classmethod
    def tiny(cls):
        """Four steps."""
        return cls(steps=4, guidance=2.0)

    def parameters(self) -> int:
        """A sampler has no weights."""
        return 0

    def accepts(self) -> tuple[str, ...]:
        """What it can integrate: what the recipe's objective makes the backbone predict must be among these."""
        return ("velocity",)
