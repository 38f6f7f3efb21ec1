"""Text to video: the task head of Movie Gen Video (section 3), an image being a one-frame video.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch

from mgzoo import tasks
from mgzoo.media import Media
from mgzoo.parts import Clip, Example, Loss
from mgzoo.spec import as_seed
from mgzoo_video.configs import TextToVideoConfig


class TextToVideo:
    """Flow matching (or whatever the objective is) on latents of captioned clips; generation from a prompt."""

    def __init__(self, config: TextToVideoConfig):
        self.config = config

    def trained(self, model) -> list[str]:
        """The backbone and every encoder; a recipe freezes those it takes ready-made."""
        return ["backbone", *(f"encoders.{key}" for key in model.encoders)]

    def text(self, prompt: str, fps: float) -> str:
        """The words that the encoders see for a prompt at a frame rate."""
        return tasks.prompt_with_fps(prompt, fps) if self.config.fps_token else prompt

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Latents from the frozen autoencoder and conditions from frozen encoders, through the cache; the other encoders' inputs."""
        texts = [self.text(clip.caption, clip.fps) for clip in clips]
        return tasks.prepare_example(model, clips, {key: texts for key in model.encoders})

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        """The objective's loss with the conditions of a random share of samples dropped for guidance."""
        conditions = tasks.drop_conditions(tasks.encode_example(model, example), model.recipe.train.condition_dropout, generator)
        return tasks.training_loss(model, example.latents, lambda noisy, t: model.backbone(noisy, t, conditions), generator)

    @torch.no_grad()
    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Mean loss over ten equally spaced times with the generator's noise (section 4: it falls in step with ratings)."""
        conditions = tasks.encode_example(model, example)
        return {"loss": tasks.validation_loss(model, example.latents, lambda noisy, t: model.backbone(noisy, t, conditions), generator)}

    def generate(
        self,
        model,
        *,
        prompt: str | Sequence[str],
        seed: int = 0,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Media | list[Media]:
        """A clip for a prompt, or a list of clips for a list of prompts.

        seed: of the noise; clip i of a list starts from the noise that prompt i alone would get with seed + i.
        frames, height, width: of the media, default those the model was trained on; height and width must divide by the
        autoencoder's stride times the backbone's patch. frames = 1 makes an image. fps: told to the model and written to
        the file. steps, guidance: override the recipe's sampler.
        """
        prompts = tasks.as_prompts(prompt)
        size, fps = tasks.resolve_size(model, self.config.sizes()[0], frames, height, width), fps or self.config.fps
        noise = tasks.initial_noise(model, tasks.latent_axes(model, size), range(seed, seed + len(prompts)))
        texts = [self.text(p, fps) for p in prompts]
        conditions = model.encode_conditions({key: texts for key in model.encoders})
        sampler = tasks.override_sampler(model.sampler, steps=steps, guidance=guidance)
        latents = tasks.sample_latents(model, sampler, model.denoiser(conditions), noise, conditions=tuple(conditions), seed=seed, on_step=on_step)
        request = {"seed": seed, "frames": size[0], "height": size[1], "width": size[2], "fps": fps, "sampler": dataclasses.asdict(sampler.config)}
        media = [
            Media(video=tasks.decode_frames(model, latent, size), fps=fps, caption=p, meta={"prompt": p, **request, "seed": as_seed(seed + i)})
            for i, (latent, p) in enumerate(zip(latents, prompts, strict=True))
        ]
        return media[0] if isinstance(prompt, str) else media
