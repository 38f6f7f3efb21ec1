"""What each stage teaches, on a micro budget; the whole path of the recipe; and a border between stages, crossed exactly."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mgzoo
from mgzoo.spec import MgzooError
from mgzoo.train.loop import Loop
from mgzoo_edit.back_translation import back_translate
from mgzoo_edit.configs import DirectionConfig
from mgzoo_edit.direction import Direction
from mgzoo_emoji.configs import PairsConfig
from mgzoo_emoji.pairs import Pairs
from mgzoo_emoji.reversible import reversible_edits

sys.path.insert(0, str(Path(__file__).parent))
import edit_micro as micro  # noqa: E402

SHADES = (0.4, 0.6, 0.8, 1.0)
SEEN, UNSEEN = [(shade, colour) for shade in SHADES for colour in micro.COLOURS], [(shade, colour) for shade in (0.5, 0.9) for colour in micro.COLOURS]


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    """An editor after stage one: single frames five times as often as clips from text."""
    made = micro.model(tmp_path_factory.mktemp("stills"))
    singles, texts = [micro.pair(*one) for one in SEEN], [micro.text_to_video(colour) for colour in micro.COLOURS]
    micro.descend(made, [singles] * 5 + [texts], 150)
    return made


def swapped(clips, task="texture"):
    """The same targets and sources with each other's instruction."""
    other = {"make it red": "make it blue", "make it blue": "make it red"}
    return [type(clip)(**{**vars(clip), "caption": other[clip.caption]}) for clip in clips]


def unsourced(clips):
    """The same targets and instructions with the next one's source."""
    turned = clips[2:] + clips[:2]
    return [type(one)(**{**vars(one), "extra": other.extra}) for one, other in zip(clips, turned)]


def test_stage_one_edits_single_frames_by_instruction_and_by_source_wherever_they_lie(stills):
    """On shades it never saw: better with the right instruction than the wrong one, and with the right source than another."""
    unseen = [micro.pair(*one) for one in UNSEEN]
    right = micro.held(stills, unseen)
    assert right < 0.8 * micro.held(stills, swapped(unseen)) and right < 0.95 * micro.held(stills, unsourced(unseen))
    example = stills.task.prepare(stills, unseen)
    x, t = torch.cat([torch.randn(example.latents.shape, generator=torch.Generator().manual_seed(1)), example.concat], 1), torch.full((4,), 0.5)
    told = {**stills.encode_conditions(example.inputs), **stills.task(example.tasks)}
    with torch.no_grad():
        first, second = (stills.backbone(x, t, told, torch.full((4,), place)) for place in (0, 1))
    assert (first - second).norm() < 0.3 * first.norm()


def test_stage_two_edits_what_moves(stills, tmp_path):
    """Moving pairs, which stage one never saw, come out better; and still by the instruction."""
    made = micro.model(tmp_path)
    made.load_state_dict(stills.state_dict())
    unseen = [micro.pair(*one, 16, True) for one in UNSEEN]
    before = micro.held(made, unseen)
    micro.descend(made, [[micro.pair(*one, 16, True) for one in SEEN]] * 3 + [[micro.text_to_video(colour) for colour in micro.COLOURS]], 80)
    after = micro.held(made, unseen)
    assert after < 0.8 * before and after < 0.8 * micro.held(made, swapped(unseen))


def test_stage_three_makes_real_targets_of_made_sources(stills, tmp_path):
    """From the sources that a model makes, other than real ones, to the real target."""
    made = micro.model(tmp_path)
    made.load_state_dict(stills.state_dict())
    unseen = [micro.pair(*one, 16, True, made=True) for one in UNSEEN]
    before = micro.held(made, unseen)
    micro.descend(made, [[micro.pair(*one, 16, True, made=True) for one in SEEN], [micro.pair(*one, 16, True) for one in SEEN]], 80)
    assert micro.held(made, unseen) < 0.8 * before


# ------------------------------------------------------------------------------------------- back-translation

PAIRS = dict(frames=16, height=16, width=16, scenes=4, texts=4, stills="", keep_mb=60)


def test_the_filter_wants_a_change_in_the_right_place_and_nowhere_else():
    keep, real = Direction(DirectionConfig()), torch.full((2, 16, 16, 3), 200, dtype=torch.uint8)
    region = torch.zeros(2, 16, 16, dtype=torch.bool)
    region[:, :8] = True
    edited, everywhere, elsewhere = real.clone(), real - 90, real.clone()
    edited[:, :8] -= 90
    elsewhere[:, 8:] -= 90
    scores = [keep.score(video, real, region) for video in (edited, everywhere, elsewhere, real)]
    assert scores[0] > 0.9 and scores[1] < 0.51 and scores[2:] == [0.0, 0.0]
    assert [keep.config.keeps(score) for score in scores] == [True, False, False, False]
    assert keep.score(everywhere, real, None) > 0.9, "where all of it may change, all of it may"


RECIPE = micro.RECIPE.replace("train: {batch: 4, precision: fp32}", """
data: {use: edit.pairs.v1, config: {frames: 16, height: 16, width: 16, scenes: 4, texts: 4, stills: "", keep_mb: 60}}
train: {batch: 4, precision: bf16, warmup: 2, log_every: 1, save_every: 3, ema: {decay: 0.9}}
zero: {stage: 2}
stages:
  - {name: image, steps: 4, set: {train.lr: 2.0e-3, data.config.frames: 1, data.config.text_frames: 16, data.config.mix: {edit: 5, text_to_video: 1, animated: 0, segment: 0, back_translated: 0}, parts.encoders.text.frozen: true}}
""")
FRAMES = """  - {name: frames, steps: 4, set: {train.lr: 2.0e-3, data.config.mix: {animated: 3, segment: 1, edit: 2, text_to_video: 1, back_translated: 0}}}
"""
BACK = """  - {name: back, steps: 4, set: {train.lr: 1.0e-3, data.config.back_translated: PLACE, data.config.mix: {back_translated: 3, edit: 1, text_to_video: 1, animated: 0, segment: 0}}}
"""


def weights(run):
    return {str(file.relative_to(run.artifact)): load_file(file) for file in sorted(run.artifact.rglob("model*.safetensors"))}


def test_the_recipes_path_and_an_exact_resume_across_borders(tmp_path, monkeypatch):
    """Two stages, the data made by their model, the third stage on top, each a resumed run; the same bits as all stages in one go.

    Between the first two stages the text encoder begins to learn, under ZeRO 2.
    """
    monkeypatch.chdir(tmp_path)
    back = BACK.replace("PLACE", str(tmp_path / "back"))
    for name, text in (("one", RECIPE), ("two", RECIPE + FRAMES), ("three", RECIPE + FRAMES + back)):
        Path(f"{name}.yaml").write_text(text)
    mgzoo.train(mgzoo.compose("one.yaml"), "run")
    run = mgzoo.train(mgzoo.compose("two.yaml"), "run", resume=True)
    made = mgzoo.load(run.artifact)
    edits = reversible_edits(Pairs(PairsConfig(**PAIRS), seed=0))
    said = back_translate(made, edits, "back", count=4, batch=2, steps=1, keep=Direction(DirectionConfig(least=0.0)))
    rows = [json.loads(line) for line in Path("back/captions.jsonl").read_text().splitlines()]
    assert said["kept"] == 4 == len(rows) and all(Path("back", row["source"]).is_file() for row in rows)
    with pytest.raises(MgzooError, match="already contains pairs"):
        back_translate(made, edits, "back", count=4, keep=Direction(DirectionConfig()))

    heard, enter = [], Loop.enter_stage
    monkeypatch.setattr(Loop, "enter_stage", lambda loop, span: (heard.append(span.name), enter(loop, span)))
    resumed = mgzoo.train(mgzoo.compose("three.yaml"), "run", resume=True)
    whole = mgzoo.train(mgzoo.compose("three.yaml"), "whole")
    assert heard == ["frames", "back", "image", "frames", "back"] and resumed.steps == whole.steps == 12
    one, other = weights(resumed), weights(whole)
    assert one.keys() == other.keys() and {"task/model.safetensors", "backbone/model.safetensors", "encoders.text/model.safetensors"} <= one.keys()
    assert all(torch.equal(one[file][key], other[file][key]) for file in one for key in one[file])
    untrained = mgzoo.model.build(mgzoo.compose("three.yaml"))
    assert not torch.equal(one["task/model.safetensors"]["vectors.weight"], untrained.task.vectors.weight)


def test_a_model_that_makes_nothing_of_use_is_said(tmp_path):
    made = micro.model(tmp_path)
    with pytest.raises(MgzooError, match="the filter rejects all 4 generated pairs"):
        back_translate(made, reversible_edits(Pairs(PairsConfig(**PAIRS))), tmp_path / "back", count=1, batch=2, steps=1, keep=Direction(DirectionConfig(least=1.0)))
