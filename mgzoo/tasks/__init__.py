"""Shared functions of task heads on autoencoder latents.

    latents        sizes, initial noise, training and validation loss, sampling, decoding
    conditioning   prompts and encoders, dropped conditions, extra input channels
    windows        media beyond the training length: overlapping windows blended at every sampling step

They use only the methods of the model and the configs of its recipe. Shape letters as in `mgzoo.parts`.
"""

from mgzoo.tasks.conditioning import (
    as_prompts,
    concat_channels,
    drop_conditions,
    encode_example,
    encoders_of,
    frozen_encoders,
    input_modality,
    prepare_conditions,
    prepare_example,
    prompt_with_fps,
)
from mgzoo.tasks.latents import (
    Predict,
    decode_frames,
    initial_noise,
    latent_axes,
    override_sampler,
    resolve_size,
    sample_latents,
    stack_latents,
    training_loss,
    validation_loss,
)
from mgzoo.tasks.windows import blend_windows, split_windows, window_starts, window_weights, windowed_denoiser

__all__ = [
    "Predict", "as_prompts", "blend_windows", "concat_channels", "decode_frames", "drop_conditions", "encode_example", "encoders_of", "frozen_encoders",
    "initial_noise", "input_modality", "latent_axes", "override_sampler", "prepare_conditions", "prepare_example", "prompt_with_fps", "resolve_size",
    "sample_latents", "split_windows", "stack_latents", "training_loss", "validation_loss", "window_starts", "window_weights", "windowed_denoiser",
]  # fmt: skip
