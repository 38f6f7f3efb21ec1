"""Laws of backbones."""

from __future__ import annotations

import torch

from mgzoo.testing import inputs, outputs
from mgzoo.testing.build_part import build_part, build_perturbed, perturb_weights
from mgzoo.testing.component_under_test import CONDITIONS, Subject, require

ALIKE = 1e-4
HEARD = 1e-4
"""Least relative change of the prediction that counts as an effect."""


@torch.no_grad()
def predictions_are_as_specified(subject: Subject) -> None:
    """Predictions are float and of the latents' channels and size, of one frame too, with fed channels and with conditions left out; a list
    gives a list."""
    for concat_channels in (0, 2):
        part = build_perturbed(subject, concat_channels=concat_channels)
        for size in subject.sizes():
            given, t = inputs.latents(subject, size, concat_channels=concat_channels), torch.tensor([0.0, 0.5, 1.0])
            wanted = (3, subject.latent.channels, *size)
            for told in (inputs.conditions(3, size[0]), {}):
                found = part(given, t, told)
                require(found.is_floating_point() and found.shape == wanted,
                        f"latents of {tuple(given.shape)} give {found.dtype} {tuple(found.shape)}, not float {wanted}")
                require(found.isfinite().all(), f"latents of {tuple(given.shape)} give values that are not finite")
            listed = part(list(given), t, told)
            require(isinstance(listed, list) and [tuple(x.shape) for x in listed] == [wanted[1:]] * 3,
                    "a list of latents does not give a list of predictions")


@torch.no_grad()
def a_sample_is_predicted_alone(subject: Subject) -> None:
    """The prediction for a sample does not depend on the others in its batch."""
    part, size = build_perturbed(subject), subject.sizes()[-1]
    given, t, told = inputs.latents(subject, size), torch.tensor([0.1, 0.5, 0.9]), inputs.conditions(3, size[0])
    together = part(given, t, told)
    for i in range(3):
        far = outputs.relative_distance(together[i], part(given[i : i + 1], t[i : i + 1], inputs.condition_rows(told, slice(i, i + 1)))[0])
        require(far <= ALIKE, f"in a batch, a sample's prediction differs by {far:.2g} (relative L2) from the one alone")


@torch.no_grad()
def mixed_sizes_as_alone(subject: Subject) -> None:
    """A list of latents of several sizes gives each the prediction that it gets alone."""
    part, sizes = build_perturbed(subject), subject.sizes()
    given, t = [inputs.latents(subject, size, 1, seed=i)[0] for i, size in enumerate(sizes)], torch.tensor([0.1, 0.5, 0.9])
    told = inputs.conditions(len(sizes), 1)  # one frame of a frames condition serves all times
    for i, found in enumerate(part(given, t, told)):
        alone = part(given[i][None], t[i : i + 1], inputs.condition_rows(told, slice(i, i + 1)))[0]
        require(found.shape == alone.shape, f"in a list, latents of {sizes[i]} give {tuple(found.shape)}")
        far = outputs.relative_distance(found, alone)
        require(far <= ALIKE, f"in a list with other sizes, the prediction for {sizes[i]} differs by {far:.2g} (relative L2) from the one alone")


@torch.no_grad()
def latents_time_and_conditions_are_heard(subject: Subject) -> None:
    """The prediction changes with the latents, with the time and with every condition."""
    part, size = build_perturbed(subject), subject.sizes()[-1]
    given, t, told = inputs.latents(subject, size), torch.tensor([0.1, 0.5, 0.9]), inputs.conditions(3, size[0])
    before = part(given, t, told)

    def heard(what: str, after) -> None:
        require(outputs.relative_distance(after, before) > HEARD, f"the prediction does not change with {what}")

    heard("the latents", part(inputs.latents(subject, size, seed=1), t, told))
    heard("the time", part(given, 1 - t.flip(0) + 0.05, told))
    other = inputs.conditions(3, size[0], seed=1)
    for spec in CONDITIONS:
        heard(f"a condition of kind {spec.kind}", part(given, t, {**told, spec.name: other[spec.name]}))
        heard(f"a condition of kind {spec.kind} that is dropped", part(given, t, {**told, spec.name: told[spec.name].dropped()}))


@torch.no_grad()
def what_is_masked_is_not_heard(subject: Subject) -> None:
    """Values where a condition's mask is False, not finite ones included, change nothing; a condition left out is a dropped one."""
    part, size = build_perturbed(subject), subject.sizes()[-1]
    given, t, told = inputs.latents(subject, size), torch.tensor([0.1, 0.5, 0.9]), inputs.conditions(3, size[0])
    dropped = {name: one.dropped(torch.arange(3) == 1) for name, one in told.items()}
    spoilt = {}
    for name, one in dropped.items():
        values = one.values.clone()
        values[~one.mask] = float("nan")
        spoilt[name] = type(one)(name=name, values=values, mask=one.mask)
    before, after = part(given, t, dropped), part(given, t, spoilt)
    require(after.isfinite().all(),
            "a value that is not finite where the mask is False reaches the prediction: select, do not multiply by the mask")
    for name in told:
        one = {**dropped, name: spoilt[name]}
        require(outputs.relative_distance(part(given, t, one), before) <= ALIKE, f"values of {name} where its mask is False change the prediction")
        absent = part(given, t, {other: value for other, value in told.items() if other != name})
        require(outputs.relative_distance(absent, part(given, t, {**told, name: told[name].dropped()})) <= ALIKE,
                f"leaving {name} out is not the same as dropping it")


@torch.no_grad()
def fed_channels_start_unheard(subject: Subject) -> None:
    """At first the channels that a task head feeds change nothing: their new input weights start at zero."""
    plain, fed = build_part(subject), build_part(subject, concat_channels=2)
    before, after = dict(plain.named_parameters()), dict(fed.named_parameters())
    wider = [name for name, weight in after.items() if name not in before or weight.shape != before[name].shape]
    require(wider, "built with concat_channels=2, no weight is wider than without")
    perturb_weights(fed, but=wider)  # what lies behind the input may start at zero too, and would hide it
    size = subject.sizes()[-1]
    given, t = inputs.latents(subject, size, concat_channels=2), torch.tensor([0.1, 0.5, 0.9])
    changed = given.clone()
    changed[:, subject.latent.channels :] += 1
    told = inputs.conditions(3, size[0])
    far = outputs.relative_distance(fed(changed, t, told), fed(given, t, told))
    require(far <= ALIKE,
            f"fed channels change the first prediction by {far:.2g} (relative L2): start their weights in {', '.join(wider)} at zero")


LAWS = [
    predictions_are_as_specified, a_sample_is_predicted_alone, mixed_sizes_as_alone, latents_time_and_conditions_are_heard, what_is_masked_is_not_heard,
    fed_channels_start_unheard,
]  # fmt: skip
