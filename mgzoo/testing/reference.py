"""A part of each kind, as small as it can be: what the laws put around a part under test, and where their counter-examples start from.

No recipe can name them. Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.media import Media, float_to_uint8
from mgzoo.parts import Clip, Condition, Cut, Example, Loss
from mgzoo.spec import Component
from mgzoo.testing import inputs
from mgzoo.testing.reference_configs import (
    ReferenceAudioAutoencoderConfig,
    ReferenceBackboneConfig,
    ReferenceDataConfig,
    ReferenceFilterConfig,
    ReferenceImageEncoderConfig,
    ReferenceMetricConfig,
    ReferenceObjectiveConfig,
    ReferenceSamplerConfig,
    ReferenceTaskConfig,
    ReferenceTextEncoderConfig,
    ReferenceVideoAutoencoderConfig,
)


class ReferenceVideoAutoencoder(nn.Module):
    """A linear autoencoder of blocks of pixels, with what a task that trains one needs beside `encode` and `decode`."""

    def __init__(self, config: ReferenceVideoAutoencoderConfig):
        super().__init__()
        self.config, self.spec = config, config.latent_spec()
        size = 3 * math.prod(self.spec.stride)
        self.analysis = nn.Linear(size, self.spec.channels, bias=False)
        self.synthesis = nn.Linear(self.spec.channels, size, bias=False)

    def encode(self, media: Tensor) -> Tensor:
        return torch.cat([self.posterior(tile)[0] for tile in media.split(self.config.tile_frames, dim=2)], dim=2)

    def decode(self, latents: Tensor, like: Sequence[int]) -> Tensor:
        frames, height, width = like
        tiles = latents.split(self.config.tile_frames // self.spec.stride[0], dim=2)
        return torch.cat([self.pixels(tile) for tile in tiles], dim=2)[:, :, :frames, :height, :width]

    def posterior(self, media: Tensor) -> tuple[Tensor, Tensor]:
        t, y, x = self.spec.stride
        _, _, frames, height, width = media.shape
        media = F.pad(media, (0, -width % x, 0, -height % y, 0, -frames % t), mode="replicate")
        blocks = media.unflatten(4, (-1, x)).unflatten(3, (-1, y)).unflatten(2, (-1, t)).permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        mean = self.analysis(blocks.to(self.analysis.weight.dtype)).movedim(-1, 1).float()
        return mean, torch.full_like(mean, -6.0)

    def pixels(self, raw: Tensor, frames: int | None = None) -> Tensor:
        t, y, x = self.spec.stride
        blocks = self.synthesis(raw.to(self.synthesis.weight.dtype).movedim(1, -1)).float().unflatten(-1, (3, t, y, x))
        return blocks.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)[:, :, :frames]


class ReferenceAudioAutoencoder(nn.Module):
    """A linear autoencoder of stretches of sound."""

    def __init__(self, config: ReferenceAudioAutoencoderConfig):
        super().__init__()
        self.config, self.spec = config, config.latent_spec()
        self.analysis = nn.Linear(*self.spec.stride, self.spec.channels, bias=False)
        self.synthesis = nn.Linear(self.spec.channels, *self.spec.stride, bias=False)

    def encode(self, media: Tensor) -> Tensor:
        (stride,) = self.spec.stride
        stretches = F.pad(media, (0, -media.shape[-1] % stride))[:, 0].unflatten(1, (-1, stride))
        return self.analysis(stretches.to(self.analysis.weight.dtype)).mT.float()

    def decode(self, latents: Tensor, like: Sequence[int]) -> Tensor:
        return self.sound(latents)[..., : like[0]]

    def posterior(self, media: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the latents, as a task that trains an autoencoder of sound asks for them."""
        mean = self.encode(media)
        return mean, torch.full_like(mean, 0.01)

    def sound(self, raw: Tensor) -> Tensor:
        return self.synthesis(raw.to(self.synthesis.weight.dtype).mT).float().flatten(1)[:, None]


class ReferenceTextEncoder(nn.Module):
    """Texts -> one token per byte; an empty text is one token."""

    def __init__(self, config: ReferenceTextEncoderConfig, name: str = "text"):
        super().__init__()
        self.config, self.spec = config, config.condition_spec(name)
        self.table = nn.Embedding(257, config.width)
        self.positions = nn.Embedding(config.max_len, config.width)
        self.out = nn.Linear(config.width, config.width)

    def cut(self, texts: Sequence[str]) -> list[Cut | None]:
        most, found = self.config.max_len, [text.encode() for text in texts]
        return [Cut(read=most, whole=len(data), unit="bytes", rest=data[most:].decode(errors="ignore")) if len(data) > most else None for data in found]

    def forward(self, inputs: Sequence[str]) -> Condition:
        device = self.table.weight.device
        texts = [[1 + byte for byte in text.encode()[: self.config.max_len]] or [0] for text in inputs]
        longest = max(map(len, texts))
        ids_BL = torch.tensor([text + [0] * (longest - len(text)) for text in texts], device=device)
        mask_BL = torch.arange(longest, device=device) < torch.tensor([len(text) for text in texts], device=device)[:, None]
        x_BLD = self.table(ids_BL) + self.positions(torch.arange(longest, device=device))
        return Condition(name=self.spec.name, values=self.out(x_BLD), mask=mask_BL)


class ReferenceImageEncoder(nn.Module):
    """Pictures or clips -> a vector of their mean colour."""

    def __init__(self, config: ReferenceImageEncoderConfig, name: str = "image"):
        super().__init__()
        self.config, self.spec = config, config.condition_spec(name)
        self.out = nn.Linear(3, 8)

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Condition:
        inputs = torch.stack(list(inputs))
        values = self.out(inputs.to(self.out.weight).flatten(2).mean(2))
        return Condition(name=self.spec.name, values=values, mask=torch.ones(len(values), dtype=torch.bool, device=values.device))


class ConditionEmbedding(nn.Module):
    """One condition -> (B, D): the mean of what counts, or a learned null where it is dropped."""

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.project = nn.Linear(dim, width, bias=False)
        self.null = nn.Parameter(torch.zeros(width))

    def forward(self, condition: Condition | None, batch: int) -> Tensor:
        if condition is None:
            return self.null.expand(batch, -1)
        values, mask = condition.values.to(self.null), condition.mask
        if values.ndim == 3:
            counts = mask if mask.ndim == 2 else mask[:, None].expand(values.shape[:2])
            values, mask = torch.where(counts[..., None], values, 0).sum(1) / counts.sum(1, keepdim=True).clamp_min(1), counts.any(1)
        return torch.where(mask[:, None], self.project(torch.where(mask[:, None], values, 0)), self.null)


class ReferenceBackbone(nn.Module):
    """A backbone of any rank without attention."""

    def __init__(self, config: ReferenceBackboneConfig, *, latent, conditions=(), concat_channels: int = 0):
        super().__init__()
        self.config, d = config, config.width
        self.embed = nn.Linear(latent.channels + concat_channels, d)
        self.time = nn.Linear(d, d)
        self.told = nn.ModuleDict({c.name: ConditionEmbedding(c.dim, d) for c in conditions})
        self.up, self.down = nn.Linear(d, d), nn.Linear(2 * d, d, bias=False)
        self.out = nn.Linear(d, latent.channels)
        with torch.no_grad():
            self.embed.weight[:, latent.channels :].zero_()

    def forward(self, latents, t: Tensor, conditions: Mapping[str, Condition] | None = None):
        told_BD = self.time(self.features(t))
        for name, one in self.told.items():
            told_BD = told_BD + one((conditions or {}).get(name), len(told_BD))
        if isinstance(latents, list):
            return [self.tokens(x[None], told_BD[i : i + 1])[0] for i, x in enumerate(latents)]
        return self.tokens(latents, told_BD)

    def features(self, t: Tensor) -> Tensor:
        angles = t.float()[:, None] * torch.arange(1, self.config.width // 2 + 1, device=t.device)
        return torch.cat([angles.cos(), angles.sin()], 1).to(self.out.weight.dtype)

    def tokens(self, x: Tensor, told_BD: Tensor) -> Tensor:
        axes = x.shape[2:]
        x_BND = self.embed(x.to(self.out.weight.dtype).flatten(2).mT) + told_BD[:, None]
        x_BND = x_BND + self.down(torch.cat([F.silu(self.up(x_BND)), x_BND.mean(1, keepdim=True).expand_as(x_BND)], -1))
        return self.out(F.silu(x_BND)).mT.unflatten(2, axes)


class ReferenceObjective:
    """x_t = t x1 + (1 - t) x0, velocity x1 - x0."""

    def __init__(self, config: ReferenceObjectiveConfig):
        self.config = config

    def pair(self, latents, generator: torch.Generator, t: Tensor | None = None):
        t = torch.rand(len(latents), generator=generator) if t is None else t.float()
        clean = [x.float() for x in latents]
        noise = [torch.randn(x.shape, generator=generator) for x in clean]
        noisy = [time * x1 + (1 - time) * x0 for time, x1, x0 in zip(t, clean, noise)]
        velocity = [x1 - x0 for x1, x0 in zip(clean, noise)]
        return (noisy, t, velocity) if isinstance(latents, list) else (torch.stack(noisy), t, torch.stack(velocity))

    def loss(self, prediction, target, t: Tensor) -> Tensor:
        return torch.stack([(p.float() - x.float()).square().mean() for p, x in zip(prediction, target)]).mean()


class ReferenceSampler:
    """Euler with classifier-free guidance."""

    def __init__(self, config: ReferenceSamplerConfig):
        self.config = config

    @torch.no_grad()
    def sample(self, denoise, shape, generator: torch.Generator, *, conditions=(), noise: Tensor | None = None, on_step=None) -> Tensor:
        x, steps = torch.randn(tuple(shape), generator=generator) if noise is None else noise.float(), self.config.steps
        for i in range(steps):
            x = x + self.velocity(denoise, x, i / steps, conditions) / steps
            if on_step is not None:
                on_step(i + 1, steps)
        return x

    def velocity(self, denoise, x: Tensor, t: float, conditions: Sequence[str]) -> Tensor:
        times = torch.full((len(x),), t)
        if not conditions:
            return denoise(x, times, [frozenset()])[0].float()
        given, dropped = (v.float() for v in denoise(x, times, [frozenset(), frozenset(conditions)]))
        return dropped + self.config.guidance * (given - dropped)


class ReferenceTask:
    """Text to video."""

    def __init__(self, config: ReferenceTaskConfig):
        self.config = config

    def trained(self, model) -> list[str]:
        return ["backbone", *(f"encoders.{name}" for name in model.encoders)]

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        captions = [clip.caption for clip in clips]
        return Example(latents=torch.stack(model.encode_clips(clips)), inputs={name: captions for name in model.encoders})

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        conditions = {**model.encode_conditions(example.inputs), **example.conditions}
        noisy, t, target = model.objective.pair(example.latents, generator)
        total = model.objective.loss(model.backbone(noisy, t, conditions), target, t)
        return Loss(total=total, terms={"loss": total.detach()})

    @torch.no_grad()
    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        return {"loss": self.loss(model, example, generator).total.item()}

    def generate(self, model, *, prompt: str, seed: int = 0, on_step=None) -> Media:
        latent, size = model.autoencoder.spec, self.config.sizes()[0]
        conditions = model.encode_conditions({name: [prompt] for name in model.encoders})
        shape, generator = (1, latent.channels, *latent.axes(*size)), torch.Generator().manual_seed(seed)
        latents = model.sampler.sample(model.denoiser(conditions), shape, generator, conditions=tuple(conditions), on_step=on_step)
        return Media(video=float_to_uint8(model.autoencoder.decode(latents, size)[0]), fps=8.0, caption=prompt)


class ReferenceData:
    """Clip n of the run is the same whoever reads it."""

    def __init__(self, config: ReferenceDataConfig, seed: int = 0, rank: int = 0, world: int = 1):
        self.config, self.seed, self.rank, self.world, self.taken = config, seed, rank, world, 0
        self.training = [i for i in range(config.clips) if i % 4]

    def batches(self, size: int) -> Iterator[list[Clip]]:
        while True:
            first = (self.taken + self.rank) * size
            self.taken += self.world
            yield [self.drawn(n) for n in range(first, first + size)]

    def drawn(self, n: int) -> Clip:
        """The clip that is sample n of the run."""
        epoch, place = divmod(n, len(self.training))
        order = torch.randperm(len(self.training), generator=torch.Generator().manual_seed(1000 * self.seed + epoch))
        return self.clip(self.training[int(order[place])])

    def clip(self, i: int) -> Clip:
        return inputs.clip(i)

    def held_out(self) -> list[Clip]:
        return [self.clip(i) for i in range(0, self.config.clips, 4)]

    def state_dict(self) -> dict:
        return {"taken": self.taken}

    def load_state_dict(self, state: dict) -> None:
        self.taken = state["taken"]


class ReferenceFilter:
    """Mean absolute difference of neighbouring frames, in grey levels; 0 for a picture."""

    def __init__(self, config: ReferenceFilterConfig):
        self.config = config

    def __call__(self, clips: Sequence[Clip]) -> list[float]:
        return [self.score(clip.load()) for clip in clips]

    def score(self, video: Tensor) -> float:
        return video.float().diff(dim=0).abs().mean().item() if len(video) > 1 else 0.0


class ReferenceMetric:
    """Standard deviation of all pixels, in grey levels."""

    def __init__(self, config: ReferenceMetricConfig):
        self.config = config

    def __call__(self, media: Sequence[Media]) -> list[float]:
        return [one.video.float().std().item() for one in media]


def _component(kind: str, config: type, target: type) -> Component:
    place = {"config": f"{config.__module__}:{config.__name__}", "target": f"{target.__module__}:{target.__name__}"}
    return Component(id=f"reference.{kind}.v1", kind=kind, summary=f"the kit's own {kind}", **place)


COMPONENTS = {
    "autoencoder": _component("autoencoder", ReferenceVideoAutoencoderConfig, ReferenceVideoAutoencoder),
    "encoder": _component("encoder", ReferenceTextEncoderConfig, ReferenceTextEncoder),
    "backbone": _component("backbone", ReferenceBackboneConfig, ReferenceBackbone),
    "objective": _component("objective", ReferenceObjectiveConfig, ReferenceObjective),
    "sampler": _component("sampler", ReferenceSamplerConfig, ReferenceSampler),
    "task": _component("task", ReferenceTaskConfig, ReferenceTask),
    "data": _component("data", ReferenceDataConfig, ReferenceData),
    "filter": _component("filter", ReferenceFilterConfig, ReferenceFilter),
    "metric": _component("metric", ReferenceMetricConfig, ReferenceMetric),
}
"""The kit's own parts by kind."""

AUDIO_AUTOENCODER = _component("autoencoder", ReferenceAudioAutoencoderConfig, ReferenceAudioAutoencoder)
"""The autoencoder of a task whose layout is sound."""
