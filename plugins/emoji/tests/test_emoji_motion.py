"""The affine motion that a source and its target share."""

from __future__ import annotations

import torch

from mgzoo_emoji.motion import MAX_MOTION, affine_sequence, apply_motion


def picture(seed: int = 0) -> torch.Tensor:
    """uint8 (32, 32, 3), smooth enough to be moved."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(noise, size=(32, 32), mode="bicubic").clamp(0, 1) * 255).byte()[0].permute(1, 2, 0)


def test_identical_pictures_give_identical_clips_and_other_motions_do_not():
    one = apply_motion(picture(), affine_sequence(7, 8))
    assert torch.equal(one, apply_motion(picture().clone(), affine_sequence(7, 8)))
    assert not torch.equal(one, apply_motion(picture(), affine_sequence(8, 8))), "another seed is another motion"


def test_a_difference_of_two_pictures_moves_with_them():
    source, target = picture(), picture()
    target[10:20, 12:18] = torch.tensor([255, 0, 0], dtype=torch.uint8)
    mark = torch.zeros(32, 32, 3, dtype=torch.uint8)
    mark[10:20, 12:18] = 255
    around = torch.zeros(32, 32, 3, dtype=torch.uint8)
    around[7:23, 9:21] = 255  # bicubic weights reach two pixels further
    matrices = affine_sequence(3, 8)
    before, after, inside, outside = (apply_motion(one, matrices) for one in (source, target, mark, around))
    assert (before != after).any(-1)[inside[..., 0] > 250].all(), "inside the moved patch they differ"
    rest = (outside == 0).all(-1)
    assert rest.float().mean() > 0.4 and torch.equal(before[rest], after[rest]), "outside they are the same"
    apart = apply_motion(target, affine_sequence(4, 8))
    assert (before.int() - apart.int())[rest].abs().float().mean() > 3, "under two motions they differ everywhere"


def test_motions_are_smooth_stay_within_bounds_and_do_move():
    still = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    for seed in range(50):
        matrices = affine_sequence(seed, 16)
        assert matrices.shape == (16, 2, 3)
        assert matrices.diff(dim=0).abs().max() < 0.2, "no jump"
        assert (matrices[:, :, 2].abs() <= 1.3 * MAX_MOTION["shift"]).all()
        assert (matrices - still).abs().max() > 0.02 and matrices.diff(dim=0).abs().amax() > 0.005


def test_nothing_black_comes_in_from_outside():
    white = torch.full((32, 32, 3), 255, dtype=torch.uint8)
    assert all(apply_motion(white, affine_sequence(seed, 8)).min() == 255 for seed in range(5))
