"""A setting that can do nothing is a problem where it was asked for, and none where it was switched off on purpose."""

from __future__ import annotations

import pytest

from mgzoo.cli import run
from mgzoo.recipe.compose import compose, recipe_names
from mgzoo.recipe.schema import Adapter, Ema, Train, Zero
from mgzoo.recipe.settings import setting_notes
from mgzoo.spec import RecipeError
from mgzoo.train.stages import StagePlan

BASE = "tiny/emoji_t2v"
IDLE = {
    "train.validate_every=5": ("data.config.held_out=[]", "train.validate_every", "validation is on, but the data has no held-out samples"),
    "train.plateau=2": ("train.validate_every=0", "train.plateau", "a plateau needs validation, but there is none"),
    "train.ema.every=4": ("train.ema.decay=0", "train.ema.every", "with train.ema.decay 0 there is no average"),
    "train.min_lr_ratio=0.2": ("train.schedule=constant", "train.min_lr_ratio", "a constant schedule ignores the final learning rate"),
    "train.steps=7": ("seed=1", "train.steps", "the stages have steps of their own"),
    "zero.persistence_threshold=9": ("zero.stage=2", "zero.persistence_threshold", "only ZeRO stage 3 partitions weights"),
}
ACTIVE = {"train.ema.every=4": "train.ema.decay=0.9", "train.min_lr_ratio=0.2": "train.schedule=cosine", "train.steps=7": "stages=[]", "zero.persistence_threshold=9": "zero.stage=3",
          "train.plateau=2": "train.validate_every=9", "train.validate_every=5": "seed=1"}  # fmt: skip


def found(*overrides, source=BASE):
    try:
        compose(source, overrides)
    except RecipeError as error:
        return [(problem.key, problem.what, str(problem.origin)) for problem in error.problems]
    return []


@pytest.mark.parametrize("setting", IDLE)
def test_what_can_do_nothing_is_a_problem_and_what_can_is_none(setting):
    switch, key, what = IDLE[setting]
    assert found(setting, switch) == [(key, what, "command line")]
    assert found(setting, ACTIVE[setting]) == []
    assert found(switch) == []  # switched off what a file asks for: on purpose


def test_a_file_that_contradicts_itself_is_told_by_its_line(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(f"defaults: [{BASE}]\ntrain:\n  validate_every: 0\n  plateau: 3\n  ema: {{decay: 0, every: 5}}\n")
    assert [(key, origin.rpartition("/")[2]) for key, _, origin in found(source=path)] == [("train.plateau", "r.yaml:4"), ("train.ema.every", "r.yaml:5")]
    path.write_text(f"defaults: [{BASE}]\ntrain: {{validate_every: 0, ema: {{decay: 0}}}}\n")
    assert found(source=path) == []


def test_what_acts_in_one_stage_is_no_problem():
    stages = "stages=[{name: a, steps: 1, set: {train.validate_every: 0}}, {name: b, steps: 1, set: {train.validate_every: %d}}]"
    assert found(stages % 2, "train.plateau=2") == []
    assert [key for key, _, _ in found(stages % 0, "train.plateau=2")] == ["train.plateau"]


def test_the_recipe_that_mgzoo_writes_of_one_that_holds_holds(tmp_path):
    """It has every key, whoever asked for it."""
    recipe = compose("tiny/emoji_t2v", ["train.validate_every=0", "train.ema.decay=0", "data.config.held_out=[]"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert compose(tmp_path / "recipe.yaml").tree == recipe.tree


def test_no_shipped_recipe_asks_for_what_cannot_be():
    idle = {"no-effect"}
    for name in recipe_names():
        try:
            compose(name)
        except RecipeError as error:
            assert not [problem for problem in error.problems if problem.kind in idle], name


def test_check_says_it(capsys):
    assert run(["check", BASE, "data.config.held_out=[]", "train.validate_every=5", "train.plateau=1"]) == 1
    assert "validation is on, but the data has no held-out samples" in capsys.readouterr().out


def span(start=0, end=100, **train):
    return StagePlan(index=0, name="s", start=start, end=end, lr_start=start, lr_end=end, train=Train(**train), zero=Zero(), frozen=frozenset())


def test_what_the_steps_are_too_few_for_is_said():
    assert setting_notes([span(warmup=10, validate_every=10, plateau=2)]) == []
    (line,) = setting_notes([span(end=8, warmup=10)])
    assert line.startswith("train.warmup=10 is not shorter than its 8 steps")
    assert len(setting_notes([span(end=50, warmup=1, ema=Ema(every=60), validate_every=20, plateau=2)])) == 2


# the rank of an adapter


def test_a_rank_above_the_width_of_a_layer():
    layers = {"blocks.0.wide": (64, 64), "blocks.0.low": (8, 64), "blocks.1.low": (64, 4), "head": (2, 64)}
    assert Adapter(rank=4).too_wide(layers) == []
    assert Adapter(rank=16).too_wide(layers) == [
        ("rank 16 is above the width of blocks.1.low, 64 x 4 and 1 more", "set adapter.rank to 4 or less, or exclude narrow layers with adapter.targets")
    ]
    assert Adapter(rank=16, targets=["wide"]).too_wide(layers) == []


def test_a_rank_above_the_width_is_a_problem_of_a_recipe_whose_weights_are_here(tmp_path, monkeypatch):
    from mgzoo.model.build import build
    from mgzoo.model.save import save
    from mgzoo.share.push import push

    monkeypatch.chdir(tmp_path)
    whole = ["stages=[]", "train.validate_every=0", "parts.autoencoder.weights=null", "parts.autoencoder.config={size: tiny}",
             "parts.backbone.config={depth: 1, width: 32, heads: 1, ffn: 32, max_len: [4, 8, 8]}"]  # fmt: skip
    (tmp_path / "registry").mkdir()
    model = build(compose(BASE, [*whole, "parts.autoencoder.frozen=false"]))
    push(save(model, tmp_path / "base", golden=False), "registry/base", probe=False)
    adapted = [*whole, "parts.backbone.weights=registry/base"]
    assert found(*adapted, "parts.backbone.adapter={rank: 32}") == []
    (problem,) = found(*adapted, "parts.backbone.adapter={rank: 33}")
    assert problem[0] == "parts.backbone.adapter.rank" and problem[1].startswith("rank 33 is above the width of blocks.0.")
