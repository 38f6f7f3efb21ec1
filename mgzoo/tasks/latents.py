"""Latents of a task head: sizes, initial noise, training and validation loss, sampling, decoding.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mgzoo.media import float_to_uint8
from mgzoo.parts import Denoise, Latents, Loss, Sampler
from mgzoo.spec import MgzooError, as_seed, spread

VALIDATION_TIMES = tuple((i + 0.5) / 10 for i in range(10))
Size = tuple[int, int, int]
"""Frames, height and width of media, in frames and pixels."""
Predict = Callable[[Latents, Tensor], Latents]
"""(noisy latents, t (B,) on the model's device) -> the backbone's prediction under the conditions of the batch."""


# ---------------------------------------------------------------------------------------------------------------- sizes


def resolve_size(model, trained: Size, frames: int | None = None, height: int | None = None, width: int | None = None) -> Size:
    """The requested size, by default that of training. Raises MgzooError if stride, patch or position table do not allow it."""
    size = tuple(given if given is not None else default for given, default in zip((frames, height, width), trained))
    if min(size) < 1:
        raise MgzooError(f"cannot generate {size[0]} frames of {size[2]}x{size[1]}", remedy="use at least one frame and one pixel")
    problems = []
    latent = model.recipe.parts["autoencoder"].config.latent_spec()
    for axis, pixels, stride in zip(("height", "width"), size[1:], latent.stride[1:]):
        if pixels % stride:
            problems.append(f"{axis} {pixels} is not a multiple of the autoencoder's stride {stride}")
    problems += model.recipe.parts["backbone"].config.validate_shapes(latent, (), latent.axes(*size))
    if problems:
        raise MgzooError(
            f"cannot generate {size[0]} frames of {size[2]}x{size[1]}: " + "; ".join(problems),
            remedy=f"use a multiple; this model was trained on {trained[0]} frames of {trained[2]}x{trained[1]}",
        )
    return size


def latent_axes(model, size: Sequence[int]) -> tuple[int, ...]:
    """Latent sizes of media of this size, e.g. (T, H, W)."""
    return model.recipe.parts["autoencoder"].config.latent_spec().axes(*size)


def stack_latents(latents: Sequence[Tensor]) -> Latents:
    """(C, *axes) each -> one tensor (B, C, *axes) if all sizes are equal, else the list."""
    return torch.stack(list(latents)) if len({latent.shape for latent in latents}) == 1 else list(latents)


# --------------------------------------------------------------------------------------------------------------- losses


def training_loss(model, latents: Latents, predict: Predict, generator: torch.Generator) -> Loss:
    """The objective's loss on clean latents, with times and noise from the generator."""
    noisy, t, target = model.objective.pair(latents, generator)
    total = model.objective.loss(predict(noisy, t.to(model.device)), target, t)
    return Loss(total=total, terms={"loss": total.detach()})


def validation_loss(model, latents: Latents, predict: Predict, generator: torch.Generator) -> float:
    """Mean loss over ten equally spaced times with the generator's noise (Movie Gen, section 4: it correlates with ratings)."""
    losses = []
    for time in VALIDATION_TIMES:
        t = torch.full((len(latents),), time)
        noisy, t, target = model.objective.pair(latents, generator, t=t)
        losses.append(model.objective.loss(predict(noisy, t.to(model.device)), target, t).item())
    return sum(losses) / len(losses)


# ----------------------------------------------------------------------------------------------------------- generation


def initial_noise(model, axes: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Noise (B, C, *axes) float32 on the CPU, one sample per seed, independent of the batch.

    axes: latent sizes, as `latent_axes` gives them. seeds: integers, e.g. seed + i.
    """
    shape = (model.recipe.parts["autoencoder"].config.latent_spec().channels, *axes)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(spread(as_seed(seed)))) for seed in seeds])


def override_sampler(sampler: Sampler, **overrides: Any) -> Sampler:
    """A sampler with changed config fields; None: unchanged."""
    given = {key: value for key, value in overrides.items() if value is not None}
    return type(sampler)(dataclasses.replace(sampler.config, **given)) if given else sampler


def sample_latents(
    model, sampler: Sampler, denoise: Denoise, noise: Tensor, *, conditions: Sequence[str], seed: int, on_step: Callable[[int, int], None] | None = None
) -> Tensor:
    """Noise (B, C, *axes) -> clean latents of the same shape, on the model's device.

    denoise: `model.denoiser(...)`, or `mgzoo.tasks.windowed_denoiser(...)`. conditions: names of the conditions for guidance. seed: for
    stochastic samplers.
    """
    generator = torch.Generator().manual_seed(spread(seed))
    return sampler.sample(denoise, noise.shape, generator, conditions=tuple(conditions), noise=noise.to(model.device), on_step=on_step)


def decode_frames(model, latents: Tensor, size: Sequence[int]) -> Tensor:
    """Latents (C, *axes) -> uint8 (F, Y, X, 3) of this size."""
    dtype = next(model.autoencoder.parameters()).dtype
    return float_to_uint8(model.autoencoder.decode(latents[None].to(dtype), tuple(size))[0])
