"""Sizes, parameter counts and FLOPs of the backbones in closed form; no torch.

Letters: d width, f ffn, L depth, N latent tokens, M condition tokens of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mgzoo.spec import ConditionSpec, LatentSpec, option


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Fields shared by both backbones. Defaults are Movie Gen Video 30B (section 3.1, Table 1 of the paper)."""

    bias: ClassVar[bool]
    norm_vectors: ClassVar[int]
    ffn_inputs: ClassVar[int]
    kept: ClassVar[int]

    depth: int = option(48, "transformer blocks")
    width: int = option(6144, "model dimension d, channels of a token")
    heads: int = option(48, "attention heads; must divide width")
    ffn: int = option(16384, "hidden channels of the feed-forward layer")
    patch: tuple[int, ...] = option((1, 2, 2), "latents per token along each axis: (t, h, w) for video, (t,) for sound")
    max_len: tuple[int, ...] = option((32, 96, 96), "longest extent along each axis, in patches: length of the position tables")
    checkpoint: bool = option(False, "recompute each block's activations in the backward pass")
    eps: float = option(1e-5, "epsilon of the norms, added to the mean square or variance")
    frequency_dim: int = option(256, "channels of the sinusoidal timestep features; even")

    def __post_init__(self):
        for name in ("depth", "width", "heads", "ffn", "frequency_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.patch) != len(self.max_len) or not self.patch:
            raise ValueError(f"patch {self.patch} and max_len {self.max_len} must have the same axes")
        if min(self.patch) < 1 or min(self.max_len) < 1:
            raise ValueError(f"patch {self.patch} and max_len {self.max_len} must be at least 1 along each axis")
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}")
        if self.frequency_dim % 2:
            raise ValueError(f"frequency_dim must be even, got {self.frequency_dim}")
        if self.eps <= 0:
            raise ValueError(f"eps must be positive, got {self.eps}")

    @classmethod
    def tiny(cls):
        """About 1 M parameters, for clips of up to 8 x 16 x 16 patches."""
        return cls(depth=4, width=128, heads=4, ffn=768 // (cls.ffn_inputs + 1), max_len=(8, 16, 16))

    def can_expand(self) -> bool:
        """It can go on from weights of a backbone with fewer conditions or fed channels."""
        return True

    def num_tokens(self, axes: Sequence[int]) -> int:
        """Tokens of one latent of these sizes (latent units along each axis)."""
        return math.prod(size // patch for size, patch in zip(axes, self.patch, strict=True))

    def validate_shapes(self, latent: LatentSpec, conditions: Sequence[ConditionSpec], axes: Sequence[int] | None = None) -> list[str]:
        """What does not fit, one sentence each: the latent's rank; sizes (in latents) that do not divide or exceed max_len."""
        rank = len(latent.stride)
        if rank != len(self.patch):
            return [f"patch {self.patch} has {len(self.patch)} axes, latents of {latent.space} have {rank}"]
        names = [c.name for c in conditions]
        problems = [f"condition {name} is given twice" for name in sorted(set(names)) if names.count(name) > 1]
        if axes is None:
            return problems
        if len(axes) != rank:
            return [*problems, f"latent sizes {tuple(axes)} have {len(axes)} axes, but patch {self.patch} has {rank}"]
        names = ("t", "h", "w") if rank == 3 else ("t",) if rank == 1 else tuple(str(i) for i in range(rank))
        for name, size, patch, longest in zip(names, axes, self.patch, self.max_len):
            if size < 1 or size % patch:
                problems.append(f"latent size {size} along {name} is not a multiple of the patch {patch}")
            elif size // patch > longest:
                problems.append(f"{size // patch} patches along {name} exceed max_len {longest}")
        return problems

    def num_parameters(self, latent: LatentSpec, conditions: Sequence[ConditionSpec], concat_channels: int = 0) -> int:
        """Parameters of the built backbone, exactly. About L (8 d^2 + 3 d f) + 7 d^2 for llama3."""
        d = self.width
        cells = math.prod(self.patch)
        total = self._linear((latent.channels + concat_channels) * cells, d) + sum(self.max_len) * d
        total += self._linear(self.frequency_dim, d) + self._linear(d, d) + self._linear(d, 6 * d)
        total += sum(c.dim * d + d + (2 * d if c.kind == "tokens" else 0) for c in conditions)
        block = self._linear(d, 3 * d) + self._linear(d, d) + 6 * d + 2 * self.norm_vectors * d
        block += self._linear(d, self.ffn_inputs * self.ffn) + self._linear(self.ffn, d)
        if any(c.kind == "tokens" for c in conditions):
            block += 2 * self._linear(d, d) + self._linear(d, 2 * d)
        return total + self.depth * block + self.norm_vectors * d + 2 * d + self._linear(d, latent.channels * cells)

    def flops(self, latent: LatentSpec, axes: Sequence[int], condition_tokens: int, concat_channels: int = 0) -> int:
        """FLOPs of one sample's forward pass: two per multiply-add of every matrix product, attention included.

        axes: latent sizes. condition_tokens: M, summed over the token conditions. The conditions' own input projections,
        run once per forward, are left out: their widths are not this config's.
        """
        d, n, m = self.width, self.num_tokens(axes), condition_tokens
        cells = math.prod(self.patch)
        once = self.frequency_dim * d + 7 * d * d
        ends = n * d * (2 * latent.channels + concat_channels) * cells
        block = n * (4 * d * d + (self.ffn_inputs + 1) * d * self.ffn) + 2 * n * n * d
        cross = 2 * n * d * d + 2 * m * d * d + 2 * n * m * d if m else 0
        return 2 * (once + ends + self.depth * (block + cross))

    def activations(self, latent: LatentSpec, axes: Sequence[int], condition_tokens: int, checkpoint: bool | None = None) -> int:
        """Numbers kept for one sample's backward pass; a close estimate (it leaves out what is kept once, not per block).

        Per latent token and block: two norms' normalised values and outputs, q k v, both attentions' outputs, the cross
        query and its input, two branches before their gates (13 d), the inputs of both norms where these are LayerNorm
        (2 d), and the feed-forward's inner values (4 f of SwiGLU, 2 f of the MLP). Per condition token and block its key and
        value (2 d). With checkpointing only each block's input stays, and one block at a time is held in full. On a CPU in
        bfloat16 attention also keeps its weights (N^2 heads) as long as they are few.
        """
        d, n = self.width, self.num_tokens(axes)
        block = n * (self.kept * d + 2 * self.ffn_inputs * self.ffn) + 2 * condition_tokens * d
        checkpoint = self.checkpoint if checkpoint is None else checkpoint
        return self.depth * n * d + block if checkpoint else self.depth * block

    def _linear(self, inputs: int, outputs: int) -> int:
        return inputs * outputs + (outputs if self.bias else 0)


@dataclass(frozen=True, kw_only=True)
class Llama3Config(TransformerConfig):
    """The LLaMa3-style arm: RMSNorm with a weight, SwiGLU, no biases."""

    bias: ClassVar[bool] = False
    norm_vectors: ClassVar[int] = 1
    ffn_inputs: ClassVar[int] = 2
    kept: ClassVar[int] = 13


@dataclass(frozen=True, kw_only=True)
class DiTConfig(TransformerConfig):
    """The DiT arm: LayerNorm without weight and bias (DiT's own, the modulation replaces them), SiLU MLP, biases."""

    bias: ClassVar[bool] = True
    norm_vectors: ClassVar[int] = 0
    ffn_inputs: ClassVar[int] = 1
    kept: ClassVar[int] = 15

    ffn: int = option(24576, "hidden channels of the feed-forward layer; 4 d, as many parameters as SwiGLU with 16384")
    eps: float = option(1e-6, "epsilon of the norms, added to the variance")
