"""Conditions of a task head: prompts, encoder inputs, condition dropout, extra input channels.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mgzoo.parts import Clip, Condition, Conditions, Example, Latents
from mgzoo.spec import MgzooError
from mgzoo.tasks.latents import stack_latents

# -------------------------------------------------------------------------------------------------------------- prompts


def as_prompts(prompt: str | Sequence[str], example: str = 'mgzoo generate MODEL "a rabbit hopping"') -> list[str]:
    """One or several prompts as a list. Raises MgzooError for missing and blank prompts. example: a valid request, for the message."""
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise MgzooError("the prompt is empty", remedy=f"describe the output, e.g. {example}")
    return prompts


def prompt_with_fps(prompt: str, fps: float) -> str:
    """``FPS-16 a rabbit hopping``: the prompt with the rounded frame rate as prefix (Movie Gen, section 3)."""
    return f"FPS-{round(fps)} {prompt}"


# ------------------------------------------------------------------------------------------------------------- encoders


def input_modality(model, key: str) -> str:
    """Input modality of the encoder ``encoders.KEY``: ``text``, ``image``, ``video`` or ``sound``."""
    return model.recipe.parts[f"encoders.{key}"].config.input_modality()


def encoders_of(model, modality: str) -> list[str]:
    """Keys of the encoders with this input modality."""
    return [key for key in model.encoders if input_modality(model, key) == modality]


def frozen_encoders(model) -> list[str]:
    """Keys of the frozen encoders; their conditions are cached."""
    return [key for key in model.encoders if model.recipe.parts[f"encoders.{key}"].frozen]


def prepare_conditions(model, inputs: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], dict[str, Condition]]:
    """Encoder inputs by key -> (inputs of the trained encoders, cached conditions of the frozen ones by name).

    inputs: B texts or B `mgzoo.model.model.EncoderInput` for each encoder.
    """
    frozen = frozen_encoders(model)
    raw = {key: [_value(one) for one in values] for key, values in inputs.items() if key not in frozen}
    made = [_cached(model, key, inputs[key]) for key in frozen if key in inputs]
    return raw, {condition.name: condition for condition in made}


def prepare_example(model, clips: Sequence[Clip], inputs: Mapping[str, Sequence[Any]]) -> Example:
    """Clips -> cached latents of the frozen autoencoder and conditions of frozen encoders; raw inputs of the trained encoders.

    inputs: as `prepare_conditions` takes them, one for each clip.
    """
    latents = stack_latents(model.encode_clips(clips))
    raw, conditions = prepare_conditions(model, inputs)
    return Example(latents=latents, inputs=raw, conditions=conditions)


def encode_example(model, example: Example) -> dict[str, Condition]:
    """Conditions by name: those of the trained encoders, computed here, and those in the example."""
    return {**model.encode_conditions(example.inputs), **example.conditions}


def _value(one: Any) -> Any:
    """The raw input of an encoder: a text, or the (evaluated) value of an `EncoderInput`."""
    if isinstance(one, str):
        return one
    return one.value() if callable(one.value) else one.value


def _cached(model, key: str, values: Sequence[Any]) -> Condition:
    encode = model.encode_texts if all(isinstance(one, str) for one in values) else model.encode_inputs
    return encode(key, values)


# ------------------------------------------------------------------------------------------------ dropping and channels


def drop_conditions(conditions: Conditions, share: float, generator: torch.Generator, independently: Sequence[str] = ()) -> dict[str, Condition]:
    """Drop all conditions in a random share of the samples, for classifier-free guidance.

    independently: names that are also dropped one by one in a further share of the samples, for guidance per condition.
    """
    if not conditions or not share:
        return dict(conditions)
    batch = len(next(iter(conditions.values())).values)
    rows = torch.rand(batch, generator=generator) < share
    alone = {name: torch.rand(batch, generator=generator) < share for name in independently}
    return {name: condition.dropped(rows | alone[name] if name in alone else rows) for name, condition in conditions.items()}


def concat_channels(noisy: Latents, concat: Latents | Sequence[Tensor]) -> Latents:
    """Noisy latents (B, C, *axes) and extra channels (B, C', *axes), or lists of samples -> (B, C + C', *axes), or the list."""
    joined = [torch.cat([x, extra.to(x)]) for x, extra in zip(noisy, concat, strict=True)]
    return torch.stack(joined) if isinstance(noisy, Tensor) else joined
