"""Laws of encoders."""

from __future__ import annotations

import torch

from mgzoo.parts import Condition, Cut
from mgzoo.testing import inputs, outputs
from mgzoo.testing.build_part import build_perturbed
from mgzoo.testing.component_under_test import NAME, Subject, require

ALIKE = 1e-4
SAYS_SOMETHING = 1e-4
MANY_WORDS = 1000


@torch.no_grad()
def conditions_are_as_specified(subject: Subject) -> None:
    """Its Condition has the name, kind and width of its ConditionSpec, a bool mask with something in every row, and no more than max_len
    tokens."""
    part, spec, takes = build_perturbed(subject), subject.config.condition_spec(NAME), subject.config.input_modality()
    require(part.spec == spec, f"the part's spec {part.spec} is not its config's {spec}")
    batches = [inputs.encoder_inputs(takes), inputs.encoder_inputs(takes, 1)] + [[inputs.LONG_TEXT, ""]] * (takes == "text")
    for given in batches:
        condition, batch = part(given), len(given)
        require(isinstance(condition, Condition) and condition.name == NAME,
                f"it gives {type(condition).__name__} {getattr(condition, 'name', '')!r}, not a Condition {NAME!r}")
        values, mask = condition.values, condition.mask
        axes = 1 if spec.kind == "vector" else 2
        require(values.is_floating_point() and values.ndim == axes + 1 and (len(values), values.shape[-1]) == (batch, spec.dim),
                f"values of {batch} inputs are {values.dtype} {tuple(values.shape)}; its spec says {spec.kind} of width {spec.dim}")
        wanted = tuple(values.shape[:2]) if spec.kind == "tokens" else (batch,)
        require(mask.dtype == torch.bool and tuple(mask.shape) == wanted, f"the mask is {mask.dtype} {tuple(mask.shape)}, not bool {wanted}")
        require(mask.reshape(batch, -1).any(1).all(),
                "a row of the mask is all False, which means a dropped condition: give an empty input one token")
        require(values.isfinite().all(), "its values are not finite")
        if spec.max_len and axes == 2:
            require(values.shape[1] <= spec.max_len, f"it gives {values.shape[1]} tokens, more than the {spec.max_len} of its spec")


@torch.no_grad()
def padding_changes_nothing(subject: Subject) -> None:
    """What an input becomes does not depend on the others in its batch, nor on the padding that a longer one brings."""
    part, takes = build_perturbed(subject), subject.config.input_modality()
    given = inputs.encoder_inputs(takes)
    if takes == "text":
        given = [*given, "and a longer sentence that makes the others longer"]
    together = part(given)
    for i in range(len(given)):
        alone, mask = part(given[i : i + 1]), together.mask[i]
        found, expected = (together.values[i][mask], alone.values[0][alone.mask[0]]) if mask.ndim else (together.values[i], alone.values[0])
        require(found.shape == expected.shape, f"input {i} has {len(found)} tokens in a batch and {len(expected)} alone")
        far = outputs.relative_distance(found, expected)
        require(far <= ALIKE, f"input {i} differs by {far:.2g} (relative L2) between a batch and alone")


@torch.no_grad()
def inputs_are_told_apart(subject: Subject) -> None:
    """Two inputs become two conditions."""
    part, takes = build_perturbed(subject), subject.config.input_modality()
    given = ['a sign that says "one"', 'a sign that says "two"'] if takes == "text" else inputs.encoder_inputs(takes, 2)
    condition = part(given)
    counts = condition.mask if condition.mask.ndim == 2 else torch.ones(condition.values.shape[:-1], dtype=torch.bool)
    one, two = (values[row] for values, row in zip(condition.values, counts))
    require(len(one) != len(two) or outputs.relative_distance(one, two) > SAYS_SOMETHING, "two different inputs become the same condition")


@torch.no_grad()
def an_unread_end_is_said(subject: Subject) -> None:
    """A text whose end changes nothing is one that `cut` tells of, with what is not read; a text that is read to its end is none."""
    if subject.config.input_modality() != "text":
        return
    part = build_perturbed(subject)
    tell = getattr(part, "cut", lambda texts: [None] * len(texts))
    for count in (1, MANY_WORDS):
        given, other = ([f'a sign that says "{begin} {"so " * count}{end}"' for end in ("one", "two")] for begin in ("red", "big"))
        unread = tell(given)
        require(isinstance(unread, list) and len(unread) == 2 and all(one is None or isinstance(one, Cut) for one in unread),
                f"`cut` of two texts gives {unread!r:.80}, not a mgzoo.parts.Cut or None for each")
        values = [part([text]).values for text in given]
        if torch.equal(values[0], part(other[:1]).values) or not torch.equal(values[0], part(given[:1]).values):
            continue  # it hears nothing of such a text at all, or not the same twice: other laws' matters
        if torch.equal(*values):
            require(all(unread), f"a text of {count + 6} words becomes the same condition whatever its end says, and nothing tells: give it "
                                 "`cut(texts)`, a mgzoo.parts.Cut for each text that is not read to its end, None for the others")
            require(all(one.read < one.whole and one.rest.strip() for one in unread), f"`cut` says {unread[0]}: what is read, of how much, and what is not")
        else:
            require(not any(one and end in one.rest for one, end in zip(unread, ("one", "two"))), f"`cut` says {unread[0]} of a text whose end is read")


LAWS = [conditions_are_as_specified, padding_changes_nothing, inputs_are_told_apart, an_unread_end_is_said]
