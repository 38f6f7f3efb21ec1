"""The laws of merging windows."""

import pytest
import torch

from mgzoo.parts import Condition
from mgzoo_audio import merging


@pytest.mark.parametrize("kind", ["triangle", "uniform"])
@pytest.mark.parametrize("length, window, overlap", [(40, 40, 10), (41, 40, 20), (97, 40, 20), (300, 40, 0), (55, 7, 6), (5, 40, 20)])
def test_the_windows_weigh_one_at_every_time_and_cover_everything(kind, length, window, overlap):
    begins = merging.starts(length, window, overlap)
    shares = merging.shares(length, window, begins, kind)
    assert torch.allclose(shares.sum(0), torch.ones(length)) and (shares >= 0).all()
    assert begins[0] == 0 and begins[-1] + min(window, length) == length
    assert all(b - a <= window - overlap for a, b in zip(begins, begins[1:]))


def test_a_triangle_is_highest_in_the_middle_and_positive_at_the_ends():
    found = merging.weights(8, "triangle")
    assert torch.allclose(found, torch.tensor([0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125]))
    assert torch.equal(merging.weights(3, "uniform"), torch.ones(3))


def merged(field, length, window=40, overlap=20, kind="triangle", latents=None):
    """`windowed` around a denoiser that gives a field of (what it sees, its conditions, its feeds)."""
    latents = torch.randn(2, 3, length) if latents is None else latents
    frames = Condition(name="video", values=torch.arange(length).float()[None, :, None].repeat(2, 1, 1), mask=torch.tensor([True, True]))
    text = Condition(name="text", values=torch.tensor([[[1.0]], [[2.0]]]), mask=torch.ones(2, 1, dtype=torch.bool))
    feed = torch.arange(length).float()[None, None].repeat(2, 1, 1)
    made = lambda told, fed: lambda x, t, branches: [field(x, t, told, fed) for _ in branches]  # noqa: E731
    one = merging.windowed(made, {"video": frames, "text": text}, {"context": feed}, batch=2, length=length, window=window, overlap=overlap, kind=kind)
    return one(latents, torch.tensor([0.3, 0.3]), [frozenset(), frozenset(["text"])]), latents


def test_one_window_is_plain():
    (one, two), x = merged(lambda x, t, told, fed: 2 * x, 40)
    assert torch.equal(one, 2 * x) and torch.equal(one, two)


@pytest.mark.parametrize("kind", ["triangle", "uniform"])
def test_a_field_of_each_place_alone_is_as_if_there_were_no_windows(kind):
    """What every window agrees on is kept: constants, the state itself, and conditions and feeds at their own times."""
    for field in (
        lambda x, t, told, fed: torch.full_like(x, 3.0),
        lambda x, t, told, fed: torch.tanh(x),
        lambda x, t, told, fed: told["video"].values.mT.expand_as(x),
        lambda x, t, told, fed: fed["context"].expand_as(x),
        lambda x, t, told, fed: told["text"].values.expand_as(x),
    ):
        (whole, _), x = merged(field, 97, kind=kind)
        plain = field(x, None, {"video": Condition(name="video", values=torch.arange(97).float()[None, :, None].repeat(2, 1, 1), mask=None),
                                "text": Condition(name="text", values=torch.tensor([[[1.0]], [[2.0]]]), mask=None)},
                      {"context": torch.arange(97).float()[None, None].repeat(2, 1, 1)})  # fmt: skip
        assert torch.allclose(whole, plain, atol=1e-4)


def test_seams_are_ramps_under_a_triangle_and_steps_under_uniform_weights():
    """Windows that disagree by a constant each: the triangle passes from one to the next, the uniform mean jumps where a window ends."""
    steps = {}
    for kind in ("triangle", "uniform"):
        (whole, _), _ = merged(lambda x, t, told, fed: fed["context"][..., :1].expand_as(x), 100, kind=kind)
        steps[kind] = whole.diff(dim=-1).abs().max().item()
    assert steps["triangle"] < 2 < 9 < steps["uniform"]


def test_many_windows_go_in_groups():
    calls = []
    (whole, _), x = merged(lambda x, t, told, fed: calls.append(len(x)) or x, 400, window=20, overlap=10)
    assert torch.allclose(whole, x, atol=1e-5) and max(calls) <= merging.TOGETHER and len(set(calls)) > 0
