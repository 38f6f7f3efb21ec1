"""Pixels as tensors: sizes, and uint8 <-> float. torch is imported when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mgzoo.spec import MgzooError

if TYPE_CHECKING:
    from torch import Tensor

RESIZED_AT_ONCE = 64
"""Frames that are float at the same time: they take four times their bytes, and again as much scaled."""


def covering(height: int, width: int, size: Sequence[int]) -> tuple[int, int]:
    """The smallest (height, width) of a picture's shape that covers `size`."""
    scale = max(size[0] / height, size[1] / width)
    return max(size[0], round(height * scale)), max(size[1], round(width * scale))


def resize(video: Tensor, height: int, width: int) -> Tensor:
    """uint8 (T, H, W, 3) -> uint8 (T, height, width, 3), antialiased bicubic, so that a smaller picture does not shimmer; the same tensor
    where the size is the same."""
    import torch
    from torch.nn.functional import interpolate

    if tuple(video.shape[1:3]) == (height, width):
        return video

    def scale(part: Tensor) -> Tensor:
        scaled = interpolate(part.permute(0, 3, 1, 2).float(), size=(height, width), mode="bicubic", antialias=True)
        return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    return torch.cat([scale(part) for part in video.split(RESIZED_AT_ONCE)])


def fit(video: Tensor, height: int, width: int) -> Tensor:
    """uint8 (T, H, W, 3) -> uint8 (T, height, width, 3): resized until it covers the size, then cut from the centre."""
    size = covering(*video.shape[1:3], (height, width))
    video = resize(video, *size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return video[:, top : top + height, left : left + width].contiguous()


def uint8_to_float(video: Tensor) -> Tensor:
    """uint8 (F, Y, X, 3) -> float32 (3, F, Y, X) in [-1, 1], as autoencoders take it."""
    return (video.float() / 127.5 - 1).permute(3, 0, 1, 2).contiguous()


def float_to_uint8(media: Tensor) -> Tensor:
    """float (3, F, Y, X) in [-1, 1] -> uint8 (F, Y, X, 3), clipped and rounded. Raises MgzooError where a value is not finite."""
    import torch

    if not torch.isfinite(media).all():
        raise MgzooError("the model output has non-finite values", remedy="reduce the guidance scale, or check the weights with `mgzoo verify`")
    return ((media.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).cpu().contiguous()
