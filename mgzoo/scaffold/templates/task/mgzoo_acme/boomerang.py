"""Text to boomerang: trained as text to video is, and answered with a clip that comes back to where it began."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from mgzoo_acme.configs import BoomerangConfig
from torch import Tensor

from mgzoo import tasks
from mgzoo.media import Media
from mgzoo.parts import Clip, Example, Loss
from mgzoo.spec import MgzooError


class Boomerang:
    """What a user asks a model to do, and how a model is trained to do it."""

    def __init__(self, config: BoomerangConfig):
        self.config = config

    def trained(self, model) -> list[str]:
        """The backbone and every encoder; a recipe freezes those that it takes ready-made."""
        return ["backbone", *(f"encoders.{name}" for name in model.encoders)]

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Latents and conditions of frozen parts, through the model's cache; the raw inputs of those that train."""
        captions = [clip.caption for clip in clips]
        return tasks.prepare_example(model, clips, {name: captions for name in model.encoders})

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        """The objective's loss; a random share of samples goes without conditions, so that guidance has something to compare with."""
        conditions = tasks.drop_conditions(tasks.encode_example(model, example), model.recipe.train.condition_dropout, generator)
        return tasks.training_loss(model, example.latents, lambda noisy, t: model.backbone(noisy, t, conditions), generator)

    @torch.no_grad()
    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Mean loss over ten fixed times, with the generator's noise."""
        conditions = tasks.encode_example(model, example)
        return {"loss": tasks.validation_loss(model, example.latents, lambda noisy, t: model.backbone(noisy, t, conditions), generator)}

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
        back: bool = True,
        pause: int = 0,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Media:
        """A clip of 2 F - 2 frames (one, where F is 1): F generated ones, then those between the ends backwards.

        frames, height, width: F and the size in pixels, default the config's. steps, guidance: override the recipe's sampler. back, pause: the
        config's request options.
        """
        if pause < 0:
            raise MgzooError(f"--pause is {pause} frames", remedy="ask for 0 or more")
        size, fps = tasks.resolve_size(model, self.config.sizes()[0], frames, height, width), fps or self.config.fps
        conditions = model.encode_conditions({name: [prompt] for name in model.encoders})
        sampler = tasks.override_sampler(model.sampler, steps=steps, guidance=guidance)
        noise = tasks.initial_noise(model, tasks.latent_axes(model, size), [seed])
        latents = tasks.sample_latents(model, sampler, model.denoiser(conditions), noise, conditions=tuple(conditions), seed=seed, on_step=on_step)
        video = there_and_back(tasks.decode_frames(model, latents[0], size), back, pause)
        request = {"prompt": prompt, "seed": seed, "frames": size[0], "height": size[1], "width": size[2], "fps": fps, "back": back, "pause": pause}
        return Media(video=video, fps=fps, caption=prompt, meta={**request, "sampler": dataclasses.asdict(sampler.config)})


def there_and_back(video: Tensor, back: bool, pause: int) -> Tensor:
    """(F, Y, X, 3) -> (2 F - 2 + pause, Y, X, 3): neither end is shown twice when it loops. back=False: forwards only."""
    return torch.cat([video, video[-1:].expand(pause, -1, -1, -1), video[1:-1].flip(0)[: None if back else 0]])
