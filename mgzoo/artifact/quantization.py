"""int8 quantization of weights, with one scale per row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mgzoo.artifact.safetensors_header import SCALE_SUFFIX
from mgzoo.spec import MgzooError

MIN_QUANTIZED_SIZE = 4096


def quantize_rows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels of `EIGHT_BIT_FROM` values or more as int8 with one scale per output row, (O,) float32, named ``NAME:scale``;
    other tensors are unchanged.

    W is about scale * q with q in -127..127 and scale = max|W| / 127 of the row: an error of 0.3 % of the row's largest value at most
    (symmetric, per channel, to the nearest; our choice). `whole` is the way back.
    """
    stored = {}
    for key, weight in tensors.items():
        if not weight.is_floating_point() or weight.ndim < 2 or weight.numel() < MIN_QUANTIZED_SIZE:
            stored[key] = weight
            continue
        rows = weight.float().flatten(1)
        scale = rows.abs().amax(1).div(127).clamp_min(torch.finfo(torch.float32).tiny)
        stored |= {key: (rows / scale[:, None]).round().to(torch.int8).view(weight.shape), key + SCALE_SUFFIX: scale}
    return stored


def dequantize_rows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `eight_bit` stored as bfloat16 again. Raises `MgzooError` where a scale is not one for each row of int8."""
    found = {}
    for key, value in tensors.items():
        if key.endswith(SCALE_SUFFIX):
            continue
        scale = tensors.get(key + SCALE_SUFFIX)
        if scale is not None and (value.dtype != torch.int8 or scale.shape != value.shape[:1] or not scale.is_floating_point()):
            raise MgzooError(f"{key + SCALE_SUFFIX} does not match the rows of {key}", remedy="pull or save the artifact again")
        found[key] = value if scale is None else (value.float() * scale.view(-1, *[1] * (value.ndim - 1))).bfloat16()
    if lost := [key for key in tensors if key.endswith(SCALE_SUFFIX) and key.removesuffix(SCALE_SUFFIX) not in found]:
        raise MgzooError(f"{lost[0]} has no quantized tensor", remedy="pull or save the artifact again")
    return found
