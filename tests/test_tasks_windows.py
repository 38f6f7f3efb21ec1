"""Overlapping windows in time: they cover the whole, weigh one at every time, and blend into what they agree on."""

import pytest
import torch

from mgzoo.parts import Condition
from mgzoo.tasks import blend_windows, split_windows, window_starts, window_weights, windowed_denoiser
from mgzoo.tasks.windows import WEIGHTS, blend_weights


@pytest.mark.parametrize(
    "length, window, overlap, starts", [(2, 2, 1, [0]), (1, 2, 1, [0]), (3, 2, 1, [0, 1]), (7, 4, 2, [0, 2, 3]), (8, 4, 0, [0, 4]), (5, 4, 0, [0, 1])]
)
def test_windows_cover_the_whole(length, window, overlap, starts):
    assert window_starts(length, window, overlap) == starts


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("length, window, overlap", [(40, 40, 10), (41, 40, 20), (97, 40, 20), (300, 40, 0), (55, 7, 6), (5, 40, 20)])
def test_the_windows_weigh_one_at_every_time_and_cover_everything(kind, length, window, overlap):
    starts = window_starts(length, window, overlap)
    weights, total = blend_weights(length, window, starts, kind)
    assert torch.allclose((weights / total).sum(0), torch.ones(length)) and (weights >= 0).all()
    assert starts[0] == 0 and starts[-1] + min(window, length) == length
    assert all(b - a <= window - overlap for a, b in zip(starts, starts[1:]))


def test_weights_are_highest_in_the_middle_and_positive_at_the_ends():
    """A ramp is torch's Bartlett window without its zero ends, a triangle is sampled half a place further in."""
    assert torch.allclose(window_weights(8, "triangle"), torch.tensor([0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125]))
    assert torch.equal(window_weights(3, "uniform"), torch.ones(3))
    for window in (1, 4, 7):
        bartlett = torch.bartlett_window(window + 2, periodic=False)[1:-1]
        assert torch.allclose(window_weights(window, "ramp") / ((window + 1) / 2), bartlett)


def test_a_misspelt_weight_is_an_error():
    with pytest.raises(AssertionError, match="hann is none of"):
        window_weights(8, "hann")


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 7, 2, 2)])
def test_blended_windows_of_one_thing_are_that_thing(kind, shape):
    whole, starts = torch.randn(shape), window_starts(7, 4, 2)
    torch.testing.assert_close(blend_windows(split_windows(whole, starts, 4), starts, 7, kind), whole)


def merged(field, length, window=40, overlap=20, kind="triangle", latents=None):
    """`windowed_denoiser` around a denoiser that gives a field of (what it sees, its conditions, its feeds)."""
    latents = torch.randn(2, 3, length) if latents is None else latents
    frames = Condition(name="video", values=torch.arange(length).float()[None, :, None].repeat(2, 1, 1), mask=torch.tensor([True, True]))
    text = Condition(name="text", values=torch.tensor([[[1.0]], [[2.0]]]), mask=torch.ones(2, 1, dtype=torch.bool))
    feed = torch.arange(length).float()[None, None].repeat(2, 1, 1)
    made = lambda told, fed: lambda x, t, branches: [field(x, t, told, fed) for _ in branches]  # noqa: E731
    one = windowed_denoiser(made, {"video": frames, "text": text}, {"context": feed}, batch=2, length=length, window=window, overlap=overlap, weights=kind)
    return one(latents, torch.tensor([0.3, 0.3]), [frozenset(), frozenset(["text"])]), latents


def test_one_window_is_plain():
    (one, two), x = merged(lambda x, t, told, fed: 2 * x, 40)
    assert torch.equal(one, 2 * x) and torch.equal(one, two)


@pytest.mark.parametrize("kind", WEIGHTS)
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
    assert torch.allclose(whole, x, atol=1e-5) and max(calls) <= 16 and len(calls) > 1
