"""Settings of the encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgzoo.spec import ConditionSpec, option, require, require_at_least


@dataclass(frozen=True, kw_only=True)
class BytesConfig:
    """A text encoder without a vocabulary file, small enough to train with the model (our choice)."""

    unit: Literal["word", "byte"] = option("word", "token unit: a word (hashed with its byte n-grams) or one UTF-8 byte")
    width: int = option(256, "D, width of the tokens")
    depth: int = option(2, "transformer layers")
    heads: int = option(4, "attention heads; divides width")
    buckets: int = option(16384, "rows of the hashed embedding (unit: word); row 0 stands for an empty text")
    ngrams: tuple[int, ...] = option((3, 4, 5), "lengths in bytes of the n-grams added to a word; empty: whole words only")
    max_len: int = option(128, "maximum length of a text in tokens; longer texts are truncated")
    positions: bool = option(True, "learned position embedding; without it the tokens have no order")
    pooled: bool = option(False, "return the mean of the tokens as one vector (added to the timestep embedding) instead of tokens")

    def __post_init__(self):
        require({f"unit must be word or byte, not {self.unit!r}": self.unit in ("word", "byte")})
        require_at_least(self, 1, "width", "heads", "max_len")
        require({
            f"depth must not be negative, not {self.depth}": self.depth >= 0,
            f"heads ({self.heads}) must divide width ({self.width})": self.width % self.heads == 0,
            f"buckets must be at least 2, not {self.buckets}": self.buckets >= 2,
            f"ngrams must be positive lengths, not {self.ngrams}": all(n >= 1 for n in self.ngrams),
        })  # fmt: skip

    @classmethod
    def tiny(cls) -> BytesConfig:
        return cls(width=128, depth=2, heads=4, buckets=4096, max_len=64)

    def rows(self) -> int:
        """Rows of the token embedding: buckets, or row 0 and the 256 bytes."""
        return self.buckets if self.unit == "word" else 257

    def input_modality(self) -> str:
        return "text"

    def condition_spec(self, name: str) -> ConditionSpec:
        if self.pooled:
            return ConditionSpec(name=name, dim=self.width, kind="vector")
        return ConditionSpec(name=name, dim=self.width, max_len=self.max_len)

    def num_parameters(self) -> int:
        d = self.width
        tables = (self.rows() + self.positions * self.max_len) * d
        return tables + self.depth * (12 * d * d + 4 * d) + 4 * d


SOURCE = "folder or hub repository (org/name[@revision]) of the weights and the tokenizer; `random` for random weights that read bytes"


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """The encoder half of a T5-style model; the defaults are UL2's (google/ul2). The sizes must be those of `source`.

    T5-base (v1.1), as Movie Gen Audio uses: width 768, depth 12, heads 12, head_dim 64, hidden 2048, activation gated-gelu.
    """

    source: str = option("", SOURCE)
    width: int = option(4096, "D, width of the tokens")
    depth: int = option(32, "transformer layers")
    heads: int = option(16, "attention heads")
    head_dim: int = option(256, "width of a head")
    hidden: int = option(16384, "width of the feed-forward")
    vocab: int = option(32128, "rows of the token embedding")
    activation: Literal["relu", "gated-gelu", "gated-silu"] = option("gated-silu", "activation of the feed-forward; gated ones have a third matrix")
    max_len: int = option(512, "maximum length of a text in tokens; longer texts are truncated")
    quoted_only: bool = option(False, "encode only the text in double quotes")

    def __post_init__(self):
        require_at_least(self, 1, "width", "depth", "heads", "head_dim", "hidden", "vocab", "max_len")
        require({f"random weights read bytes: vocab must be at least 384, not {self.vocab}": self.source != "random" or self.vocab >= 384})

    @classmethod
    def tiny(cls) -> T5Config:
        return cls(source="random", width=64, depth=2, heads=4, head_dim=16, hidden=128, vocab=384, max_len=64)

    def input_modality(self) -> str:
        return "text"

    def condition_spec(self, name: str) -> ConditionSpec:
        return ConditionSpec(name=name, dim=self.width, max_len=self.max_len)

    def num_parameters(self) -> int:
        d, inner = self.width, self.heads * self.head_dim
        matrices = 3 if self.activation.startswith("gated") else 2
        layer = 4 * d * inner + matrices * d * self.hidden + 2 * d
        return self.vocab * d + self.depth * layer + RELATIVE_BUCKETS * self.heads + d


RELATIVE_BUCKETS = 32  # of T5's relative position bias, in every published size


@dataclass(frozen=True, kw_only=True)
class ByT5Config(T5Config):
    """A T5 that reads bytes, for the text to be drawn in the picture (Movie Gen); the defaults are google/byt5-small's."""

    width: int = option(1472, "D, width of the tokens")
    depth: int = option(12, "transformer layers")
    heads: int = option(6, "attention heads")
    head_dim: int = option(64, "width of a head")
    hidden: int = option(3584, "width of the feed-forward")
    vocab: int = option(384, "rows of the token embedding")
    activation: Literal["relu", "gated-gelu", "gated-silu"] = option("gated-gelu", "activation of the feed-forward; gated ones have a third matrix")
    max_len: int = option(128, "maximum length of a text in bytes, end mark included; longer texts are truncated")
    quoted_only: bool = option(True, "encode only the text in double quotes (empty text without quotes)")


@dataclass(frozen=True, kw_only=True)
class MetaClipConfig:
    """A CLIP text tower. Movie Gen's is a MetaCLIP fine-tuned to 256 tokens that was never published; its width is unknown.

    The defaults are a ViT-bigG text tower (1,280 wide) with 256 positions. The public H/14 is width 1024, depth 24, heads 16,
    hidden 4096, max_len 77. The sizes must be those of `source`.
    """

    source: str = option("", SOURCE)
    width: int = option(1280, "D, width of the tokens")
    depth: int = option(32, "transformer layers")
    heads: int = option(20, "attention heads; divides width")
    hidden: int = option(5120, "width of the feed-forward")
    vocab: int = option(49408, "rows of the token embedding")
    activation: Literal["quick_gelu", "gelu"] = option("quick_gelu", "activation of the feed-forward")
    max_len: int = option(256, "positions: maximum length of a text in tokens; longer texts are truncated")

    def __post_init__(self):
        require_at_least(self, 1, "width", "depth", "heads", "hidden", "vocab", "max_len")
        require({
            f"heads ({self.heads}) must divide width ({self.width})": self.width % self.heads == 0,
            f"random weights read bytes: vocab must be at least 384, not {self.vocab}": self.source != "random" or self.vocab >= 384,
        })  # fmt: skip

    @classmethod
    def tiny(cls) -> MetaClipConfig:
        return cls(source="random", width=64, depth=2, heads=4, hidden=128, vocab=384, max_len=32)

    def input_modality(self) -> str:
        return "text"

    def condition_spec(self, name: str) -> ConditionSpec:
        return ConditionSpec(name=name, dim=self.width, max_len=self.max_len)

    def num_parameters(self) -> int:
        return (self.vocab + self.max_len) * self.width + clip_layers(self.width, self.depth, self.hidden) + 2 * self.width


@dataclass(frozen=True, kw_only=True)
class MetaClipVisionConfig:
    """A CLIP vision tower; the defaults are MetaCLIP's H/14. The sizes must be those of `source`."""

    source: str = option("", SOURCE)
    gives: Literal["tokens", "frames"] = option("tokens", "all tokens of one picture (faces), or one embedding per frame (sound for video)")
    width: int = option(1280, "width of the tower, and D of the tokens")
    projection: int = option(1024, "D of the frames' embeddings, CLIP's joint space")
    depth: int = option(32, "transformer layers")
    heads: int = option(16, "attention heads; divides width")
    hidden: int = option(5120, "width of the feed-forward")
    patch: int = option(14, "side of a patch, in pixels; divides size")
    size: int = option(224, "side of the input picture, in pixels; other sizes are scaled and cropped")
    activation: Literal["quick_gelu", "gelu"] = option("quick_gelu", "activation of the feed-forward")

    def __post_init__(self):
        require_at_least(self, 1, "width", "projection", "depth", "heads", "hidden", "patch", "size")
        require({
            f"gives must be tokens or frames, not {self.gives!r}": self.gives in ("tokens", "frames"),
            f"heads ({self.heads}) must divide width ({self.width})": self.width % self.heads == 0,
            f"patch ({self.patch}) must divide size ({self.size})": self.size % self.patch == 0,
        })  # fmt: skip

    @classmethod
    def tiny(cls) -> MetaClipVisionConfig:
        return cls(source="random", width=64, projection=32, depth=2, heads=4, hidden=128, patch=8, size=32)

    def input_modality(self) -> str:
        return "image" if self.gives == "tokens" else "video"

    def num_tokens(self) -> int:
        """Patches of a picture, and the class token."""
        return (self.size // self.patch) ** 2 + 1

    def condition_spec(self, name: str) -> ConditionSpec:
        if self.gives == "tokens":
            return ConditionSpec(name=name, dim=self.width, max_len=self.num_tokens())
        return ConditionSpec(name=name, dim=self.projection, kind="frames")

    def num_parameters(self) -> int:
        d = self.width
        embeddings = d + 3 * self.patch**2 * d + self.num_tokens() * d
        head = d * self.projection if self.gives == "frames" else 0
        return embeddings + clip_layers(d, self.depth, self.hidden) + 4 * d + head


@dataclass(frozen=True, kw_only=True)
class PatchesConfig:
    """A small vision encoder: convolutions of stride 2 down to patches, then transformer layers (our choice)."""

    size: int = option(64, "side of the input picture, in pixels; other sizes are scaled and cropped")
    patch: int = option(16, "pixels between two tokens, a power of two that divides size")
    width: int = option(192, "D, width of the tokens")
    depth: int = option(3, "transformer layers")
    heads: int = option(4, "attention heads; divides width")

    def __post_init__(self):
        require_at_least(self, 1, "size", "width", "heads")
        require({
            f"depth must not be negative, not {self.depth}": self.depth >= 0,
            f"patch must be a power of two, at least 2, not {self.patch}": self.patch >= 2 and self.patch & (self.patch - 1) == 0,
        })  # fmt: skip
        require({
            f"patch ({self.patch}) must divide size ({self.size})": self.size % self.patch == 0,
            f"heads ({self.heads}) must divide width ({self.width})": self.width % self.heads == 0,
        })  # fmt: skip

    @classmethod
    def tiny(cls) -> PatchesConfig:
        return cls(size=32, patch=8, width=64, depth=2)

    def channels(self) -> tuple[int, ...]:
        """Channels after each convolution; the last is the width, each before it half as many."""
        steps = self.patch.bit_length() - 1
        return tuple(max(16, self.width >> (steps - 1 - i)) if i < steps - 1 else self.width for i in range(steps))

    def num_tokens(self) -> int:
        """Patches of a picture."""
        return (self.size // self.patch) ** 2

    def input_modality(self) -> str:
        return "image"

    def condition_spec(self, name: str) -> ConditionSpec:
        return ConditionSpec(name=name, dim=self.width, max_len=self.num_tokens())

    def num_parameters(self) -> int:
        d, widths = self.width, (3, *self.channels())
        stem = sum(9 * a * b + b for a, b in zip(widths, widths[1:]))
        return stem + self.num_tokens() * d + self.depth * (12 * d * d + 4 * d) + 2 * d


def clip_layers(width: int, depth: int, hidden: int) -> int:
    """Parameters of CLIP's transformer layers: four square maps, two of the feed-forward, two norms, all with biases."""
    return depth * (4 * (width + 1) * width + 2 * width * hidden + hidden + width + 4 * width)
