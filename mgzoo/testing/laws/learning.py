"""Laws of what can be trained."""

from __future__ import annotations

import math

from mgzoo.testing import inputs, models
from mgzoo.testing.build_part import build_part
from mgzoo.testing.component_under_test import Subject, require
from mgzoo.testing.training import overfit_one_batch, training_loss

STEPS, FALL = 100, 0.9
"""Steps on one batch, and what is then left of its loss at most."""


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


gradient_reaches_what_is_trained.kinds = ("autoencoder", "encoder", "backbone", "objective")
trained_parts_and_no_others.kinds = ("task",)

LAWS = [gradient_reaches_what_is_trained, loss_falls_on_one_batch, trained_parts_and_no_others]
