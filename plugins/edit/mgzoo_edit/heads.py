"""What the two heads of this plugin have in common: source in, text in, edited media out.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mgzoo.media import Media
from mgzoo.parts import Condition, Conditions, Denoise
from mgzoo.spec import MgzooError
from mgzoo.tasks import decode_frames, latent_axes, prompt_with_fps, resolve_size, windowed_denoiser
from mgzoo_edit.sources import FittedSource, choose_source, fit_source, source_fps

AT_ONCE = 8  # windows in one forward pass
EXAMPLE = 'mgzoo generate MODEL --source clip.mp4 "make the sky red"'


@dataclass(frozen=True, kw_only=True)
class EditJob:
    """One source on the way through a model.

    media: as it came. placed: in the model's picture. latents: (1, C, T, H, W). fps: told to the model. window, overlap: latent times.
    """

    media: Media
    fitted: FittedSource
    latents: Tensor
    fps: float
    window: int
    overlap: int


def prepare_source(model, config, source: Media | None, picture: Media | None) -> EditJob:
    """Check what was given, put it in the model's picture and encode it. config: of the head."""
    media = choose_source(source, picture)
    size = resolve_size(model, (config.frames, config.height, config.width))
    window = latent_axes(model, size)[0]
    fitted, fps = fit_source(media.video, *size), source_fps(media, config.fps)
    latents = torch.stack(model.encode_clips([fitted.clip(fps)]))
    return EditJob(media=media, fitted=fitted, latents=latents, fps=fps, window=window, overlap=int(config.overlap * window))


def windowed(model, conditions: Conditions, concat: Mapping[str, Tensor], source: Tensor, window: int | None, overlap: int) -> Denoise:
    """A denoiser of latents like the source's (B, C, T, H, W), in windows of this many latent times (default all)."""
    length = source.shape[2]
    return windowed_denoiser(
        model.denoiser, conditions, concat, batch=len(source), length=length, window=window or length, overlap=overlap, weights="ramp", at_once=AT_ONCE
    )


def prompt_text(config, text: str, fps: float) -> str:
    """What the encoders see for a text at a frame rate."""
    return prompt_with_fps(text, fps) if config.fps_token else text


def encode_instruction(model, config, prompt: str, fps: float) -> dict[str, Condition]:
    """The conditions of one instruction. Raises MgzooError where it is empty, or longer than an encoder reads."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise MgzooError("the instruction is empty", remedy=f"describe the edit, e.g. {EXAMPLE}")
    for name in model.encoders:
        (cut,) = model.cuts(name, [prompt_text(config, prompt, fps)])
        if cut:
            raise MgzooError(f"the instruction is too long: encoders.{name} reads {cut.read} of {cut.whole} {cut.unit}, frame rate included",
                             remedy="shorten it")
    return model.encode_conditions({key: [prompt_text(config, prompt, fps)] for key in model.encoders})


def finish(model, job: EditJob, latents: Tensor, prompt: str, meta: Mapping[str, Any]) -> Media:
    """Latents (1, C, T, H, W) -> media of the source's size, length, rate and sound."""
    video = job.fitted.restore(decode_frames(model, latents[0], job.fitted.video.shape[:3]))
    media = job.media
    said = {"prompt": prompt, **meta, "window_frames": min(len(job.fitted.video), model.task.config.frames), "edited_at": list(job.fitted.video.shape[1:3])}
    return Media(video=video, fps=media.fps, audio=media.audio, rate=media.rate, caption=prompt, meta=said)
