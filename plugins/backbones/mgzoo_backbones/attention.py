"""The one attention function: full bidirectional attention inside each sample of a packed batch.

Shape letters: B samples, N query tokens of all samples, M key tokens of all samples, S queries of one sample,
L keys of one sample, H heads, K channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mgzoo.precision import computes_bf16
from mgzoo_backbones.chunked_attention import ChunkedAttention


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """How a packed sequence divides into samples: sample i owns ``lengths[i]`` tokens, in order."""

    lengths: tuple[int, ...]
    device: torch.device

    @property
    def uniform(self) -> bool:
        """Whether all samples have one length, so that the packed sequence is also a (B, S) grid."""
        return len(set(self.lengths)) == 1

    @cached_property
    def offsets(self) -> Tensor:
        """Cumulative lengths, int32 (B + 1,), as variable-length kernels take them."""
        return F.pad(torch.tensor(self.lengths, device=self.device).cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def padding(self) -> tuple[Tensor, Tensor]:
        """``(index, bias)``: token index of each cell of the padded (B * longest) grid, and 0 or -inf (B, longest)."""
        lengths = torch.tensor(self.lengths, device=self.device)
        cells = torch.arange(max(self.lengths), device=self.device)
        index = torch.minimum(self.offsets[:-1, None] + cells, self.offsets[1:, None] - 1)
        bias = torch.zeros(index.shape, device=self.device).masked_fill(cells >= lengths[:, None], float("-inf"))
        return index.flatten(), bias


def attend(q_NHK: Tensor, k_MHK: Tensor, v_MHK: Tensor, queries: Segments, keys: Segments) -> Tensor:
    """Attention of each sample's queries to the same sample's keys -> (N, H, K). Every sample has at least one key.

    All ways give the same result and differ in speed. Mixed lengths on CUDA in half precision: a variable-length kernel. Elsewhere,
    mixed keys (text) of uniform queries are padded and masked, which costs little because they are few; mixed queries (videos
    of several sizes) are computed one sample at a time. On a CPU with bfloat16 instructions: `chunked_attention`; else torch's
    fused kernel.
    """
    b, (heads, channels), bias_BL = len(queries.lengths), q_NHK.shape[-2:], None
    if q_NHK.is_cuda and q_NHK.dtype in (torch.bfloat16, torch.float16) and not (queries.uniform and keys.uniform):
        from torch.nn.attention.varlen import varlen_attn

        longest = max(queries.lengths), max(keys.lengths)
        return varlen_attn(q_NHK, k_MHK, v_MHK, queries.offsets, keys.offsets, *longest)
    if queries.uniform and not keys.uniform:
        index, bias_BL = keys.padding
        k_MHK, v_MHK, bias_BL = k_MHK.index_select(0, index), v_MHK.index_select(0, index), bias_BL.to(q_NHK.dtype)
        keys = Segments(lengths=(bias_BL.shape[1],) * b, device=keys.device)
    if q_NHK.device.type == "cpu" and q_NHK.dtype == torch.bfloat16 and computes_bf16("cpu"):
        return ChunkedAttention.apply(q_NHK, k_MHK, v_MHK, queries.lengths, keys.lengths, bias_BL)
    if queries.uniform:
        grids = (x.view(b, -1, heads, channels) for x in (q_NHK, k_MHK, v_MHK))
        return _fused(*grids, bias_BL).reshape(q_NHK.shape)
    samples = zip(q_NHK.split(queries.lengths), k_MHK.split(keys.lengths), v_MHK.split(keys.lengths))
    return torch.cat([_fused(*(x[None] for x in sample))[0] for sample in samples])


def _fused(q_BSHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, bias_BL: Tensor | None = None) -> Tensor:
    mask = None if bias_BL is None else bias_BL[:, None, None]
    q_BHSK, k_BHLK, v_BHLK = (x.transpose(1, 2) for x in (q_BSHK, k_BLHK, v_BLHK))
    return F.scaled_dot_product_attention(q_BHSK, k_BHLK, v_BHLK, attn_mask=mask).transpose(1, 2)
