"""All outputs of a part of each kind for the fixed inputs of `mgzoo.testing.inputs`, and how far two outputs are apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mgzoo.parts import Clip
from mgzoo.testing import inputs, models
from mgzoo.testing.component_under_test import Subject


def relative_distance(found: Tensor, expected: Tensor) -> float:
    """Relative L2 distance."""
    found, expected = found.detach().double(), expected.detach().double()
    return ((found - expected).norm() / expected.norm().clamp_min(1e-12)).item()


def decoded_clip(clip: Clip) -> dict[str, Tensor]:
    """What a clip decodes to: its picture, its sound, or both."""
    return {name: load() for name, load in (("picture", clip.load), ("sound", clip.sound)) if load}


@torch.no_grad()
def all_outputs(subject: Subject, part: Any, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """All that a part answers to fixed inputs, by name, moved to `dtype` first where it is a module."""
    if isinstance(part, nn.Module):
        part.to(dtype)
    return OUTPUTS[subject.kind](subject, part, dtype)


def _autoencoder(subject: Subject, part, dtype) -> dict[str, Tensor]:
    found = {}
    for size in inputs.media_sizes(subject.latent):
        given = inputs.media(size).to(dtype)
        found[f"latents of {size}"] = codes = part.encode(given)
        found[f"media of {size}"] = part.decode(codes.to(dtype), size)
    return found


def _encoder(subject: Subject, part, dtype) -> dict[str, Tensor]:
    given = inputs.encoder_inputs(subject.config.input_modality())
    condition = part(given.to(dtype) if isinstance(given, Tensor) else given)
    return {"values": condition.values, "mask": condition.mask}


def _backbone(subject: Subject, part, dtype) -> dict[str, Tensor]:
    found, sizes = {}, subject.sizes()
    for size in sizes:
        told = {name: one.to(dtype) for name, one in inputs.conditions(3, size[0]).items()}
        found[f"prediction of {size}"] = part(inputs.latents(subject, size).to(dtype), torch.tensor([0.1, 0.5, 0.9]), told)
    return found


def _objective(subject: Subject, part, dtype) -> dict[str, Tensor]:
    noisy, t, target = part.pair(torch.randn(4, 4, 2, 3, 3, generator=inputs.generator()).to(dtype), inputs.generator(1))
    return {"noisy": noisy, "t": t, "target": target, "loss": part.loss(torch.zeros_like(target).to(dtype), target, t)}


def _sampler(subject: Subject, part, dtype) -> dict[str, Tensor]:
    def denoise(x: Tensor, t: Tensor, branches) -> list[Tensor]:
        drift = (1 - t).view(-1, *[1] * (x.ndim - 1)) * torch.tanh(x)
        return [(drift + 0.1 * len(dropped)).to(dtype) for dropped in branches]

    return {"latents": part.sample(denoise, (2, 4, 1, 3, 3), inputs.generator(), conditions=("text",))}


def _task(subject: Subject, part, dtype) -> dict[str, Tensor]:
    model = models.model_around(subject, part).to(dtype)
    example = part.prepare(model, models.example_clips())
    found = {"loss": part.loss(model, example, inputs.generator()).total}
    found.update({f"validation {name}": torch.tensor(float(value)) for name, value in part.validate(model, example, inputs.generator()).items()})
    for i, one in enumerate(models.generated_media(subject, model)):
        found.update({f"{name} of answer {i}": value for name, value in (("video", one.video), ("audio", one.audio)) if value is not None})
    return found


def _data(subject: Subject, part, dtype) -> dict[str, Tensor]:
    found = {}
    for i, batch in zip(range(2), part.batches(2)):
        for j, one in enumerate(batch):
            said = f"{one.key} {one.digest} {one.caption} {one.fps}"
            found.update({f"{name} of clip {j} of batch {i}": value for name, value in decoded_clip(one).items()})
            found[f"what is said of clip {j} of batch {i}"] = torch.tensor(list(said.encode()))
    return found


def _scores(subject: Subject, part, dtype) -> dict[str, Tensor]:
    return {"scores": torch.tensor(list(part(inputs.media_to_score(subject, 4))), dtype=torch.float64)}


OUTPUTS = {
    "autoencoder": _autoencoder, "encoder": _encoder, "backbone": _backbone, "objective": _objective, "sampler": _sampler,
    "task": _task, "data": _data, "filter": _scores, "metric": _scores,
}  # fmt: skip
