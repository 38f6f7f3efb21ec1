"""Laws of what can be trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mgzoo.testing import inputs, models, outputs
from mgzoo.testing.authors_line import authors_line
from mgzoo.testing.build_part import build_part, build_perturbed
from mgzoo.testing.component_under_test import Subject, require
from mgzoo.testing.training import overfit_one_batch, training_loss

STEPS, FALL = 100, 0.9
"""Steps on one batch, and what is then left of its loss at most."""
ALIKE = 1e-4


def gradient_reaches_what_is_trained(subject: Subject) -> None:
    """A training step gives a finite gradient to every weight that is trained, and to none that is not."""
    part, loss = training_loss(subject)
    learning = [weight for weight in part.parameters() if weight.requires_grad]
    if not learning:
        return
    value = loss()
    require(value.ndim == 0 and value.requires_grad, "its loss is no scalar with a gradient: something on the way is detached or under no_grad")
    value.backward()
    for name, weight in part.named_parameters():
        reached = weight.grad is not None and bool(weight.grad.any())
        require(reached == weight.requires_grad,
                f"{name} {'gets no gradient, though it is trained' if weight.requires_grad else 'gets a gradient, though it is frozen'}")
        require(weight.grad is None or weight.grad.isfinite().all(), f"the gradient of {name} is not finite")


def loss_falls_on_one_batch(subject: Subject) -> None:
    """Within a hundred steps of Adam on one batch the loss falls by at least a tenth."""
    part, loss = training_loss(subject)
    if not any(weight.requires_grad for weight in part.parameters()):
        return
    found = overfit_one_batch(part, loss, STEPS, lambda losses: losses[-1] <= FALL * losses[0])
    require(all(map(math.isfinite, found)), f"the loss is not finite: {found[-3:]}")
    require(found[-1] <= FALL * found[0], f"the loss goes from {found[0]:.4g} to {found[-1]:.4g} in {STEPS} steps of Adam")


def trained_parts_and_no_others(subject: Subject) -> None:
    """A training step gives gradients to every part that trained() names, and to no other; to the rest of them too where the encoders are
    frozen."""
    for frozen in (False, True):
        task = build_part(subject)
        model = models.model_around(subject, task, frozen)
        named = [name for name in task.trained(model) if not (frozen and name.startswith("encoders."))]
        strange = [name for name in named if name not in model.recipe.parts]
        require(not strange, f"trained() names {', '.join(strange)}; the model's parts are {', '.join(model.recipe.parts)}")
        if frozen:  # as the training loop has them
            model.encoders.requires_grad_(False)
        task.loss(model, task.prepare(model, models.example_clips()), inputs.generator(1)).total.backward()
        for name in model.part_names():
            reached = any(weight.grad is not None and bool(weight.grad.any()) for weight in model.part(name).parameters())
            require(reached or name not in named, f"{name} gets no gradient, though trained() names it")
            require(name in named or not reached, f"{name} gets a gradient, though trained() does not name it")


def trains_in_bf16(subject: Subject) -> None:
    """With weights in bfloat16 and inputs in float32, as training with `precision: bf16` runs it, a step gives finite gradients; a frozen part,
    whose buffers stay in float32, answers too."""
    _run_in_bf16(subject, "a training step", lambda: _step_in_bf16(subject))
    if subject.kind in ("autoencoder", "encoder"):  # parts that a recipe freezes
        _run_in_bf16(subject, "a frozen part", lambda: _frozen_in_bf16(subject))


def _run_in_bf16(subject: Subject, what: str, run: Callable[[], None]) -> None:
    try:
        run()
    except (RuntimeError, TypeError, ValueError) as error:
        place = authors_line(subject, error)
        if place is None:
            raise
        require(False, f"{what} with weights in bfloat16 and inputs in float32 raises: cast each input to the dtype of the weight that it meets\n    {place}")


def _step_in_bf16(subject: Subject) -> None:
    part, loss = training_loss(subject)
    part.to(torch.bfloat16)
    value = loss()
    require(value.isfinite(), f"in bfloat16 the loss of a training step is {value.item()}")
    if not value.requires_grad:
        return
    value.backward()
    for name, weight in part.named_parameters():
        require(weight.grad is None or weight.grad.isfinite().all(), f"in bfloat16 the gradient of {name} is not finite")


@torch.no_grad()
def _frozen_in_bf16(subject: Subject) -> None:
    part = build_perturbed(subject)
    for weight in part.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    if subject.kind == "encoder":
        part(inputs.encoder_inputs(subject.config.input_modality()))
        return
    size = inputs.media_sizes(subject.latent)[0]
    part.decode(part.encode(inputs.media(size)).to(torch.bfloat16), size)


def others_change_nothing_in_training(subject: Subject) -> None:
    """In train mode too, and in the loss, what comes of a sample does not depend on the others in its batch: no statistics over the batch."""
    found = [_of_first(subject, seed) for seed in (1, 2)]
    for name, one in found[0].items():
        two = found[1][name]
        if one.shape != two.shape:  # a tokenizer may make the batch longer, and dropout then draws others
            continue
        far = outputs.relative_distance(two, one)
        require(far <= ALIKE, f"in train mode, other samples in the batch change the {name} of a sample by {far:.2g} (relative L2): "
                              "use no statistics over the batch (LayerNorm or GroupNorm in place of BatchNorm)")


def _of_first(subject: Subject, seed: int) -> dict[str, Tensor]:
    """What comes of sample 0 in train mode beside other samples, drawn by seed; random draws (dropout) are the same."""

    def beside(make: Callable[[int], Any]) -> Any:
        return torch.cat([make(inputs.SEED)[:1], make(seed)[1:]])

    part = build_perturbed(subject)
    if isinstance(part, nn.Module):
        part.train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        if subject.kind == "autoencoder":
            size = inputs.media_sizes(subject.latent)[0]
            latents = part.encode(beside(lambda s: inputs.media(size, 3, s)))
            shaped = beside(lambda s: torch.randn(latents.shape, generator=inputs.generator(s)))
            return {"latents": latents[0], "media": part.decode(shaped, size)[0]}
        if subject.kind == "encoder":
            takes = subject.config.input_modality()
            others = {1: "the big cat sits", 2: "one old dog runs"}[seed]
            given = ["a red ball rolls", others, others] if takes == "text" else beside(lambda s: inputs.media((1 if takes == "image" else 4, 24, 20), 3, s))
            condition = part(given)
            return {"values": condition.values[0][condition.mask[0]] if condition.mask.ndim == 2 else condition.values[0]}
        if subject.kind == "backbone":
            size, t = subject.sizes()[-1], torch.tensor([0.5, 0.3, 0.7])
            told, other = inputs.conditions(3, size[0]), inputs.conditions(3, size[0], seed)
            mixed = {name: type(one)(name=name, values=torch.cat([one.values[:1], other[name].values[1:]]), mask=one.mask) for name, one in told.items()}
            return {"prediction": part(beside(lambda s: inputs.latents(subject, size, 3, seed=s)), t, mixed)[0]}
        latents = beside(lambda s: torch.randn(3, 4, 1, 3, 3, generator=inputs.generator(s)))
        noisy, t, target = part.pair(latents, inputs.generator(1))
    prediction = beside(lambda s: torch.randn(3, 4, 1, 3, 3, generator=inputs.generator(s + 10))).requires_grad_()
    (gradient,) = torch.autograd.grad(part.loss(prediction, target, t), prediction)
    return {"noisy latents": noisy[0], "target": target[0], "gradient of the loss": gradient[0]}


trains_in_bf16.kinds = ("autoencoder", "encoder", "backbone", "objective", "task")
others_change_nothing_in_training.kinds = gradient_reaches_what_is_trained.kinds = ("autoencoder", "encoder", "backbone", "objective")
trained_parts_and_no_others.kinds = ("task",)

LAWS = [gradient_reaches_what_is_trained, loss_falls_on_one_batch, trained_parts_and_no_others, trains_in_bf16, others_change_nothing_in_training]
