"""What task heads on an autoencoder's latents have in common: prompt, size, noise, dropped conditions, validation, decoding.

Plain functions, so that a head of any plugin (text to video, a reference image, an edited clip) is the sum of those it needs and its own
few lines; no head imports another's plugin. Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mgzoo.media.frames import float_to_uint8
from mgzoo.parts import Condition, Conditions, Example, Latents, Sampler
from mgzoo.spec import MgzooError, as_seed, spread

VALIDATION_TIMES = tuple((i + 0.5) / 10 for i in range(10))
Size = tuple[int, int, int]
"""Frames, height and width of media, in frames and pixels."""


# ------------------------------------------------------------------------------------------------- words and conditions


def prompt_with_fps(prompt: str, fps: float) -> str:
    """``FPS-16 a rabbit hopping``: the frame rate goes before the prompt (Movie Gen, section 3), rounded to whole frames."""
    return f"FPS-{round(fps)} {prompt}"


def prompts_of(prompt: str | Sequence[str], example: str = 'mgzoo generate MODEL "a rabbit hopping"') -> list[str]:
    """One prompt or several as a list; raises MgzooError where there is none or one is blank. example: a request that would do."""
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise MgzooError("the prompt is empty", remedy=f"say what to generate, e.g. {example}")
    return prompts


def frozen_encoders(model) -> list[str]:
    """Keys of the encoders that rest, whose conditions are computed ahead and cached."""
    return [key for key in model.encoders if model.recipe.parts[f"encoders.{key}"].frozen]


def conditions_of(model, example: Example) -> dict[str, Condition]:
    """Conditions by name: those that came with the example, and those of the encoders that train."""
    return {**model.encode_conditions(example.inputs), **example.conditions}


def drop_conditions(conditions: Conditions, share: float, generator: torch.Generator, apart: Sequence[str] = ()) -> dict[str, Condition]:
    """The conditions with all of them dropped in a random share of the samples, for guidance.

    apart: names of which each is dropped alone in a further share of the samples, for guidance by each by itself.
    """
    if not conditions or not share:
        return dict(conditions)
    batch = len(next(iter(conditions.values())).values)
    rows = torch.rand(batch, generator=generator) < share
    alone = {name: torch.rand(batch, generator=generator) < share for name in apart}
    return {name: condition.dropped(rows | alone[name] if name in alone else rows) for name, condition in conditions.items()}


# ---------------------------------------------------------------------------------------------------------------- sizes


def size_of(model, trained: Size, frames: int | None = None, height: int | None = None, width: int | None = None) -> Size:
    """The size asked for, that of training where nothing is; raises MgzooError where stride, patch or position table do not allow it."""
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


def latent_axes(model, size: Sequence[int]) -> tuple[int, ...]:
    """Latent sizes of media of this size, e.g. (T, H, W)."""
    return model.recipe.parts["autoencoder"].config.latent().axes(*size)


def noise_of(model, size: Sequence[int], seed: int, count: int = 1) -> Tensor:
    """Noise (B, C, *axes) float32 for media of this size; sample i is what seed + i alone would get, in any batch."""
    shape = (model.recipe.parts["autoencoder"].config.latent().channels, *latent_axes(model, size))
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(spread(as_seed(seed + i)))) for i in range(count)])


# ---------------------------------------------------------------------------------------------- training and generation


def validation_loss(model, latents: Latents, predict: Callable[[Latents, Tensor], Latents], generator: torch.Generator) -> float:
    """Mean loss over ten equally spaced times with the generator's noise (Movie Gen, section 4: it falls in step with ratings).

    predict: (noisy latents, t (B,)) -> the backbone's prediction under the batch's conditions.
    """
    losses = []
    for time in VALIDATION_TIMES:
        t = torch.full((len(latents),), time)
        noisy, t, target = model.objective.pair(latents, generator, t=t)
        losses.append(model.objective.loss(predict(noisy, t.to(model.device)), target, t).item())
    return sum(losses) / len(losses)


def sampler_with(sampler: Sampler, **overrides: Any) -> Sampler:
    """The sampler with these fields of its config changed; None leaves a field as it is."""
    given = {key: value for key, value in overrides.items() if value is not None}
    return type(sampler)(dataclasses.replace(sampler.config, **given)) if given else sampler


def fields(config) -> Mapping[str, Any]:
    """A config as plain data, for what a file says of its making."""
    return dataclasses.asdict(config)


def decode_frames(model, latents: Latents, size: Sequence[int]) -> Tensor:
    """Latents (C, *axes) -> uint8 (F, Y, X, 3) of this size."""
    dtype = next(model.autoencoder.parameters()).dtype
    return float_to_uint8(model.autoencoder.decode(latents[None].to(dtype), tuple(size))[0])
