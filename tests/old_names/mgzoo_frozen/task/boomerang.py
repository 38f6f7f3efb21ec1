"""Text to boomerang: trained as text to video is, and answered with a clip that comes back to where it began."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mgzoo.media import Media
from mgzoo.model import to_frames
from mgzoo.parts import Clip, Condition, Example, Loss
from mgzoo.spec import MgzooError, spread
from mgzoo_frozen.task.configs import BoomerangConfig

TIMES = tuple((i + 0.5) / 5 for i in range(5))


class Boomerang:
    """What a user asks a model to do, and how a model is trained to do it."""

    def __init__(self, config: BoomerangConfig):
        self.config = config

    def trained(self, model) -> list[str]:
        """The backbone and every encoder; a recipe freezes those that it takes ready-made."""
        return ["backbone", *(f"encoders.{name}" for name in model.encoders)]

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Latents and conditions of frozen parts, through the model's cache; the raw inputs of those that train."""
        latents = model.encode_clips(clips)
        if len({latent.shape for latent in latents}) == 1:
            latents = torch.stack(latents)
        captions = [clip.caption for clip in clips]
        frozen = [name for name in model.encoders if model.recipe.parts[f"encoders.{name}"].frozen]
        conditions = [model.encode_texts(name, captions) for name in frozen]
        return Example(
            latents=latents,
            inputs={name: captions for name in model.encoders if name not in frozen},
            conditions={condition.name: condition for condition in conditions},
        )

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        """The objective's loss; a random share of samples goes without conditions, so that guidance has something to compare with."""
        conditions, share = self._conditions(model, example), model.recipe.train.condition_dropout
        rows = torch.rand(len(example.latents), generator=generator) < share
        noisy, t, target = model.objective.pair(example.latents, generator)
        prediction = model.backbone(noisy, t.to(model.device), {name: one.dropped(rows) for name, one in conditions.items()})
        total = model.objective.loss(prediction, target, t)
        return Loss(total=total, terms={"loss": total.detach()})

    @torch.no_grad()
    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Mean loss over five fixed times, with the generator's noise."""
        conditions, losses = self._conditions(model, example), []
        for time in TIMES:
            t = torch.full((len(example.latents),), time)
            noisy, t, target = model.objective.pair(example.latents, generator, t=t)
            losses.append(model.objective.loss(model.backbone(noisy, t.to(model.device), conditions), target, t).item())
        return {"loss": sum(losses) / len(losses)}

    def generate(
        self,
        model,
        *,
        prompt: str,
        seed: int = 0,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Media:
        """A clip of 2 F - 2 frames (one, where F is 1): F generated ones, then those between the ends backwards.

        frames, height, width: F and the size in pixels, default the config's. steps, guidance: override the recipe's sampler.
        """
        c = self.config
        size, fps = (frames or c.frames, height or c.height, width or c.width), fps or c.fps
        latent = model.recipe.parts["autoencoder"].config.latent()
        if any(n % s for n, s in zip(size[1:], latent.stride[1:])):
            raise MgzooError(f"{size[2]}x{size[1]} does not divide by the autoencoder's stride {latent.stride[1:]}", remedy="ask for another size")
        shape = (1, latent.channels, *latent.axes(*size))
        conditions = model.encode_conditions({name: [prompt] for name in model.encoders})
        told = {name: value for name, value in (("steps", steps), ("guidance", guidance)) if value is not None}
        sampler = type(model.sampler)(dataclasses.replace(model.sampler.config, **told))
        generator = torch.Generator().manual_seed(spread(seed))
        noise = torch.randn(shape, generator=generator).to(model.device)
        latents = sampler.sample(model.denoiser(conditions), shape, generator, conditions=tuple(conditions), noise=noise, on_step=on_step)
        dtype = next(model.autoencoder.parameters()).dtype
        video = there_and_back(to_frames(model.autoencoder.decode(latents.to(dtype), size)[0]))
        request = {"prompt": prompt, "seed": seed, "frames": size[0], "height": size[1], "width": size[2], "fps": fps}
        return Media(video=video, fps=fps, caption=prompt, meta={**request, "sampler": dataclasses.asdict(sampler.config)})

    def _conditions(self, model, example: Example) -> dict[str, Condition]:
        return {**model.encode_conditions(example.inputs), **example.conditions}


def there_and_back(video: Tensor) -> Tensor:
    """(F, Y, X, 3) -> (2 F - 2, Y, X, 3): neither end is shown twice when it loops."""
    return torch.cat([video, video[1:-1].flip(0)])
