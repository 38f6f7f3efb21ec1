"""How often what is masked and dropped, counted."""

import pytest
import torch

from mgzoo_audio.masking import context_masks, draw_dropped

MANY = 6000


def drawn(full=0.5, least=0.75, length=40, count=MANY):
    return context_masks([length] * count, full, least, torch.Generator().manual_seed(0))


def test_half_of_the_contexts_are_masked_whole_and_the_rest_by_three_quarters_or_more():
    masks = torch.stack(drawn())
    shares = 1 - masks.float().mean(1)
    whole = (shares == 1).float().mean()
    # of the other half those that keep less than half a latent of 40 are whole too: 1/20 of it, plus or minus 3 deviations
    assert whole == pytest.approx(0.5 + 0.5 * 0.05, abs=3 * 0.0065)
    assert shares.min() >= 0.75
    rest = shares[shares < 1]
    assert rest.mean() == pytest.approx(0.87, abs=0.01)


def test_a_counter_example_with_other_probabilities_is_told_apart():
    shares = 1 - torch.stack(drawn(full=0.2, least=0.5)).float().mean(1)
    assert (shares == 1).float().mean() < 0.3 and shares.min() < 0.6


def test_what_is_masked_is_one_stretch_at_the_end_the_start_or_within_each_a_third():
    counts = {"forward": 0, "backward": 0, "infill": 0}
    for mask in (mask for mask in drawn() if mask.sum() > 3):
        changes = mask.int().diff().abs().sum()
        if changes == 2:
            assert mask[0] and mask[-1]
            counts["infill"] += 1
        else:
            assert changes == 1
            counts["forward" if mask[0] else "backward"] += 1
    total = sum(counts.values())
    # an infilling whose context all lies at one end looks like an extension: 2 of 8 or so
    assert counts["infill"] / total == pytest.approx(0.29, abs=0.06)
    assert counts["forward"] / counts["backward"] == pytest.approx(1, abs=0.2)


def test_lengths_may_differ():
    masks = context_masks([7, 40, 1], 0.0, 0.75, torch.Generator().manual_seed(1))
    assert [len(mask) for mask in masks] == [7, 40, 1]


def test_all_are_dropped_together_in_a_fifth_and_each_alone_in_a_tenth():
    everything, alone = draw_dropped(MANY, 0.2, 0.1, ["text", "video"], torch.Generator().manual_seed(0))
    assert everything.float().mean() == pytest.approx(0.2, abs=0.016)
    for rows in alone.values():
        assert (everything & ~rows).sum() == 0
        assert rows.float().mean() == pytest.approx(0.2 + 0.8 * 0.1, abs=0.018)
    both = (alone["text"] & alone["video"] & ~everything).float().mean()
    assert both == pytest.approx(0.8 * 0.01, abs=0.004)
