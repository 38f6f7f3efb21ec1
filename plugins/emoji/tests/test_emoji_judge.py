"""The judge of benchmarks/edit_judge.py: it takes the right clip for right, every other answer and the untouched source for wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from mgzoo_edit.tasks import EDITS
from mgzoo_emoji.configs import PairsConfig
from mgzoo_emoji.material import find_material
from mgzoo_emoji.pairs import Pairs

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import edit_judge  # noqa: E402


@pytest.fixture(scope="module")
def found() -> list[edit_judge.Answers]:
    """One held-out edit of each task, two frames long."""
    pairs = Pairs(PairsConfig(path=str(find_material("data/emoji64", "path", "data")), frames=2))
    chosen = {clip.extra["task"]: clip for clip in reversed(pairs.held_out()) if clip.extra["split"] == "pairs" and "with=" not in clip.extra["edit"].split(" ")[0]}
    return [edit_judge.answers(pairs, chosen[task]) for task in EDITS]


def noisy(video: torch.Tensor, level: float) -> torch.Tensor:
    noise = level * torch.randn(video.shape, generator=torch.Generator().manual_seed(0))
    return (video.float() + noise).round().clamp(0, 255).to(torch.uint8)


def test_the_target_is_right_and_the_source_is_not(found):
    for answer in found:
        assert edit_judge.right(answer, answer.target) == 1, answer.edit.text()
        assert edit_judge.right(answer, noisy(answer.target, 12)) == 1, "some noise does not matter"
        assert edit_judge.right(answer, answer.source) == 0, answer.edit.text()


def test_another_answer_is_wrong(found):
    for answer in found:
        for other in answer.others[1:]:
            video = answer.target.clone()
            video[answer.where] = other
            assert edit_judge.right(answer, video) == 0, answer.edit.text()
        if answer.mark is not None:
            assert edit_judge.right(answer, 255 - answer.target) == 0


def test_chance_is_one_of_the_answers(found):
    by_task = {answer.edit.task: answer for answer in found}
    assert by_task["background"].chance == pytest.approx(1 / 26) and by_task["add"].chance < 0.02 and by_task["segment"].chance == 0


def test_the_right_one_is_not_among_the_wrong(found):
    for answer in found:
        if answer.mark is None:
            assert ((answer.others[1:].float() - answer.others[:1].float()).abs().amax((1, 2)) > 12).all(), answer.edit.text()


def test_error_outside_and_motion_of_a_perfect_and_of_a_frozen_clip(found):
    own = [noisy(answer.target, 4) for answer in found]
    perfect = edit_judge.score(found, own, own)
    assert perfect["right"] == 1 and perfect["outside"] == pytest.approx(1) and perfect["inside"] == pytest.approx(1)
    frozen = edit_judge.score(found, [answer.target[:1].expand_as(answer.target) for answer in found], own)
    assert frozen["motion"] == 0 and frozen["follows"] == 0
    real = edit_judge.score(found, [answer.target for answer in found], own)
    assert real["motion"] == pytest.approx(1) and real["follows"] == pytest.approx(1) and real["outside"] == 0 and real["overlap"] > 0.85
    spoilt = []
    for answer in found:
        video = answer.target.clone()
        video[answer.outside] = 255 - video[answer.outside]
        spoilt.append(video)
    assert edit_judge.score(found, spoilt, own)["outside"] > 100


