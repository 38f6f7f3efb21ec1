"""Laws of every built part: the same bits from the same seed, the same answers in another process, in either precision, without traces."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mgzoo.testing import outputs
from mgzoo.testing.build_part import build_part, build_perturbed
from mgzoo.testing.calls import global_seed
from mgzoo.testing.component_under_test import Subject, require
from mgzoo.testing.subprocess_runner import run_in_subprocess

SAME = 1e-5
"""Relative L2 distance of answers that differ by rounding alone: another process may find its tensors at other addresses."""
BF16 = 0.1
"""Relative L2 distance that bfloat16 (eight bits) may add to a small part."""

UNSEEDED = ": it depends on something that no seed sets (the clock, os.urandom, the order of a set, uninitialised memory)"
REMEMBERS = ": it depends on the calls before; a call must change nothing in the part, and draw from no source that no seed sets"
NOT_SAVED = ": it depends on something that is in no parameter and no buffer, or on the order of a set"


def same_seed_same_bits(subject: Subject) -> None:
    """The same seed gives the same weights and answers, bit for bit; using a part changes nothing in it."""
    one, two = build_part(subject, 5), build_part(subject, 5)
    first, second = _state(one), _state(two)
    require(first.keys() == second.keys(), "built twice from one seed, its weights have other names")
    for name in first:
        require(torch.equal(first[name], second[name]), f"built twice from one seed, {name} differs: draw it from torch's own generator")
    found = _outputs(subject, one)
    _compare(found, _outputs(subject, two), 0.0, "built twice from one seed and given the same", UNSEEDED)
    if subject.kind != "data":  # a stream moves on
        _compare(found, _outputs(subject, one), 0.0, "given the same twice", REMEMBERS)
    for name, value in _state(one).items():
        require(torch.equal(value, first[name]), f"using it changes {name}")


def saved_and_loaded(subject: Subject) -> None:
    """Its state goes through a safetensors file into a new process, and the part answers there as it does here."""
    found = run_in_subprocess(subject)
    require(not found.error, f"it cannot be saved, or built and used in a new process:\n{found.error}")
    _compare(found.outputs, found.expected, SAME, "loaded in a new process", NOT_SAVED)


def in_either_precision(subject: Subject) -> None:
    """It works in float32 and in bfloat16, finite in both, and gives nearly the same."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        part = build_perturbed(subject)
        found[dtype] = {name: value.float() for name, value in outputs.all_outputs(subject, part, dtype).items() if value.is_floating_point()}
        for name, value in found[dtype].items():
            require(value.isfinite().all(), f"in {_short(dtype)} the {name} is not finite")
    _compare(found[torch.bfloat16], found[torch.float32], BF16, "in bfloat16, against float32,")


in_either_precision.kinds = ("autoencoder", "encoder", "backbone", "objective", "sampler", "task")


def opens_no_socket(subject: Subject) -> None:
    """Building and using its tiny() opens no network connection."""
    attempts = run_in_subprocess(subject).attempts
    require(not attempts, f"it reaches for the network: {', '.join(attempts[:3])}")


def leaves_no_files(subject: Subject) -> None:
    """Building and using it leaves no file in the working directory or the home folder."""
    files = run_in_subprocess(subject).files
    require(not files, f"it leaves {', '.join(files[:3])} behind; keep what must be kept under mgzoo.model.feature_cache.default_root()")


def _state(part) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in part.state_dict().items()} if isinstance(part, nn.Module) else {}


def _outputs(subject: Subject, part) -> dict[str, Tensor]:
    """`all_outputs` from one global random state: whether a part reads it is another law's matter."""
    with global_seed(0):
        return outputs.all_outputs(subject, part)


def _compare(found: dict[str, Tensor], expected: dict[str, Tensor], limit: float, when: str, why: str = "") -> None:
    require(found.keys() == expected.keys(), f"{when}, it answers {sorted(found)} and not {sorted(expected)}")
    for name, value in found.items():
        want = expected[name]
        require(value.shape == want.shape, f"{when}, the {name} has shape {tuple(value.shape)} and not {tuple(want.shape)}")
        if limit == 0.0 or not value.is_floating_point():
            require(torch.equal(value, want), f"{when}, the {name} differs{why}")
        else:
            far = outputs.relative_distance(value, want)
            require(far <= limit, f"{when}, the {name} differs by {far:.2g} (relative L2), more than {limit:g}{why}")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


LAWS = [same_seed_same_bits, saved_and_loaded, in_either_precision, opens_no_socket, leaves_no_files]
