"""A loss for each kind of part that learns: `training_loss(subject)` -> (the part, its loss on one fixed batch as a function without arguments)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mgzoo.testing import inputs, models
from mgzoo.testing.build_part import build_part, build_perturbed
from mgzoo.testing.component_under_test import Subject

Learning = tuple[nn.Module, Callable[[], Tensor]]


def training_loss(subject: Subject) -> Learning:
    return LOSSES[subject.kind](subject)


def _autoencoder(subject: Subject) -> Learning:
    part, sizes = build_perturbed(subject), inputs.media_sizes(subject.latent)[0]
    media = inputs.media(sizes)
    return part, lambda: (part.decode(part.encode(media), sizes).float() - media).square().mean()


def _encoder(subject: Subject) -> Learning:
    part, given = build_perturbed(subject), inputs.encoder_inputs(subject.config.input_modality())
    with torch.no_grad():
        target = torch.randn(part(given).values.shape, generator=inputs.generator())

    def loss() -> Tensor:
        condition = part(given)
        error = (condition.values.float() - target).square().mean(-1)
        mask = condition.mask if condition.mask.shape == error.shape else torch.ones_like(error, dtype=torch.bool)
        return error[mask].mean()

    return part, loss


def _backbone(subject: Subject) -> Learning:
    size, batch = subject.sizes()[-1], 4
    part, told = build_perturbed(subject), inputs.conditions(batch, size[0])
    # each condition is dropped in another row, so that the learned nulls are used as well
    dropped = {name: one.dropped(torch.arange(batch) == i) for i, (name, one) in enumerate(told.items())}
    latents, target = inputs.latents(subject, size, batch), inputs.latents(subject, size, batch, seed=3)
    t = torch.tensor([0.1, 0.4, 0.6, 0.9])
    return part, lambda: (part(latents, t, dropped).float() - target).square().mean()


def _objective(subject: Subject) -> Learning:
    """The objective trains whatever predicts: here a table of predictions."""
    objective = build_part(subject)
    _, t, target = objective.pair(torch.randn(4, 4, 1, 3, 3, generator=inputs.generator()), inputs.generator(1))
    table = nn.ParameterList([nn.Parameter(torch.zeros_like(target))])
    return table, lambda: objective.loss(20 * table[0], target, t)  # Adam moves each number by its small learning rate


def _task(subject: Subject) -> Learning:
    task = build_part(subject)
    model = models.model_around(subject, task)
    example = task.prepare(model, models.example_clips())
    trained = nn.ModuleDict({name.replace(".", "_"): model.part(name) for name in task.trained(model)})
    return trained, lambda: task.loss(model, example, inputs.generator(1)).total


LOSSES = {"autoencoder": _autoencoder, "encoder": _encoder, "backbone": _backbone, "objective": _objective, "task": _task}


def overfit_one_batch(part: nn.Module, loss: Callable[[], Tensor], steps: int, enough: Callable[[list[float]], bool], lr: float = 3e-3) -> list[float]:
    """Adam on one batch until the losses so far are `enough`; the losses before each step and after the last."""
    weights = [weight for weight in part.parameters() if weight.requires_grad]
    moments, found = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights], []
    for step in range(1, steps + 1):  # written out: torch.optim imports torch's compiler, which takes longer than all laws together
        value = loss()
        found.append(value.item())
        if enough(found):
            return found
        gradients = torch.autograd.grad(value, weights, allow_unused=True)
        with torch.no_grad():
            for weight, gradient, (mean, square) in zip(weights, gradients, moments):
                if gradient is not None:
                    mean.lerp_(gradient, 0.1)
                    square.lerp_(gradient.square(), 0.05)
                    weight.sub_(lr * (mean / (1 - 0.9**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-8))
    with torch.no_grad():
        return [*found, loss().item()]
