"""Tiling of the temporal autoencoder in time (Movie Gen, section 3.1.1) and space: overlapping tiles, blended.

Shape letters: B batch, C channels, T latent times, F frames, Y X pixel height/width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def tiles(length: int, tile: int, overlap: int) -> list[slice]:
    """As few tiles as overlap by at least ``overlap``, spaced evenly over ``length``; a single one if it fits or ``tile`` is 0."""
    if not tile or length <= tile:
        return [slice(0, length)]
    last = math.ceil((length - overlap) / (tile - overlap)) - 1
    starts = [i * (length - tile) // last for i in range(last + 1)]
    return [slice(start, start + tile) for start in starts]


def blend_over_time(decode: Callable[[slice, int], Tensor], out: Tensor, T: int, tile: int, overlap: int, stride: int) -> Tensor:
    """Blend the tiles ``decode(latents, frames)`` (B, C, frames, Y, X) linearly over their overlaps into the zeros ``out`` (B, C, F, Y, X).

    T: latents in all. tile, overlap: in latents. stride: frames per latent. Tiles are decoded one after another, so memory
    beyond ``out`` does not grow with F (Movie Gen, section 3.1.1)."""
    frames, blend = out.shape[2], overlap * stride
    rise = ((torch.arange(blend, device=out.device) + 0.5) / max(blend, 1))[:, None, None]
    for start in range(0, T - overlap, tile - overlap):
        first = start * stride
        part = decode(slice(start, start + tile), min(frames - first, tile * stride))
        if start:
            part[:, :, :blend] *= rise[: part.shape[2]]
        if start + tile < T:
            part[:, :, part.shape[2] - blend :] *= 1 - rise
        out[:, :, first : first + part.shape[2]] += part
    return out


def blend_over_space(
    decode: Callable[[slice, slice], Tensor], rows: Sequence[slice], columns: Sequence[slice], overlap: int, scale: int
) -> Tensor:
    """Blend ``decode(rows, columns)`` (..., rows * scale, columns * scale) over a grid of tiles, one after another into the result.

    overlap: in latents, at least. scale: output positions per latent."""
    if len(rows) == len(columns) == 1:
        return decode(*rows, *columns)
    out = None
    for y, down in zip(rows, tile_weights(rows, overlap, scale)):
        for x, across in zip(columns, tile_weights(columns, overlap, scale)):
            tile = decode(y, x)
            tile = tile * (down[:, None] * across).to(tile.device)
            if out is None:
                out = tile.new_zeros(*tile.shape[:-2], rows[-1].stop * scale, columns[-1].stop * scale)
            out[..., scaled(y, scale), scaled(x, scale)] += tile
    return out


def tile_weights(spans: Sequence[slice], overlap: int, scale: int) -> list[Tensor]:
    """Weight of each tile at its positions (``scale`` positions per unit of its span); at every position they sum to 1.

    Neighbours are blended linearly over half of ``overlap``, in the middle of where they meet. Positions nearer to a tile's
    edge than a quarter of ``overlap`` depend on the convolutions' zero padding and get weight 0 (our choice)."""
    weights = [torch.ones((span.stop - span.start) * scale) for span in spans]
    reach = overlap * scale // 4
    for left, right, falling, rising in zip(spans, spans[1:], weights, weights[1:]):
        seam = (left.stop + right.start) * scale / 2
        for span, weight, sign in ((left, falling, -1), (right, rising, 1)):
            distance = torch.arange(span.start * scale, span.stop * scale) + 0.5 - seam
            weight *= (0.5 + sign * distance / max(2 * reach, 1e-3)).clamp(0, 1)
    return weights


def scaled(span: slice, scale: int) -> slice:
    """A span of latents in pixels, ``scale`` of them per latent."""
    return slice(span.start * scale, span.stop * scale)
