"""The forward that both backbones share: a diffusion transformer over latent patches of any rank.

Source: Movie Gen, section 3.1. What the paper leaves open (the exact form of adaLN, see `adaln`; null conditions; expansion of
position tables) is our choice, and the docstrings say so.

Shape letters: B samples, S tokens of one sample, N tokens of a packed batch, D model width, C latent channels, P latents per
patch, L condition tokens of a sample, M condition tokens of a packed batch, T latent times, H heads, K channels of a head.
A batch is computed as (B, S, D) where all samples have one length, else packed as (1, N, D): never padded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mgzoo.parts import Condition, Conditions, Latents
from mgzoo.spec import ConditionSpec, LatentSpec, MgzooError
from mgzoo_backbones.adaln import modulate, per_sample, sinusoid
from mgzoo_backbones.attention import Segments, attend
from mgzoo_backbones.configs import TransformerConfig

INIT_STD = 0.02


class Attention(nn.Module):
    """Self-attention, or cross-attention where `forward` is given other tokens."""

    def __init__(self, width: int, heads: int, bias: bool, cross: bool):
        super().__init__()
        self.heads = heads
        if cross:
            self.q = nn.Linear(width, width, bias=bias)
            self.kv = nn.Linear(width, 2 * width, bias=bias)
        else:
            self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x_BSD: Tensor, queries: Segments, tokens_MD: Tensor | None = None, keys: Segments | None = None) -> Tensor:
        def split(y: Tensor, parts: int) -> tuple[Tensor, ...]:
            return y.view(-1, parts, self.heads, x_BSD.shape[-1] // self.heads).unbind(1)

        if tokens_MD is None:
            q_NHK, k_NHK, v_NHK = split(self.qkv(x_BSD), 3)
            y_NHK = attend(q_NHK, k_NHK, v_NHK, queries, queries)
        else:
            (q_NHK,), (k_MHK, v_MHK) = split(self.q(x_BSD), 1), split(self.kv(tokens_MD), 2)
            y_NHK = attend(q_NHK, k_MHK, v_MHK, queries, keys)
        return self.out(y_NHK.reshape(x_BSD.shape))


class Block(nn.Module):
    """One layer: modulated self-attention, cross-attention, modulated feed-forward, each added to its input.

    The timestep's six vectors (shift, scale, gate of either modulated branch) are shared by all layers; `table` holds what
    this layer adds to them.
    """

    def __init__(self, config: TransformerConfig, norm: type[nn.Module], feed_forward: type[nn.Module], cross: bool):
        super().__init__()
        d = config.width
        self.table = nn.Parameter(torch.empty(6, d))
        self.attention_norm = norm(d, config.eps)
        self.attention = Attention(d, config.heads, config.bias, cross=False)
        self.cross_attention = Attention(d, config.heads, config.bias, cross=True) if cross else None
        self.ffn_norm = norm(d, config.eps)
        self.ffn = feed_forward(d, config.ffn, config.bias)

    def forward(self, x_BSD, positions_1SD, modulation_B6D, queries, tokens_MD=None, keys=None) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = modulate(self.table, modulation_B6D, (1, 4), x_BSD.dtype)
        x_BSD = x_BSD + positions_1SD
        y_BSD = self.attention(per_sample(queries, self.attention_norm, (x_BSD,), (shift1, scale1)), queries)
        x_BSD = per_sample(queries, torch.addcmul, (x_BSD, y_BSD), (gate1,))
        if self.cross_attention is not None:
            x_BSD = x_BSD + self.cross_attention(x_BSD, queries, tokens_MD, keys)
        y_BSD = self.ffn(per_sample(queries, self.ffn_norm, (x_BSD,), (shift2, scale2)))
        return per_sample(queries, torch.addcmul, (x_BSD, y_BSD), (gate2,))


class ConditionEmbedding(nn.Module):
    """A bias-free projection of one condition to the model width (and LayerNorm for tokens), with its learned null.

    ``tokens`` (B, L, dim) -> tokens (B, L, D) and their mask, at least one True in each row; ``vector`` -> (B, D);
    ``frames`` -> (B, T, D).
    """

    def __init__(self, spec: ConditionSpec, width: int):
        super().__init__()
        self.spec = spec
        self.project = nn.Linear(spec.dim, width, bias=False)
        self.norm = nn.LayerNorm(width) if spec.kind == "tokens" else None
        self.null = nn.Parameter(torch.empty(width))

    def forward(self, condition: Condition | None, batch: int) -> tuple[Tensor, Tensor | None]:
        spec, null_D = self.spec, self.null
        if condition is None:
            if not spec.optional:
                raise MgzooError(f"condition {spec.name} is missing", remedy="provide it: the model requires this condition")
            shape = (batch,) if spec.kind == "vector" else (batch, 1)
            mask = torch.ones(shape, dtype=torch.bool, device=null_D.device) if spec.kind == "tokens" else None
            return null_D.expand(*shape, -1), mask
        expected = (batch, spec.dim) if spec.kind == "vector" else (batch, condition.values.shape[1], spec.dim)
        if condition.values.shape != expected:
            raise MgzooError(
                f"condition {spec.name} has values of shape {tuple(condition.values.shape)}, expected {expected}",
                remedy=f"use an encoder with {spec.kind} of width {spec.dim}",
            )
        mask = condition.mask.to(null_D.device)
        given = mask.reshape(*mask.shape, *[1] * (condition.values.ndim - mask.ndim))
        # What is masked may be anything, infinities included: it must not reach a product.
        values = torch.where(given, condition.values.to(null_D), 0)
        projected = self.project(values)
        if spec.kind != "tokens":
            return torch.where(given, projected, null_D), None
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        null_BL = ~mask.any(1, keepdim=True) & first
        return torch.where(null_BL[..., None], null_D, self.norm(projected)), mask | null_BL


class Positions(nn.Module):
    """Factorised learned positions: one table (length, D) per axis; a token's position is the sum of its axes' vectors."""

    def __init__(self, lengths: Sequence[int], width: int):
        super().__init__()
        # Parameters of this very module, no ParameterList: ZeRO-3 gathers a module's own parameters when it is called.
        for axis, length in enumerate(lengths):
            self.register_parameter(f"axis{axis}", nn.Parameter(torch.empty(length, width)))

    def forward(self, grid: Sequence[int], offset_B: Tensor | None = None) -> Tensor:
        """Positions of all tokens of a grid of patches -> (1, S, D). offset_B: where each sample begins along the first axis, in
        patches; the result is then (B, S, D)."""
        total = 0
        for axis, (table, size) in enumerate(zip(self.parameters(recurse=False), grid)):
            if axis == 0 and offset_B is not None:
                places = table[offset_B[:, None] + torch.arange(size, device=table.device)]
            else:
                places = table[None, :size]
            total = total + places.reshape(len(places), *[1] * axis, size, *[1] * (len(grid) - axis - 1), -1)
        return total.flatten(1, -2)


class Transformer(nn.Module):
    """A backbone; subclasses name the two layers that they do not share.

    Norm: class built as ``Norm(width, eps)``, called as ``norm(x, shift, scale)``.
    FeedForward: class built as ``FeedForward(width, hidden, bias)``.
    """

    Norm: type[nn.Module]
    FeedForward: type[nn.Module]

    def __init__(
        self, config: TransformerConfig, *, latent: LatentSpec, conditions: Sequence[ConditionSpec] = (), concat_channels: int = 0
    ):
        super().__init__()
        if problems := config.validate_shapes(latent, conditions):
            raise MgzooError("; ".join(problems), remedy="change patch and max_len to the latent's axes")
        self.config, self.latent, self.concat_channels = config, latent, concat_channels
        d, cells = config.width, math.prod(config.patch)
        self.embed = nn.Linear((latent.channels + concat_channels) * cells, d, bias=config.bias)
        self.positions = Positions(config.max_len, d)
        self.timestep = nn.Sequential(
            nn.Linear(config.frequency_dim, d, bias=config.bias), nn.SiLU(), nn.Linear(d, d, bias=config.bias)
        )
        self.modulation = nn.Linear(d, 6 * d, bias=config.bias)
        self.conditions = nn.ModuleDict({c.name: ConditionEmbedding(c, d) for c in conditions})
        cross = any(c.kind == "tokens" for c in conditions)
        self.blocks = nn.ModuleList(Block(config, self.Norm, self.FeedForward, cross) for _ in range(config.depth))
        self.norm = self.Norm(d, config.eps)
        self.table = nn.Parameter(torch.empty(2, d))
        self.output = nn.Linear(d, latent.channels * cells, bias=config.bias)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Linear weights, positions and nulls N(0, 0.02); tables N(0, 1) / sqrt(D); zero: biases, the modulation and output
        layers, and the input weights of channels that a task head concat_channels."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, INIT_STD)
                if module.bias is not None:
                    module.bias.zero_()
        for parameter in chain(self.positions.parameters(), (c.null for c in self.conditions.values())):
            parameter.normal_(0, INIT_STD)
        for module in chain(self.blocks, (self,)):
            module.table.normal_(0, self.config.width**-0.5)
        self.modulation.weight.zero_()
        self.output.weight.zero_()
        self.embed.weight[:, self.latent.channels * math.prod(self.config.patch) :].zero_()

    def expand_state_dict(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """The weights of a backbone with fewer conditions or fed channels -> this one's, and the names of what is new in them.

        New input channels get zero weights, so that at first they change nothing; new conditions are as they were initialised.
        What else does not fit stays as it is, for the caller to refuse.
        """
        whole, own = dict(state), self.state_dict()
        new = [key for key in own if key.startswith("conditions.") and key not in whole]
        whole |= {key: own[key] for key in new}
        embed_DI = whole.get("embed.weight")
        missing = 0 if embed_DI is None else self.embed.in_features - embed_DI.shape[1]
        if missing > 0 and self.concat_channels:
            whole["embed.weight"] = F.pad(embed_DI, (0, missing))
            new.append("embed.weight")
        return whole, new

    def forward(
        self, latents: Latents, t: Tensor, conditions: Conditions | None = None, time_offset: Tensor | None = None
    ) -> Latents:
        """Latents (B, C + concat_channels, *axes), or a list of (C + concat_channels, *axes) of mixed sizes; t (B,) in [0, 1], 0 noise, 1 data.

        conditions: by name; an absent one counts as dropped. time_offset: (B,) integers, the position of each sample's first
        latent along the first axis, multiples of the patch; default 0. Returns the prediction, (B, C, *axes) or a list, in the
        model's dtype. Raises MgzooError for sizes, names, widths or offsets that this model was not built for.
        """
        dtype = self.table.dtype
        if isinstance(latents, list) and len({x.shape for x in latents}) == 1:
            return list(self.forward(torch.stack(latents), t, conditions, time_offset))
        batches = [x[None] for x in latents] if isinstance(latents, list) else [latents]
        grids = [self._grid(x.shape) for x in batches]
        offsets = self._offsets(time_offset, batches)
        x_BSD = torch.cat([self.embed(patchify(x.to(dtype), self.config.patch)) for x in batches], dim=1)
        positions_1SD = torch.cat([self.positions(grid, offset) for grid, offset in zip(grids, offsets)], dim=1)

        lengths = tuple(math.prod(grid) for x, grid in zip(batches, grids) for _ in x)
        queries = Segments(lengths=lengths, device=x_BSD.device)
        if len(grids) > 1 and queries.uniform:  # other sizes, as many tokens each
            x_BSD, positions_1SD = (y.view(len(grids), lengths[0], -1) for y in (x_BSD, positions_1SD))
        time_BD = self.timestep(sinusoid(1000 * t.float(), self.config.frequency_dim).to(dtype))
        time_BD, x_BSD, tokens_MD, keys = self._condition(time_BD, x_BSD, conditions or {}, grids)
        modulation_B6D = self.modulation(F.silu(time_BD)).unflatten(-1, (6, -1))

        for block in self.blocks:
            inputs = (x_BSD, positions_1SD, modulation_B6D, queries, tokens_MD, keys)
            if self.config.checkpoint and torch.is_grad_enabled():
                x_BSD = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                x_BSD = block(*inputs)

        shift, scale = modulate(self.table, time_BD[:, None].expand(-1, 2, -1), (1,), dtype)
        y_BSP = self.output(per_sample(queries, self.norm, (x_BSD,), (shift, scale)))
        if not isinstance(latents, list):
            return unpatchify(y_BSP, grids[0], self.config.patch)
        return [unpatchify(y[None], grid, self.config.patch)[0] for y, grid in zip(y_BSP.flatten(0, 1).split(lengths), grids)]

    def _grid(self, shape: torch.Size) -> tuple[int, ...]:
        """Patches along each axis of latents of this shape (B, C, *axes)."""
        channels = self.latent.channels + self.concat_channels
        if len(shape) != 2 + len(self.config.patch) or shape[1] != channels:
            raise MgzooError(
                f"latents of shape {tuple(shape)} given to a backbone for {channels} channels and {len(self.config.patch)} axes",
                remedy="pass (B, C, *axes) in the model's latent space",
            )
        if problems := self.config.validate_shapes(self.latent, (), shape[2:]):
            raise MgzooError("; ".join(problems), remedy="choose another size, or grow the tables with expand_positions")
        return tuple(size // patch for size, patch in zip(shape[2:], self.config.patch))

    def _offsets(self, time_offset: Tensor | None, batches: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """The time offsets of each tensor's samples, in patches."""
        if time_offset is None:
            return [None] * len(batches)
        sizes, patch = [len(x) for x in batches], self.config.patch[0]
        if time_offset.shape != (sum(sizes),) or time_offset.is_floating_point() or int(time_offset.min()) < 0:
            what = f"time_offset of shape {tuple(time_offset.shape)} and type {time_offset.dtype} given for {sum(sizes)} samples"
            raise MgzooError(what, remedy="give one integer from 0 for each sample")
        problems = [f"time_offset {offset} is not a multiple of the patch {patch}" for offset in time_offset.tolist() if offset % patch]
        for offset, x in zip(time_offset.split(sizes), batches):
            problems = problems or self.config.validate_shapes(self.latent, (), (int(offset.max()) + x.shape[2], *x.shape[3:]))
        if problems:
            raise MgzooError("; ".join(problems), remedy="give a smaller time_offset, a multiple of the patch")
        return (time_offset.to(self.table.device) // patch).split(sizes)

    def _condition(self, time_BD: Tensor, x_BSD: Tensor, conditions: Mapping[str, Condition], grids):
        """Add vectors to the timestep and frames to the tokens; concatenate and pack token conditions -> tokens (M, D), keys."""
        if unknown := sorted(conditions.keys() - self.conditions.keys()):
            raise MgzooError(
                f"unknown condition {', '.join(unknown)}; this backbone takes {', '.join(self.conditions) or 'none'}",
                remedy="rename its encoder, or remove it",
            )
        tokens, masks = [], []
        for name, embedding in self.conditions.items():
            values, mask = embedding(conditions.get(name), time_BD.shape[0])
            if embedding.spec.kind == "vector":
                time_BD = time_BD + values
            elif embedding.spec.kind == "frames":
                x_BSD = x_BSD + self._at_frames(values, name, grids, x_BSD.shape)
            else:
                tokens.append(values)
                masks.append(mask)
        if not tokens:
            return time_BD, x_BSD, None, None
        tokens_BLD, mask_BL = torch.cat(tokens, dim=1), torch.cat(masks, dim=1)
        if mask_BL.is_meta or mask_BL.all():  # a meta tensor has no values to count: take the longest case
            lengths, tokens_MD = (mask_BL.shape[1],) * mask_BL.shape[0], tokens_BLD.flatten(0, 1)
        else:
            given = mask_BL.flatten().nonzero().squeeze(1)
            lengths, tokens_MD = tuple(mask_BL.sum(1).tolist()), tokens_BLD.flatten(0, 1).index_select(0, given)
        return time_BD, x_BSD, tokens_MD, Segments(lengths=lengths, device=x_BSD.device)

    def _at_frames(self, values_BTD: Tensor, name: str, grids: Sequence[Sequence[int]], shape: torch.Size) -> Tensor:
        """A frames condition at every token of the same time, in the tokens' shape; one frame serves all times."""
        longest = max(grid[0] for grid in grids)
        times = values_BTD.shape[1]
        if times == 1:
            values_BTD, times = values_BTD.expand(-1, longest, -1), longest
        if times < longest or (len(grids) == 1 and times > longest):
            what = f"condition {name} has {times} frames for {longest} latent times"
            raise MgzooError(what, remedy="resample it to the latents")
        if len(grids) == 1:
            return values_BTD.repeat_interleave(math.prod(grids[0][1:]), dim=1)
        rows = [values_TD[: grid[0]].repeat_interleave(math.prod(grid[1:]), dim=0) for values_TD, grid in zip(values_BTD, grids)]
        return torch.cat(rows).view(shape)


def patchify(x: Tensor, patch: Sequence[int]) -> Tensor:
    """(B, C, *axes) -> (B, S, C * P), each row in the order of a convolution's weight (C, *patch)."""
    rank = len(patch)
    for axis, size in enumerate(patch):
        x = x.unflatten(2 + 2 * axis, (-1, size))
    grid, inside = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
    return x.permute(0, *grid, 1, *inside).flatten(1 + rank).flatten(1, rank)


def unpatchify(y_BSP: Tensor, grid: Sequence[int], patch: Sequence[int]) -> Tensor:
    """The inverse of `patchify` for a grid of patches."""
    rank = len(patch)
    y = y_BSP.unflatten(1, tuple(grid)).unflatten(1 + rank, (-1, *patch))
    order = [0, 1 + rank] + [i for axis in range(rank) for i in (1 + axis, 2 + rank + axis)]
    y = y.permute(order)
    for axis in range(rank):
        y = y.flatten(2 + axis, 3 + axis)
    return y


def expand_positions(table: Tensor, factor: int) -> Tensor:
    """A position table (length, D) grown to (length * factor, D) for a larger size (Movie Gen, section 3.1: x2, then x3).

    The paper does not say how values are expanded; our choice is linear interpolation between position centres, which
    keeps each place of the picture where it was. factor 1 returns the table unchanged.
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor}")
    grown = F.interpolate(table.float().T[None], scale_factor=factor, mode="linear", align_corners=False)
    return grown[0].T.to(table.dtype).contiguous()
