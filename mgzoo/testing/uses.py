"""How the laws build a part of each kind, and what they put through it: small fixed inputs, and all that comes out.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mgzoo.media import Media
from mgzoo.parts import Clip, Condition
from mgzoo.spec import ConditionSpec, LatentSpec
from mgzoo.testing.subject import CONDITIONS, RATE, Subject, require

TEXTS = ("a red ball rolls over the grass", "rabbit", 'a sign that says "open", 3 s', "")
LONG_TEXT = " ".join(f"word{i}" for i in range(3000))
SEED = 20_24
CHANNELS = {"video": 3, "sound": 1}  # of media


def generator(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(subject: Subject, seed: int = 0, *, device: str = "cpu", config: Any = None, **wires: Any) -> Any:
    """The part as a recipe builds it: from its config and a seed, the caller's random state left alone. Modules in eval mode."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        part = subject.target(config or subject.config, **{**subject.wires(), **wires})
    return part.eval() if isinstance(part, nn.Module) else part


@torch.no_grad()
def shake(part: Any, seed: int = SEED, but: Sequence[str] = ()) -> Any:
    """Move every weight a little: what starts at zero (gates, last layers, nulls) would hide whatever lies behind it. but: names left alone."""
    draw = generator(seed)
    for name, weight in part.named_parameters() if isinstance(part, nn.Module) else ():
        noise = torch.randn(weight.shape, generator=draw).to(weight)
        if name not in but:
            weight.add_(0.02 * noise)
    return part


def shaken(subject: Subject, seed: int = 0, **wires: Any) -> Any:
    """A part as `build` makes it, every weight moved."""
    return shake(build(subject, seed, **wires))


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative L2 distance."""
    found, expected = found.detach().double(), expected.detach().double()
    return ((found - expected).norm() / expected.norm().clamp_min(1e-12)).item()


# ---------------------------------------------------------------------------------------------------- inputs


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


def cells(latent: LatentSpec, batch: int = 8) -> Tensor:
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


def inputs(takes: str, batch: int = 4) -> Any:
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


def rows(given: dict[str, Condition], picked: slice) -> dict[str, Condition]:
    """Some samples' conditions."""
    return {name: Condition(name=name, values=one.values[picked], mask=one.mask[picked]) for name, one in given.items()}


def latents(subject: Subject, size: Sequence[int], batch: int = 3, feeds: int = 0, seed: int = SEED) -> Tensor:
    return torch.randn(batch, subject.latent.channels + feeds, *size, generator=generator(seed))


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


# ---------------------------------------------------------------------------------------------------- outputs


@torch.no_grad()
def use(subject: Subject, part: Any, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """All that a part answers to fixed inputs, by name, moved to `dtype` first where it is a module."""
    if isinstance(part, nn.Module):
        part.to(dtype)
    return USES[subject.kind](subject, part, dtype)


def _autoencoder(subject: Subject, part, dtype) -> dict[str, Tensor]:
    found = {}
    for size in media_sizes(subject.latent):
        given = media(size).to(dtype)
        found[f"latents of {size}"] = codes = part.encode(given)
        found[f"media of {size}"] = part.decode(codes.to(dtype), size)
    return found


def _encoder(subject: Subject, part, dtype) -> dict[str, Tensor]:
    given = inputs(subject.config.takes())
    condition = part(given.to(dtype) if isinstance(given, Tensor) else given)
    return {"values": condition.values, "mask": condition.mask}


def _backbone(subject: Subject, part, dtype) -> dict[str, Tensor]:
    found, sizes = {}, subject.sizes()
    for size in sizes:
        told = {name: one.to(dtype) for name, one in conditions(3, size[0]).items()}
        found[f"prediction of {size}"] = part(latents(subject, size).to(dtype), torch.tensor([0.1, 0.5, 0.9]), told)
    return found


def _objective(subject: Subject, part, dtype) -> dict[str, Tensor]:
    noisy, t, target = part.pair(torch.randn(4, 4, 2, 3, 3, generator=generator()).to(dtype), generator(1))
    return {"noisy": noisy, "t": t, "target": target, "loss": part.loss(torch.zeros_like(target).to(dtype), target, t)}


def _sampler(subject: Subject, part, dtype) -> dict[str, Tensor]:
    def denoise(x: Tensor, t: Tensor, branches) -> list[Tensor]:
        drift = (1 - t).view(-1, *[1] * (x.ndim - 1)) * torch.tanh(x)
        return [(drift + 0.1 * len(dropped)).to(dtype) for dropped in branches]

    return {"latents": part.sample(denoise, (2, 4, 1, 3, 3), generator(), conditions=("text",))}


def _task(subject: Subject, part, dtype) -> dict[str, Tensor]:
    from mgzoo.testing import models

    model = models.around(subject, part).to(dtype)
    example = part.prepare(model, models.clips())
    found = {"loss": part.loss(model, example, generator()).total}
    found.update({f"validation {name}": torch.tensor(float(value)) for name, value in part.validate(model, example, generator()).items()})
    for i, one in enumerate(models.answers(subject, model)):
        found.update({f"{name} of answer {i}": value for name, value in (("video", one.video), ("audio", one.audio)) if value is not None})
    return found


def _data(subject: Subject, part, dtype) -> dict[str, Tensor]:
    found = {}
    for i, batch in zip(range(2), part.batches(2)):
        for j, one in enumerate(batch):
            said = f"{one.key} {one.digest} {one.caption} {one.fps}"
            found.update({f"{name} of clip {j} of batch {i}": value for name, value in loaded(one).items()})
            found[f"what is said of clip {j} of batch {i}"] = torch.tensor(list(said.encode()))
    return found


def loaded(clip: Clip) -> dict[str, Tensor]:
    """What a clip decodes to: its picture, its sound, or both."""
    return {name: load() for name, load in (("picture", clip.load), ("sound", clip.sound)) if load}


def _scores(subject: Subject, part, dtype) -> dict[str, Tensor]:
    return {"scores": torch.tensor(list(part(scored(subject, 4))), dtype=torch.float64)}


def scored(subject: Subject, count: int) -> list[Clip] | list[Media]:
    """What a filter or a metric is given; every third is a picture."""
    clips = [clip(i, (1 if i % 3 == 2 else 8, 16, 16)) for i in range(count)]
    if subject.kind == "filter":
        return clips
    return [Media(video=one.load(), fps=None if one.frames == 1 else one.fps, audio=one.sound(), rate=one.rate, caption=one.caption) for one in clips]


USES = {
    "autoencoder": _autoencoder, "encoder": _encoder, "backbone": _backbone, "objective": _objective, "sampler": _sampler,
    "task": _task, "data": _data, "filter": _scores, "metric": _scores,
}  # fmt: skip
