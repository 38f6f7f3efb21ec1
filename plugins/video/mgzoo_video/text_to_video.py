"""Text to video: the task head of Movie Gen Video (section 3), an image being a one-frame video.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mgzoo.media import Media
from mgzoo.model import to_frames
from mgzoo.parts import Clip, Condition, Example, Latents, Loss
from mgzoo.spec import MgzooError
from mgzoo_video.configs import TextToVideoConfig

VALIDATION_TIMES = tuple((i + 0.5) / 10 for i in range(10))


def prompt_with_fps(prompt: str, fps: float) -> str:
    """``FPS-16 a rabbit hopping``: the frame rate goes before the prompt (Movie Gen, section 3), rounded to whole frames."""
    return f"FPS-{round(fps)} {prompt}"


class TextToVideo:
    """Flow matching (or whatever the objective is) on latents of captioned clips; generation from a prompt."""

    def __init__(self, config: TextToVideoConfig):
        self.config = config

    def trained(self, model) -> list[str]:
        """The backbone and every encoder; a recipe freezes those it takes ready-made."""
        return ["backbone", *(f"encoders.{key}" for key in model.encoders)]

    def text(self, prompt: str, fps: float) -> str:
        """The words that the encoders see for a prompt at a frame rate."""
        return prompt_with_fps(prompt, fps) if self.config.fps_token else prompt

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Latents from the frozen autoencoder and conditions from frozen encoders, through the cache; the other encoders' inputs."""
        latents = model.encode_clips(clips)
        if len({latent.shape for latent in latents}) == 1:
            latents = torch.stack(latents)
        words = [self.text(clip.caption, clip.fps) for clip in clips]
        frozen = [key for key in model.encoders if model.recipe.parts[f"encoders.{key}"].frozen]
        conditions = [model.encode_texts(key, words) for key in frozen]
        return Example(
            latents=latents,
            inputs={key: words for key in model.encoders if key not in frozen},
            conditions={condition.name: condition for condition in conditions},
        )

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        """The objective's loss with the conditions of a random share of samples dropped for guidance."""
        conditions = self._drop(self._conditions(model, example), model.recipe.train.condition_dropout, generator)
        noisy, t, target = model.objective.pair(example.latents, generator)
        prediction = model.backbone(noisy, t.to(model.device), conditions)
        total = model.objective.loss(prediction, target, t)
        return Loss(total=total, terms={"loss": total.detach()})

    @torch.no_grad()
    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Mean loss over ten equally spaced times with the generator's noise (section 4: it falls in step with ratings)."""
        conditions, losses = self._conditions(model, example), []
        for time in VALIDATION_TIMES:
            t = torch.full((len(example.latents),), time)
            noisy, t, target = model.objective.pair(example.latents, generator, t=t)
            losses.append(model.objective.loss(model.backbone(noisy, t.to(model.device), conditions), target, t).item())
        return {"loss": sum(losses) / len(losses)}

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
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
            raise MgzooError("the prompt is empty", remedy="say what to generate, e.g. mgzoo generate MODEL \"a rabbit hopping\"")
        size, fps = self._size(model, frames, height, width), fps or self.config.fps
        shape = (model.recipe.parts["autoencoder"].config.latent().channels, *self._latent_axes(model, size))
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))])
        words = [self.text(p, fps) for p in prompts]
        conditions = model.encode_conditions({key: words for key in model.encoders})
        sampler = _with(model.sampler, steps=steps, guidance=guidance)
        latents = sampler.sample(
            model.denoiser(conditions),
            noise.shape,
            torch.Generator().manual_seed(seed),
            conditions=tuple(conditions),
            noise=noise.to(model.device),
            on_step=on_step,
        )
        request = {"seed": seed, "frames": size[0], "height": size[1], "width": size[2], "fps": fps, "sampler": _fields(sampler.config)}
        media = [
            Media(video=_decode(model, latent[None], size), fps=fps, caption=p, meta={"prompt": p, **request, "seed": seed + i})
            for i, (latent, p) in enumerate(zip(latents, prompts, strict=True))
        ]
        return media[0] if isinstance(prompt, str) else media

    def _conditions(self, model, example: Example) -> dict[str, Condition]:
        return {**model.encode_conditions(example.inputs), **example.conditions}

    def _drop(self, conditions: dict[str, Condition], share: float, generator: torch.Generator) -> dict[str, Condition]:
        if not conditions or not share:
            return conditions
        batch = len(next(iter(conditions.values())).values)
        rows = torch.rand(batch, generator=generator) < share
        return {name: condition.dropped(rows) for name, condition in conditions.items()}

    def _size(self, model, frames: int | None, height: int | None, width: int | None) -> tuple[int, int, int]:
        trained = (self.config.frames, self.config.height, self.config.width)
        size = tuple(given if given is not None else default for given, default in zip((frames, height, width), trained))
        if min(size) < 1:
            raise MgzooError(f"cannot generate {size[0]} frames of {size[2]}x{size[1]}", remedy="ask for at least one frame and one pixel")
        problems = []
        latent = model.recipe.parts["autoencoder"].config.latent()
        for axis, pixels, stride in zip(("height", "width"), size[1:], latent.stride[1:]):
            if pixels % stride:
                problems.append(f"{axis} {pixels} does not divide by the autoencoder's stride {stride}")
        problems += model.recipe.parts["backbone"].config.check(latent, (), latent.axes(*size))
        if problems:
            raise MgzooError(
                f"cannot generate {size[0]} frames of {size[2]}x{size[1]}: " + "; ".join(problems),
                remedy=f"ask for a size that divides; this model was trained on {trained[0]} frames of {trained[2]}x{trained[1]}",
            )
        return size

    def _latent_axes(self, model, size: tuple[int, int, int]) -> tuple[int, ...]:
        return model.recipe.parts["autoencoder"].config.latent().axes(*size)


def _with(sampler, **overrides: Any):
    given = {key: value for key, value in overrides.items() if value is not None}
    return type(sampler)(dataclasses.replace(sampler.config, **given)) if given else sampler


def _fields(config) -> dict:
    return dataclasses.asdict(config)


def _decode(model, latents: Latents, size: tuple[int, int, int]) -> Tensor:
    dtype = next(model.autoencoder.parameters()).dtype
    return to_frames(model.autoencoder.decode(latents.to(dtype), size)[0])
