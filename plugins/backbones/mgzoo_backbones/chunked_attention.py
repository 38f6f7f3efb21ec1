"""Memory-efficient attention in chunks of plain matrix products: the fastest way on a CPU in bfloat16.

On a CPU without matrix tiles torch's fused kernel, forward and backward in bfloat16, runs at a third of the rate of a plain
product, and computing the logits of a whole layer at once costs as much again in page faults and memory traffic as the
products. Chunks that stay in a core's cache cost neither (`benchmarks/backbone.py` measures both).

Shape letters: N query tokens of all samples, M key tokens of all samples, B samples, H heads, K channels of a head; of one
chunk: n samples, h heads, G = n h, S queries and L keys of one sample. A chunk of a single head has no axis G.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_LOGITS = 2**20
"""Most logits of a chunk: 2 MiB in bfloat16."""

MAX_SAVED_WEIGHTS = 2**26
"""Most attention weights (B H S L) saved for the backward pass, 128 MiB in bfloat16; above it they are recomputed."""


class Chunk(NamedTuple):
    """Some heads of some samples of one length, or some query rows of one head of one sample. All slices index the packed batch.

    first, last: whether these are the first or the last rows of their heads.
    """

    samples: slice
    rows: slice
    columns: slice
    heads: slice
    first: bool
    last: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """(G, S, L), or (S, L) of a single head."""
        n, rows, columns, heads = (x.stop - x.start for x in self[:4])
        return (n * heads, rows // n, columns // n) if n * heads > 1 else (rows, columns)

    def gather(self, x_NHK: Tensor, tokens: slice) -> Tensor:
        """The chunk's heads at these tokens: a copy (G, S, K), as batched products would copy it each time, or a view (S, K)."""
        n = self.samples.stop - self.samples.start
        x_GSK = x_NHK[tokens, self.heads].unflatten(0, (n, -1)).transpose(1, 2).flatten(0, 1)
        return x_GSK[0] if len(x_GSK) == 1 else x_GSK.contiguous()

    def scatter(self, x_NHK: Tensor, tokens: slice, values_GSK: Tensor) -> None:
        """The inverse of `gather`: write the values into ``x_NHK``."""
        n, heads = (x.stop - x.start for x in (self.samples, self.heads))
        grid_nShK = x_NHK[tokens, self.heads].unflatten(0, (n, -1))
        grid_nShK.copy_(values_GSK.view(n, heads, *values_GSK.shape[-2:]).transpose(1, 2))


def chunks(queries: tuple[int, ...], keys: tuple[int, ...], heads: int) -> Iterator[Chunk]:
    """Chunks of at most `CHUNK_LOGITS` logits (at least one query row), as equal as possible, of samples with these lengths."""

    def ranges(start: int, stop: int, most: int) -> list[slice]:
        step = math.ceil((stop - start) / math.ceil((stop - start) / max(1, most)))
        return [slice(i, min(i + step, stop)) for i in range(start, stop, step)]

    sample = row = column = 0
    for (s, l), run in groupby(zip(queries, keys, strict=True)):
        count = len(list(run))
        for samples in ranges(0, count, CHUNK_LOGITS // (heads * s * l)):
            columns = slice(column + samples.start * l, column + samples.stop * l)
            whole = slice(row + samples.start * s, row + samples.stop * s)
            many = samples.stop - samples.start > 1
            for some in [slice(0, heads)] if many else ranges(0, heads, CHUNK_LOGITS // (s * l)):
                for rows in [whole] if many else ranges(whole.start, whole.stop, CHUNK_LOGITS // l):
                    owners = slice(sample + samples.start, sample + samples.stop)
                    yield Chunk(owners, rows, columns, some, rows.start == whole.start, rows.stop == whole.stop)
        sample, row, column = sample + count, row + count * s, column + count * l


class ChunkedAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(K) + bias) v of each sample of a packed batch -> (N, H, K).

    ``apply(q_NHK, k_MHK, v_MHK, queries, keys, bias)``: queries and keys are the samples' lengths. bias (B, L) or None is added to
    the logits, if all samples have the same number of keys. Logits and weights are rounded to the inputs' type; the
    softmax itself is computed in float32.
    """

    @staticmethod
    def forward(ctx, q_NHK: Tensor, k_MHK: Tensor, v_MHK: Tensor, queries: tuple[int, ...], keys: tuple[int, ...], bias: Tensor | None):
        ctx.chunks = list(chunks(queries, keys, q_NHK.shape[1]))
        total, largest = (f(math.prod(p.shape) for p in ctx.chunks) for f in (sum, max))
        keep = any(ctx.needs_input_grad) and total <= MAX_SAVED_WEIGHTS
        logits, weights = q_NHK.new_empty(largest), q_NHK.new_empty(total if keep else largest)
        scaled_NHK, y_NHK = q_NHK * q_NHK.shape[-1] ** -0.5, q_NHK.new_empty(q_NHK.shape)
        start = 0
        for chunk in ctx.chunks:
            weights_GSL = _softmax(chunk, scaled_NHK, k_MHK, bias, logits, weights[start:])
            chunk.scatter(y_NHK, chunk.rows, weights_GSL @ chunk.gather(v_MHK, chunk.columns))
            start += weights_GSL.numel() if keep else 0
        ctx.save_for_backward(q_NHK, k_MHK, v_MHK, bias, weights if keep else None)
        return y_NHK

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_NHK: Tensor):
        q_NHK, k_MHK, v_MHK, bias, kept = ctx.saved_tensors
        grad_q_NHK, grad_k_MHK, grad_v_MHK = (x.new_empty(x.shape) for x in (q_NHK, k_MHK, v_MHK))
        logits, weights = (q_NHK.new_empty(max(math.prod(p.shape) for p in ctx.chunks)) for _ in range(2))
        scale = q_NHK.shape[-1] ** -0.5
        scaled_NHK = q_NHK * scale
        start = 0
        for chunk in ctx.chunks:
            if kept is None:
                weights_GSL = _softmax(chunk, scaled_NHK, k_MHK, bias, logits, weights)
            else:
                weights_GSL = _as_chunk(kept[start:], chunk)
                start += weights_GSL.numel()
            q_GSK, grad_GSK = chunk.gather(scaled_NHK, chunk.rows), chunk.gather(grad_NHK, chunk.rows)
            k_GLK, v_GLK = chunk.gather(k_MHK, chunk.columns), chunk.gather(v_MHK, chunk.columns)
            by_weights_GSL = torch.matmul(grad_GSK, v_GLK.mT, out=_as_chunk(logits, chunk))
            by_logits_GSL = torch._softmax_backward_data(by_weights_GSL, weights_GSL, -1, weights_GSL.dtype)
            chunk.scatter(grad_q_NHK, chunk.rows, by_logits_GSL @ k_GLK)
            by_k_GLK, by_v_GLK = by_logits_GSL.mT @ q_GSK, weights_GSL.mT @ grad_GSK
            if not chunk.first:  # the rows of these heads come in several chunks: their gradients of the keys are summed in float32
                by_k_GLK, by_v_GLK = sum_k_GLK.float() + by_k_GLK, sum_v_GLK.float() + by_v_GLK
            sum_k_GLK, sum_v_GLK = by_k_GLK, by_v_GLK
            if chunk.last:
                chunk.scatter(grad_k_MHK, chunk.columns, sum_k_GLK)
                chunk.scatter(grad_v_MHK, chunk.columns, sum_v_GLK)
        return grad_q_NHK.mul_(scale), grad_k_MHK, grad_v_MHK, None, None, None


def _softmax(chunk: Chunk, scaled_NHK: Tensor, k_MHK: Tensor, bias: Tensor | None, logits: Tensor, weights: Tensor) -> Tensor:
    """The chunk's attention weights (G, S, L), written to the start of `weights`; `logits` is scratch memory."""
    q_GSK, k_GLK = chunk.gather(scaled_NHK, chunk.rows), chunk.gather(k_MHK, chunk.columns)
    logits_GSL = torch.matmul(q_GSK, k_GLK.mT, out=_as_chunk(logits, chunk))
    if bias is not None:
        bias_nL = bias[chunk.samples]
        logits_GSL.view(len(bias_nL), -1, *logits_GSL.shape[-2:]).add_(bias_nL[:, None, None])
    return torch.softmax(logits_GSL, -1, out=_as_chunk(weights, chunk))


def _as_chunk(flat: Tensor, chunk: Chunk) -> Tensor:
    """The start of ``flat`` in the chunk's shape (G, S, L)."""
    return flat[: math.prod(chunk.shape)].view(chunk.shape)
