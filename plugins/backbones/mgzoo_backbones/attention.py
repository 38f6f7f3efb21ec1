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

LARGEST_EXPLICIT = 2**26
"""Most logits (B H S L) that `attend` holds at once when it multiplies them out on a CPU: 128 MiB in bfloat16."""


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
    def rows(self) -> Tensor:
        """The sample each token belongs to, int64 (N,)."""
        lengths = torch.tensor(self.lengths, device=self.device)
        return torch.arange(len(self.lengths), device=self.device).repeat_interleave(lengths)

    @cached_property
    def padding(self) -> tuple[Tensor, Tensor]:
        """``(index, bias)``: token index of each cell of the padded (B * longest) grid, and 0 or -inf (B, 1, 1, longest)."""
        lengths = torch.tensor(self.lengths, device=self.device)
        cells = torch.arange(max(self.lengths), device=self.device)
        index = torch.minimum(self.offsets[:-1, None] + cells, self.offsets[1:, None] - 1)
        bias = torch.zeros(index.shape, device=self.device).masked_fill(cells >= lengths[:, None], float("-inf"))
        return index.flatten(), bias[:, None, None]


def attend(q_NHK: Tensor, k_MHK: Tensor, v_MHK: Tensor, queries: Segments, keys: Segments) -> Tensor:
    """Attention of each sample's queries to the same sample's keys -> (N, H, K). Every sample has at least one key.

    Which way is taken is a matter of speed alone. One length: a single batched product. Mixed lengths on CUDA in half
    precision: a variable-length kernel. Otherwise mixed keys (text) are padded and masked, which costs little because
    they are few, while mixed queries (videos of several sizes) are taken one sample at a time.
    """
    b, heads, channels = len(queries.lengths), q_NHK.shape[-2], q_NHK.shape[-1]
    if queries.uniform and keys.uniform:
        grids = (x.view(b, -1, heads, channels) for x in (q_NHK, k_MHK, v_MHK))
        return _dense(*grids).reshape(q_NHK.shape)
    if q_NHK.is_cuda and q_NHK.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        longest = max(queries.lengths), max(keys.lengths)
        return varlen_attn(q_NHK, k_MHK, v_MHK, queries.offsets, keys.offsets, *longest)
    if queries.uniform:
        index, bias = keys.padding
        k_BLHK, v_BLHK = (x.index_select(0, index).view(b, -1, heads, channels) for x in (k_MHK, v_MHK))
        return _dense(q_NHK.view(b, -1, heads, channels), k_BLHK, v_BLHK, bias).reshape(q_NHK.shape)
    samples = zip(q_NHK.split(queries.lengths), k_MHK.split(keys.lengths), v_MHK.split(keys.lengths))
    return torch.cat([_dense(*(x[None] for x in sample))[0] for sample in samples])


def _dense(q_BSHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, bias: Tensor | None = None) -> Tensor:
    q_BHSK, k_BHLK, v_BHLK = (x.transpose(1, 2) for x in (q_BSHK, k_BLHK, v_BLHK))
    b, heads, s, channels = q_BHSK.shape
    bias = None if bias is None else bias.to(q_BHSK.dtype)
    # On CPUs the fused kernel, forward and backward in bfloat16, is 2.5 to 8 times slower than the products written out.
    # These round the logits to bfloat16; the softmax itself is computed in float32.
    if q_BHSK.device.type == "cpu" and q_BHSK.dtype == torch.bfloat16 and b * heads * s * k_BHLK.shape[2] <= LARGEST_EXPLICIT:
        logits_BHSL = (q_BHSK * channels**-0.5) @ k_BHLK.mT
        logits_BHSL = logits_BHSL if bias is None else logits_BHSL + bias
        return (logits_BHSL.softmax(-1) @ v_BHLK).transpose(1, 2)
    return F.scaled_dot_product_attention(q_BHSK, k_BHLK, v_BHLK, attn_mask=bias).transpose(1, 2)
