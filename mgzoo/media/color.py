"""HDR and wide gamut -> BT.709 in SDR. numpy only.

PQ (SMPTE ST 2084) and HLG (ARIB STD-B67) are decoded to display light as ITU-R BT.2100-2 defines it (HLG: nominal peak of 1000 cd/m2, system gamma
1.2). The reference white of 203 cd/m2 (ITU-R BT.2408-7) becomes SDR white. BT.2020 primaries become BT.709's (ITU-R BT.2087-0); what lies outside of
them is cut off at 0. A pixel brighter than white is divided by its largest component, so that it keeps its hue (our choice). Light becomes values through
the inverse of a display of gamma 2.4 (ITU-R BT.1886).
"""

from __future__ import annotations

from functools import lru_cache

import numpy

PQ, HLG, BT2020 = 16, 18, 9  # code points of ITU-T H.273
WHITE = 203.0
"""cd/m2 of HDR reference white."""
TO_709 = numpy.array([[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], numpy.float32)
GAMMA = 2.4
STEPS = 4096


def needs_mapping(transfer: int, primaries: int) -> bool:
    """Whether frames tagged so cannot be taken for SDR of BT.709."""
    return transfer in (PQ, HLG) or primaries == BT2020


def pq_light(signal: numpy.ndarray) -> numpy.ndarray:
    """Non-linear PQ values in [0, 1] -> cd/m2 (BT.2100-2, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = numpy.asarray(signal, numpy.float64) ** (1 / m2)
    return 10_000 * (numpy.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def hlg_scene(signal: numpy.ndarray) -> numpy.ndarray:
    """Non-linear HLG values in [0, 1] -> scene light in [0, 1] (BT.2100-2, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = numpy.asarray(signal, numpy.float64)
    return numpy.where(signal <= 0.5, signal**2 / 3, (numpy.exp((signal - c) / a) + b) / 12)


@lru_cache(maxsize=4)
def _light(transfer: int, top: int) -> numpy.ndarray:
    """Of each 16-bit value, light relative to white; of HLG, the scene's."""
    signal = numpy.minimum(numpy.arange(65536) / top, 1)
    if transfer == PQ:
        light = pq_light(signal) / WHITE
    else:
        light = hlg_scene(signal) if transfer == HLG else signal**GAMMA
    return light.astype(numpy.float32)


@lru_cache(maxsize=1)
def _values() -> numpy.ndarray:
    """8-bit values of light sampled at the squares of equal steps, which are fine where the eye is."""
    return numpy.round(255 * (numpy.arange(STEPS + 1) / STEPS) ** (2 / GAMMA)).astype(numpy.uint8)


def full_scale(frame) -> int:
    """The value that FFmpeg's scaler gives to a signal of 1 as RGB of 16 bits: measured of libswscale 9, which shifts bits and does not stretch."""
    if frame.format.is_rgb:
        return 65535
    bits = frame.format.components[0].bits
    return ((1 << bits) - 1) << (16 - bits) if frame.color_range == 2 else 65283


@lru_cache(maxsize=4)
def _eight_bits(top: int) -> numpy.ndarray:
    return numpy.round(numpy.minimum(numpy.arange(65536) / top, 1) * 255).astype(numpy.uint8)


def to_8_bits(rgb: numpy.ndarray, top: int) -> numpy.ndarray:
    """uint16 (H, W, 3) -> uint8 (H, W, 3), rounded. top: the value of a signal of 1, see `full_scale`."""
    return _eight_bits(top)[rgb]


def to_sdr(rgb: numpy.ndarray, transfer: int, primaries: int, top: int = 65535) -> numpy.ndarray:
    """uint16 (H, W, 3), full range, non-linear -> uint8 (H, W, 3), BT.709. transfer, primaries: code points of H.273. top: the value of a signal of 1."""
    light = _light(transfer if transfer in (PQ, HLG) else 0, top)[rgb]
    if transfer == HLG:  # the display's light: its system gamma acts on luminance
        luminance = light @ numpy.array([0.2627, 0.6780, 0.0593], numpy.float32)
        light = light * (numpy.maximum(luminance, 1e-9) ** 0.2)[..., None] * numpy.float32(1000 / WHITE)
    if primaries == BT2020:
        light = numpy.maximum(light @ TO_709.T, 0)
    light = light / numpy.maximum(light.max(-1, keepdims=True), 1)
    return _values()[numpy.round(numpy.sqrt(light) * STEPS).astype(numpy.uint16)]
