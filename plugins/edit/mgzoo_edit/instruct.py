"""Instruction-guided editing: the task head of Movie Gen Edit (section 5 of the paper).

The source's latents are concatenated on channels with the noisy ones. A learned vector per edit task gives four tokens beside the text's and
a vector that is added to the timestep embedding (Emu Edit). The loss is the objective's, with nothing added.

Shape letters as in `mgzoo.parts`; E width of a task's vector.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mgzoo.media import Media
from mgzoo.parts import Clip, Condition, Conditions, Example, Latents, Loss
from mgzoo.spec import MgzooError
from mgzoo.tasks import (
    concat_channels,
    encode_example,
    initial_noise,
    latent_axes,
    override_sampler,
    prepare_conditions,
    sample_latents,
    stack_latents,
    training_loss,
    validation_loss,
)
from mgzoo_edit import heads
from mgzoo_edit.configs import FED, TOKENS, InstructConfig
from mgzoo_edit.sources import black_source
from mgzoo_edit.tasks import TASKS, guess_task


@dataclass(frozen=True, kw_only=True)
class EditExample(Example):
    """tasks: (B,) places in `TASKS`."""

    tasks: Tensor


class Instruct(nn.Module):
    """``edit.instruct.v1``."""

    def __init__(self, config: InstructConfig):
        super().__init__()
        self.config = config
        self.vectors = nn.Embedding(len(TASKS), config.dim)
        self.tokens = nn.Linear(config.dim, TOKENS * config.dim)
        self.shift = nn.Linear(config.dim, config.dim)

    def forward(self, tasks: Tensor) -> dict[str, Condition]:
        """Tasks (B,) -> the conditions of `InstructConfig.conditions`."""
        vectors_BE = self.vectors(tasks.to(self.vectors.weight.device))
        tokens_BLE = self.tokens(vectors_BE).unflatten(-1, (TOKENS, -1))
        every = torch.ones(len(tasks), dtype=torch.bool, device=vectors_BE.device)
        return {
            "edit_tokens": Condition(name="edit_tokens", values=tokens_BLE, mask=every[:, None].expand(-1, TOKENS)),
            "edit_shift": Condition(name="edit_shift", values=self.shift(vectors_BE), mask=every),
        }

    def trained(self, model) -> list[str]:
        """Its own weights, the backbone and every encoder; a recipe freezes those it takes ready-made."""
        return ["task", "backbone", *(f"encoders.{key}" for key in model.encoders)]

    # -------------------------------------------------------------------------------------------- training

    def prepare(self, model, clips: Sequence[Clip]) -> EditExample:
        """Latents of targets and sources from the frozen autoencoder and conditions from frozen encoders, through the cache.

        A clip's ``extra`` says ``task`` (one of `TASKS`), ``source`` (a function that gives uint8 (F, Y, X, 3), of the clip's size) and
        ``source_digest``; a clip that says nothing is a text-to-video sample, whose source is black.
        """
        both = model.encode_clips([*clips, *(_source(clip) for clip in clips)])
        latents, concat = both[: len(clips)], both[len(clips) :]
        if strange := [clip.key for clip, x, fed in zip(clips, latents, concat, strict=True) if x.shape != fed.shape]:
            raise MgzooError(f"the source of {strange[0]} does not have the size of its target", remedy="use the same size and length for both")
        texts = [heads.prompt_text(self.config, clip.caption, clip.fps) for clip in clips]
        tasks = torch.tensor([TASKS.index(_task(clip)) for clip in clips])
        inputs, conditions = prepare_conditions(model, {key: texts for key in model.encoders})
        return EditExample(latents=stack_latents(latents), concat=stack_latents(concat), inputs=inputs, conditions={**conditions, **self(tasks)}, tasks=tasks)

    def loss(self, model, example: EditExample, generator: torch.Generator) -> Loss:
        """The objective's loss; text, source or both are dropped in a random share of samples each, for guidance by either.

        The edit's task is never dropped: guidance leaves it in every branch (our choice; the paper does not say).
        """
        batch = len(example.latents)
        drawn = torch.rand(3, batch, generator=generator)
        shares = (model.recipe.train.condition_dropout, self.config.text_dropout, self.config.source_dropout)
        both, text, source = (row < share for row, share in zip(drawn, shares))
        conditions = {name: one.dropped(both | text) for name, one in encode_example(model, example).items() if name not in self.own}
        concat = [fed * (not gone) for fed, gone in zip(example.concat, (both | source).tolist(), strict=True)]
        starts = self._random_starts(model, example.latents, generator)
        conditions |= self(example.tasks)
        return training_loss(model, example.latents, lambda noisy, t: self._predict(model, noisy, t, conditions, concat, starts), generator)

    @torch.no_grad()
    def validate(self, model, example: EditExample, generator: torch.Generator) -> Mapping[str, float]:
        """Mean loss over ten equally spaced times with the generator's noise, nothing dropped."""
        conditions, concat = {**encode_example(model, example), **self(example.tasks)}, list(example.concat)
        return {"loss": validation_loss(model, example.latents, lambda noisy, t: self._predict(model, noisy, t, conditions, concat), generator)}

    @property
    def own(self) -> tuple[str, ...]:
        """Names of the conditions that it makes itself."""
        return tuple(spec.name for spec in self.config.conditions())

    def _predict(self, model, noisy: Latents, t: Tensor, conditions: Conditions, concat: Sequence[Tensor], starts: Tensor | None = None) -> Latents:
        placed = {} if starts is None else {"time_offset": starts}
        return model.backbone(concat_channels(noisy, concat), t, conditions, **placed)

    def _random_starts(self, model, latents: Latents, generator: torch.Generator) -> Tensor | None:
        """Where along time single frames lie, drawn at random (Movie Gen Edit, stage one); None where there is nothing to draw."""
        times = latent_axes(model, (self.config.frames, self.config.height, self.config.width))[0]
        single = torch.tensor([x.shape[1] == 1 for x in latents])
        if not self.config.anywhere or times == 1 or not single.any() or "time_offset" not in inspect.signature(model.backbone.forward).parameters:
            return None
        return torch.randint(times, single.shape, generator=generator) * single

    # ------------------------------------------------------------------------------------------ generation

    def generate(
        self,
        model,
        *,
        prompt: str,
        source: Media | None = None,
        picture: Media | None = None,
        edit: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        source_guidance: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Media:
        """The source clip, or the picture, edited as the instruction says: of its size, length, rate and sound.

        prompt: the instruction. edit: one of `EDITS`, guessed from the instruction's words (`mgzoo_edit.tasks.guess_task`) where not given; the
        file says which. seed: of the noise. steps: override the recipe's sampler. guidance, source_guidance: scales of guidance by text
        and by source, over those of the recipe's sampler. Longer sources are edited in overlapping windows.
        """
        job = heads.prepare_source(model, self.config, source, picture)
        conditions = heads.encode_instruction(model, self.config, prompt, job.fps)
        kind = edit or guess_task(prompt)
        latents = self.edit_latents(
            model, job.latents, conditions, [kind], seed=seed, window=job.window, overlap=job.overlap, on_step=on_step,
            steps=steps, guidance=guidance, source_guidance=source_guidance,
        )  # fmt: skip
        sampler = self.sampler(model, steps, guidance, source_guidance)
        said = {"edit": kind, "edit_guessed": edit is None, "seed": seed, "sampler": dataclasses.asdict(sampler.config)}
        return heads.finish(model, job, latents, prompt, said)

    def edit_latents(
        self, model, source: Tensor, conditions: Conditions, tasks: Sequence[str], *, seed: int = 0, window: int | None = None, overlap: int = 0,
        on_step: Callable[[int, int], None] | None = None, **guided: float | None,
    ) -> Tensor:  # fmt: skip
        """Source latents (B, C, T, H, W) and the text's conditions -> edited latents; sample i starts from the noise of seed + i.

        window, overlap: latent times of a window, default the whole length. guided: what `sampler` takes.
        """
        noise = initial_noise(model, source.shape[2:], range(seed, seed + len(source)))
        whole = {**conditions, **self(torch.tensor([TASKS.index(task) for task in tasks]))}
        denoise = heads.windowed(model, whole, {FED: source.to(model.device)}, source, window, overlap)
        names = (FED, *(name for name in conditions if name not in self.own))
        return sample_latents(model, self.sampler(model, **guided), denoise, noise, conditions=names, seed=seed, on_step=on_step)

    def sampler(self, model, steps: int | None = None, guidance: float | None = None, source_guidance: float | None = None):
        """The recipe's sampler with these numbers. Its ``guidance_scales`` guide by the source first, then by the text: v(nothing) +
        source_guidance (v(source) - v(nothing)) + guidance (v(source, text) - v(source)), as InstructPix2Pix has it."""
        own = model.sampler.config
        scales, texts = dict(getattr(own, "guidance_scales", None) or {}), [encoder.spec.name for encoder in model.encoders.values()]
        if source_guidance is not None and not hasattr(own, "guidance_scales"):
            raise MgzooError("the sampler of this model has no guidance scale per condition", remedy="remove --source-guidance")
        if scales or source_guidance is not None:
            by_text = guidance if guidance is not None else next((scales[name] for name in texts if name in scales), own.guidance)
            by_source = source_guidance if source_guidance is not None else scales.get(FED, by_text)
            return override_sampler(model.sampler, steps=steps, guidance_scales={FED: by_source, **{name: by_text for name in texts}})
        return override_sampler(model.sampler, steps=steps, guidance=guidance)


def _task(clip: Clip) -> str:
    task = clip.extra.get("task", TASKS[0])
    if task not in TASKS:
        raise MgzooError(f"{clip.key} has the unknown task {task!r}", remedy=f"use one of {', '.join(TASKS)}")
    return task


def _source(clip: Clip) -> Clip:
    """The clip that a sample is made from."""
    load = clip.extra.get("source")
    if load is None:
        if _task(clip) != TASKS[0]:
            raise MgzooError(f"{clip.key} is an edit ({_task(clip)}) without a source", remedy="add a source, or use the task text_to_video")
        return black_source(clip.frames, clip.height, clip.width, clip.fps)
    return Clip(key=f"source of {clip.key}", digest=clip.extra["source_digest"], caption="", frames=clip.frames, height=clip.height,
                width=clip.width, fps=clip.fps, load=load)
