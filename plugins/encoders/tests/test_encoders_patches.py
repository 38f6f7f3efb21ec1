"""Laws of the small vision encoder: sizes, places, lists of pictures, and what it can learn."""

import pytest
import torch
from torch import nn

from mgzoo_encoders.configs import MetaClipVisionConfig, PatchesConfig
from mgzoo_encoders.metaclip import MetaClipVision
from mgzoo_encoders.patches import Patches


def build(**settings):
    torch.manual_seed(0)
    return Patches(PatchesConfig(**{"size": 32, "patch": 8, "width": 64, "depth": 1, **settings}), name="here").eval()


@pytest.mark.parametrize("settings", [{}, {"patch": 16, "width": 96, "depth": 2}, {"patch": 2, "width": 32, "depth": 0}])
def test_parameters_in_closed_form_are_those_of_the_model(settings):
    part = build(**settings)
    assert part.config.num_parameters() == sum(p.numel() for p in part.parameters())


def test_a_picture_becomes_one_token_a_patch():
    condition = build()(torch.rand(3, 3, 1, 32, 32) * 2 - 1)
    assert condition.name == "here" and condition.values.shape == (3, 16, 64) and condition.mask.all()


def test_a_list_of_pictures_of_any_size_is_a_batch():
    """Each is what it is alone, and a large picture what its scaled self is."""
    part = build()
    pictures = [torch.rand(3, 1, 32, 32) * 2 - 1, torch.rand(3, 1, 40, 64) * 2 - 1]
    both = part(pictures).values
    for one, found in zip(pictures, both):
        torch.testing.assert_close(part(one[None]).values[0], found, rtol=1e-5, atol=1e-5)
    tower = MetaClipVision(MetaClipVisionConfig.tiny()).eval()
    torch.testing.assert_close(tower(pictures).values[1], tower(pictures[1][None]).values[0], rtol=1e-4, atol=1e-5)


def test_a_token_sees_its_own_patch_first():
    """Without layers, a change in one corner moves the tokens around that corner and leaves the opposite one alone."""
    part = build(depth=0)
    one = torch.zeros(1, 3, 1, 32, 32)
    other = one.clone()
    other[..., :6, :6] = 1.0
    moved = (part(one).values - part(other).values).abs().amax(-1)[0]
    assert moved[0] > 1e-3 and moved[15] == 0


def test_it_learns_where_a_mark_lies():
    """A red mark in one of four corners: after sixty steps a linear reading of the tokens names the corner of pictures that it
    has not seen, which it does not before."""
    torch.manual_seed(0)
    part, read = build(), nn.Linear(16 * 64, 4)

    def batch(count):
        corner = torch.randint(4, (count,))
        pictures = torch.rand(count, 3, 1, 32, 32) * 0.4 + 0.6
        for picture, where in zip(pictures, corner.tolist()):
            top, left = 16 * (where // 2) + int(torch.randint(10, ())), 16 * (where % 2) + int(torch.randint(10, ()))
            picture[1:, :, top : top + 5, left : left + 5] = -1.0
        return pictures, corner

    def right():
        pictures, corner = batch(128)
        return (read(part(pictures).values.flatten(1)).argmax(1) == corner).float().mean().item()

    before = right()
    optimiser = torch.optim.AdamW([*part.parameters(), *read.parameters()], lr=2e-3)
    for _ in range(60):
        pictures, corner = batch(32)
        optimiser.zero_grad()
        nn.functional.cross_entropy(read(part(pictures).values.flatten(1)), corner).backward()
        optimiser.step()
    assert right() > 0.9 > 0.6 > before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 12}, "patch must be a power of two, at least 2, not 12"),
        ({"size": 40, "patch": 16}, "patch (16) must divide size (40)"),
        ({"width": 65}, "heads (4) must divide width (65)"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        PatchesConfig(**settings)
    assert str(caught.value) == message
