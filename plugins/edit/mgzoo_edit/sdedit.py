"""SDEdit (Meng et al. 2022): a text-to-video model edits by going part of the way to noise and back. The baseline of instruction editing.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mgzoo import tasks
from mgzoo.contracts import contract_of
from mgzoo.media import Media
from mgzoo.parts import Clip, Conditions, Example, Loss
from mgzoo.spec import MgzooError, as_seed, spread
from mgzoo_edit import heads
from mgzoo_edit.configs import SdeditConfig


def edit_from_noised_source(
    model, source: Tensor, conditions: Conditions, strength: float, *, seed: int = 0, window: int | None = None, overlap: int = 0,
    on_step: Callable[[int, int], None] | None = None, steps: int | None = None, guidance: float | None = None,
) -> Tensor:  # fmt: skip
    """Source latents (B, C, T, H, W), noised to time 1 - strength and denoised under `conditions` -> latents.

    The sampler walks from u = 0 to 1 over t = t0 + (1 - t0) u, on which dx/du = (1 - t0) v: any sampler of velocities will do, all its
    steps are spent on the way that is left. Sample i is noised with the noise of seed + i.
    """
    assert 0 < strength <= 1, f"strength {strength}"
    first = 1.0 - strength
    noised = [model.objective.pair(x[None], torch.Generator().manual_seed(spread(as_seed(seed + i))), t=torch.tensor([first]))[0] for i, x in enumerate(source.cpu())]
    denoise = heads.windowed(model, conditions, {}, source, window, overlap)

    def rest(latents: Tensor, u: Tensor, branches: Sequence[frozenset[str]]) -> list[Tensor]:
        return [strength * velocity for velocity in denoise(latents, first + strength * u, branches)]

    sampler = tasks.override_sampler(model.sampler, steps=steps, guidance=guidance)
    return tasks.sample_latents(model, sampler, rest, torch.cat(noised), conditions=tuple(conditions), seed=seed, on_step=on_step)


def check_model(model) -> None:
    """Raise MgzooError unless the model can do it: it predicts a velocity, and needs no source of its own."""
    objective, wires = model.recipe.parts["objective"].config, contract_of(model.recipe)
    if objective.prediction_type() != "velocity":
        raise MgzooError(f"SDEdit needs velocity prediction; this model predicts {objective.prediction_type()}", remedy="use a model trained with flow matching")
    if wires.concat_channels:
        raise MgzooError("this model is an editing model and does not need SDEdit", remedy="run it without --task, or use its text-to-video base model")


class Sdedit:
    """``edit.sdedit.v1``: on any text-to-video model. The text says what the result shows, not what to change."""

    def __init__(self, config: SdeditConfig):
        self.config = config

    def trained(self, model) -> list[str]:
        """As text to video: it is the same model."""
        return ["backbone", *(f"encoders.{key}" for key in model.encoders)]

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Latents and conditions of captioned clips."""
        texts = [heads.prompt_text(self.config, clip.caption, clip.fps) for clip in clips]
        return tasks.prepare_example(model, clips, {key: texts for key in model.encoders})

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        """The objective's loss, the text dropped in a random share of samples."""
        conditions = tasks.drop_conditions(tasks.encode_example(model, example), model.recipe.train.condition_dropout, generator)
        return tasks.training_loss(model, example.latents, lambda noisy, t: model.backbone(noisy, t, conditions), generator)

    @torch.no_grad()
    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Mean loss over ten equally spaced times."""
        conditions = tasks.encode_example(model, example)
        return {"loss": tasks.validation_loss(model, example.latents, lambda noisy, t: model.backbone(noisy, t, conditions), generator)}

    def generate(
        self,
        model,
        *,
        prompt: str,
        source: Media | None = None,
        picture: Media | None = None,
        strength: float | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Media:
        """The source clip, or the picture, as the text says it should look: of its size, length, rate and sound."""
        strength = self.config.strength if strength is None else strength
        if not 0 < strength <= 1:
            raise MgzooError(f"strength is {strength:g}, not in (0, 1]", remedy="use e.g. --strength 0.6; larger: further from the source")
        check_model(model)
        job = heads.prepare_source(model, self.config, source, picture)
        conditions = heads.encode_instruction(model, self.config, prompt, job.fps)
        latents = edit_from_noised_source(
            model, job.latents, conditions, strength, seed=seed, window=job.window, overlap=job.overlap, on_step=on_step, steps=steps, guidance=guidance
        )
        sampler = tasks.override_sampler(model.sampler, steps=steps, guidance=guidance)
        return heads.finish(model, job, latents, prompt, {"strength": strength, "seed": seed, "sampler": dataclasses.asdict(sampler.config)})
