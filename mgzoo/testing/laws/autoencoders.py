"""Laws of autoencoders."""

from __future__ import annotations

import dataclasses

import torch

from mgzoo.testing import inputs, outputs
from mgzoo.testing.build_part import build_part, build_perturbed
from mgzoo.testing.component_under_test import Subject, require
from mgzoo.testing.training import overfit_one_batch

ALIKE = 1e-4
TILED = 0.1
"""Relative L2 distance that cutting into tiles may add."""
STEPS, NEARER = 60, 0.7
"""Steps of training, and what the error to what went in may then be of that to its mirror image."""


@torch.no_grad()
def latents_are_as_specified(subject: Subject) -> None:
    """Latents are float (B, C, ceil(size / stride) along each axis) as its LatentSpec says, of odd sizes and of one frame too; decode gives
    back the size asked for."""
    part, spec = build_perturbed(subject), subject.config.latent_spec()
    require(part.spec == spec, f"the part's spec {part.spec} is not its config's {spec}")
    for size in inputs.media_sizes(spec):
        media = inputs.media(size)
        latents = part.encode(media)
        wanted = (len(media), spec.channels, *spec.axes(*size))
        require(latents.is_floating_point() and latents.shape == wanted,
                f"media of {size} become {latents.dtype} {tuple(latents.shape)}, not float {wanted}")
        back = part.decode(latents, size)
        require(back.is_floating_point() and back.shape == media.shape,
                f"decoded like {size} they are {back.dtype} {tuple(back.shape)}, not float {tuple(media.shape)}")


@torch.no_grad()
def a_sample_is_coded_alone(subject: Subject) -> None:
    """Latents and media of a sample do not depend on the others in its batch."""
    part, size = build_perturbed(subject), inputs.media_sizes(subject.latent)[0]
    media = inputs.media(size, 3)
    latents = part.encode(media)
    together = part.decode(latents, size)
    for i in range(len(media)):
        far = outputs.relative_distance(latents[i], part.encode(media[i : i + 1])[0])
        require(far <= ALIKE, f"encoded with others, a sample differs by {far:.2g} (relative L2) from itself alone")
        far = outputs.relative_distance(together[i], part.decode(latents[i : i + 1], size)[0])
        require(far <= ALIKE, f"decoded with others, a sample differs by {far:.2g} (relative L2) from itself alone")


def media_come_back(subject: Subject) -> None:
    """After a few steps of training on it, what comes back of a batch is much nearer to what went in than to its mirror image along any axis."""
    part, media = build_perturbed(subject), inputs.colored_cells(subject.latent)
    size = tuple(media.shape[2:])

    def nearer(losses: list[float] | None = None) -> bool:
        if losses and len(losses) % 10 != 1:
            return False
        with torch.no_grad():
            back = part.decode(part.encode(media), size)
        found["error"] = (back - media).square().mean().item()
        found.update({axis: (back - media.flip(axis)).square().mean().item() for axis in range(2, media.ndim)})
        return all(found["error"] < NEARER * found[axis] for axis in range(2, media.ndim))

    found: dict = {}
    if any(weight.requires_grad for weight in part.parameters()):
        overfit_one_batch(part, lambda: (part.decode(part.encode(media), size).float() - media).square().mean(), STEPS, nearer)
    nearer()
    for axis, count in enumerate(size, start=2):
        require(found["error"] < NEARER * found[axis],
                f"mean squared errors are {found['error']:.3g} to what went in and {found[axis]:.3g} to its mirror image along axis {axis}, of {count}")


@torch.no_grad()
def tiled_as_untiled(subject: Subject) -> None:
    """Where its config has `tile_frames`, media longer than a tile come out nearly as from one tile that holds all."""
    config = subject.config
    if not hasattr(config, "tile_frames"):
        return
    stride = subject.latent.stride
    size = (config.tile_frames + 2 * stride[0], *stride[1:])
    media = inputs.media(size, 1)
    whole = dataclasses.replace(config, tile_frames=8 * config.tile_frames)
    tiled, untiled = build_part(subject), build_part(subject, config=whole)
    untiled.load_state_dict(tiled.state_dict())
    latents = untiled.encode(media)
    far = outputs.relative_distance(tiled.encode(media), latents)
    require(far <= TILED, f"{size[0]} frames encoded in tiles of {config.tile_frames} differ by {far:.2g} (relative L2) from untiled ones")
    far = outputs.relative_distance(tiled.decode(latents, size), untiled.decode(latents, size))
    require(far <= TILED, f"{size[0]} frames decoded in tiles of {config.tile_frames} differ by {far:.2g} (relative L2) from untiled ones")


LAWS = [latents_are_as_specified, a_sample_is_coded_alone, media_come_back, tiled_as_untiled]
