"""Small fixed inputs that the laws put through a part: media, texts, conditions, latents, clips.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mgzoo.media import Media
from mgzoo.parts import Clip, Condition
from mgzoo.spec import ConditionSpec, LatentSpec
from mgzoo.testing.component_under_test import CONDITIONS, RATE, Subject, require

TEXTS = ("a red ball rolls over the grass", "rabbit", 'a sign that says "open", 3 s', "")
LONG_TEXT = " ".join(f"word{i}" for i in range(3000))
SEED = 20_24
CHANNELS = {"video": 3, "sound": 1}  # of media


def generator(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def media(sizes: Sequence[int], batch: int = 2, seed: int = SEED) -> Tensor:
    """Smooth moving media float (B, 3, F, Y, X), or sound (B, 1, samples), in [-1, 1]: no two samples, axes or directions alike."""
    waves = torch.rand(batch, CHANNELS["video" if len(sizes) == 3 else "sound"], 3, len(sizes) + 1, generator=generator(seed))
    total = 0
    for wave in waves.unbind(2):  # three plane waves, along all axes at once
        phase = 2 * math.pi * wave[..., -1]
        phase = phase.reshape(*phase.shape, *[1] * len(sizes))
        for axis, size in enumerate(sizes):
            place = torch.arange(size) / max(size, 8) * 2 * math.pi
            speed = 2 * wave[..., axis]
            phase = phase + speed.reshape(*speed.shape, *[1] * len(sizes)) * place.reshape(*[1] * (axis + 2), size, *[1] * (len(sizes) - axis - 1))
        total = total + torch.sin(phase)
    return total / 3


def colored_cells(latent: LatentSpec, batch: int = 8) -> Tensor:
    """Media of two latents along each axis, each cell of its own plain colour (or level), which nothing else tells: float (B, 3, F, Y, X)
    in [-1, 1]."""
    media = 2 * torch.rand(batch, CHANNELS[latent.layout], *[2] * len(latent.stride), generator=generator()) - 1
    for axis, stride in enumerate(latent.stride, start=2):
        media = media.repeat_interleave(stride, dim=axis)
    return media


def media_sizes(latent: LatentSpec) -> list[tuple[int, ...]]:
    """What every autoencoder must take: two latents along each axis, sizes that do not divide, and one frame (or one latent of sound)."""
    even = tuple(2 * s for s in latent.stride)
    odd = tuple(s + 1 if s > 1 else 3 for s in latent.stride)
    short = (1, *(2 * s for s in latent.stride[1:])) if latent.layout == "video" else latent.stride
    return [even, odd, short]


def encoder_inputs(takes: str, batch: int = 4) -> Any:
    """What an encoder that takes this modality is given."""
    if takes == "text":
        return list(TEXTS[:batch])
    require(takes in ("image", "video"), f"its config takes {takes!r}; the kit knows text, image and video")
    return media((1 if takes == "image" else 4, 24, 20), batch)


def condition(spec: ConditionSpec, batch: int, times: int, seed: int = SEED) -> Condition:
    """A random condition of a spec; token rows are of different lengths. times: T of a frames condition."""
    draw = generator(seed)
    if spec.kind == "tokens":
        length = min(spec.max_len or 6, 6)
        mask = torch.arange(length) < torch.tensor([2 + i % (length - 1) for i in range(batch)])[:, None]
        return Condition(name=spec.name, values=torch.randn(batch, length, spec.dim, generator=draw), mask=mask)
    shape = (batch, spec.dim) if spec.kind == "vector" else (batch, times, spec.dim)
    return Condition(name=spec.name, values=torch.randn(shape, generator=draw), mask=torch.ones(batch, dtype=torch.bool))


def conditions(batch: int, times: int, seed: int = SEED) -> dict[str, Condition]:
    """One of each kind."""
    return {spec.name: condition(spec, batch, times, seed + i) for i, spec in enumerate(CONDITIONS)}


def condition_rows(given: dict[str, Condition], picked: slice) -> dict[str, Condition]:
    """Some samples' conditions."""
    return {name: Condition(name=name, values=one.values[picked], mask=one.mask[picked]) for name, one in given.items()}


def latents(subject: Subject, size: Sequence[int], batch: int = 3, concat_channels: int = 0, seed: int = SEED) -> Tensor:
    return torch.randn(batch, subject.latent.channels + concat_channels, *size, generator=generator(seed))


def clip(i: int = 0, size: tuple[int, int, int] = (8, 16, 16)) -> Clip:
    """Clip i of the kit: smooth, moving, captioned, with a sound as long as the picture."""
    frames, height, width = size

    def load() -> Tensor:
        return ((media(size, 1, SEED + i)[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).contiguous()

    caption = TEXTS[i % 3]
    digest = f"{i:08x}{frames:04x}{height:04x}{width:04x}"
    samples = RATE * frames // 8
    return Clip(
        key=f"clip-{i}", digest=digest, caption=caption, frames=frames, height=height, width=width, fps=8.0, load=load,
        sound=lambda: media((samples,), 1, SEED + i)[0].float(), samples=samples, rate=RATE,
    )  # fmt: skip


def media_to_score(subject: Subject, count: int) -> list[Clip] | list[Media]:
    """What a filter or a metric is given; every third is a picture."""
    clips = [clip(i, (1 if i % 3 == 2 else 8, 16, 16)) for i in range(count)]
    if subject.kind == "filter":
        return clips
    return [Media(video=one.load(), fps=None if one.frames == 1 else one.fps, audio=one.sound(), rate=one.rate, caption=one.caption) for one in clips]
