"""What the encoder may be told; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import ConditionSpec, option


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """A text encoder without a vocabulary: a word is found by its hash."""

    width: int = option(256, "D, width of the tokens")
    rows: int = option(8192, "rows of the hashed embedding; row 0 stands for an empty text")
    max_len: int = option(77, "longest text in words; the rest is cut off")

    def __post_init__(self):
        for name, least in (("width", 1), ("rows", 2), ("max_len", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")

    @classmethod
    def tiny(cls):
        """About 0.1 M parameters."""
        return cls(width=64, rows=1024, max_len=32)

    def takes(self) -> str:
        """The modality of its inputs."""
        return "text"

    def condition(self, name: str) -> ConditionSpec:
        """What it emits: up to `max_len` tokens of `width`."""
        return ConditionSpec(name=name, dim=self.width, max_len=self.max_len)

    def parameters(self) -> int:
        """Two tables, two norms and the feed-forward."""
        d = self.width
        return (self.rows + self.max_len) * d + 4 * d + (2 * d * d + 2 * d) + (2 * d * d + d)
