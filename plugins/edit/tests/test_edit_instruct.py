"""Laws of the editing head on real tiny parts: what is fed, what is dropped, what guides, what a request gets back."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from mgzoo.media import Media
from mgzoo.model.build import build
from mgzoo.spec import MgzooError
from mgzoo_edit.heads import windowed
from mgzoo_edit.sources import choose_source, fit_source
from mgzoo_edit.tasks import EDITS, TASKS, guess_task
from mgzoo_emoji.instruction_templates import HELD_OUT_TEMPLATES, LOOKS, TEMPLATES, VENDORS
from mgzoo_emoji.scenes import TASK_OF

sys.path.insert(0, str(Path(__file__).parent))
import edit_micro as micro  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return micro.model(tmp_path_factory.mktemp("recipe"))


def clip(frames=16, height=16, width=16, **more):
    torch.manual_seed(frames + height)
    return Media(video=torch.randint(0, 255, (frames, height, width, 3), dtype=torch.uint8), fps=more.pop("fps", 8.0), **more)


# ------------------------------------------------------------------------------------------------ what is fed


def test_a_fresh_editor_is_deaf_to_its_source_and_its_weights_can_learn(model):
    fresh = build(model.recipe)
    torch.nn.init.normal_(fresh.backbone.output.weight, std=0.05)
    example = fresh.task.prepare(fresh, [micro.pair(0.5, "red", 16)])
    conditions = {**fresh.encode_conditions(example.inputs), **fresh.task(example.tasks)}
    x, t = torch.randn(example.latents.shape), torch.tensor([0.4])

    def predicted(concat):
        return fresh.backbone(torch.cat([x, concat], 1), t, conditions)

    assert torch.equal(predicted(example.concat), predicted(torch.zeros_like(example.concat)))
    fresh.task.loss(fresh, example, torch.Generator().manual_seed(0)).total.backward()
    columns = fresh.backbone.embed.weight.grad[:, 16:]
    assert columns.abs().max() > 0 and fresh.task.vectors.weight.grad[TASKS.index("texture")].abs().max() > 0


def test_an_editor_widened_from_a_text_to_video_model_predicts_what_that_one_does(model):
    """With the base's conditions and any source: new input columns are zero. The tokens of the edit are new keys of attention, so with them
    it is the same only up to what they take of it."""
    base = build(dataclasses.replace(model.recipe, parts={name: part for name, part in model.recipe.parts.items() if name != "task"}))
    micro_state = {key: value for key, value in model.backbone.state_dict().items() if not key.startswith("conditions.edit")}
    micro_state["embed.weight"] = micro_state["embed.weight"][:, :16]
    base.backbone.load_state_dict(micro_state)
    fed = type(base.backbone)(base.recipe.parts["backbone"].config, latent=base.backbone.latent, conditions=[base.encoders["text"].spec], concat_channels=16)
    state, new = fed.expand_state_dict(base.backbone.state_dict())
    fed.load_state_dict(state)
    x, t, told = torch.randn(2, 16, 2, 2, 2), torch.rand(2), base.encode_conditions({"text": ["a cat", "a dog that runs"]})
    assert new == ["embed.weight"]
    assert torch.equal(fed(torch.cat([x, torch.randn_like(x)], 1), t, told), base.backbone(x, t, told))
    state, new = build(model.recipe).backbone.expand_state_dict(base.backbone.state_dict())
    assert {key.split(".")[0] for key in new} == {"conditions", "embed"} and not state["embed.weight"][:, 16:].any()


def test_a_text_to_video_sample_has_a_black_source_and_a_dropped_one_has_none(model):
    example = model.task.prepare(model, [micro.text_to_video("red"), micro.pair(0.5, "blue", 16)])
    black = model.autoencoder.encode(torch.full((1, 3, 16, 16, 16), -1.0))
    assert torch.allclose(example.concat[:1], black, atol=1e-5) and black.abs().max() > 0.1
    assert example.tasks.tolist() == [0, TASKS.index("texture")]


def test_text_source_or_both_are_dropped_each_in_its_share_and_the_task_never(model):
    heard, task, recipe = [], model.task, model.recipe

    def listen(module, given):
        latents, _, conditions = given
        fed = latents[:, 16:].flatten(1).abs().amax(1) > 0
        heard.append((fed, conditions["text"].mask.any(1), conditions["edit_tokens"].mask.all(1) & conditions["edit_shift"].mask))

    own, handle = task.config, model.backbone.register_forward_pre_hook(listen)
    task.config = dataclasses.replace(own, text_dropout=0.3, source_dropout=0.2)
    model.recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, condition_dropout=0.1))
    try:
        example = task.prepare(model, [micro.pair(0.5, "red", 16)] * 32)
        with torch.no_grad():
            for step in range(40):
                task.loss(model, example, torch.Generator().manual_seed(step))
    finally:
        handle.remove()
        model.recipe, task.config = recipe, own
    fed, told, edit = (torch.cat(rows).float().mean().item() for rows in zip(*heard))
    both = ((torch.cat([f for f, _, _ in heard]) | torch.cat([w for _, w, _ in heard])) == 0).float().mean().item()
    assert edit == 1.0
    assert abs(1 - fed - (1 - 0.9 * 0.8)) < 0.04 and abs(1 - told - (1 - 0.9 * 0.7)) < 0.04 and abs(both - (0.1 + 0.9 * 0.3 * 0.2)) < 0.04


def test_a_single_frame_lies_anywhere_in_time_and_a_clip_at_the_start(model):
    draw = [model.task._random_starts(model, torch.zeros(8, 16, 1, 2, 2), torch.Generator().manual_seed(i)) for i in range(8)]
    assert set(torch.cat(draw).tolist()) == {0, 1}
    assert model.task._random_starts(model, torch.zeros(8, 16, 2, 2, 2), torch.Generator()) is None
    mixed = [torch.zeros(16, 2, 2, 2), torch.zeros(16, 1, 2, 2)]
    assert {tuple(model.task._random_starts(model, mixed, torch.Generator().manual_seed(i)).tolist()) for i in range(8)} == {(0, 0), (0, 1)}


def test_a_batch_may_mix_tasks_and_sizes(model):
    example = model.task.prepare(model, [micro.pair(0.5, "red"), micro.text_to_video("blue")])
    assert isinstance(example.latents, list) and isinstance(example.concat, list)
    assert torch.isfinite(model.task.loss(model, example, torch.Generator().manual_seed(0)).total)


@pytest.mark.parametrize("extra, message", [
    ({"task": "paint"}, "has the unknown task 'paint'"),
    ({"task": "add"}, "is an edit .add. without a source"),
    ({"task": "add", "source": lambda: torch.zeros(1, 16, 16, 3, dtype=torch.uint8), "source_digest": "x1"}, "source of .* does not have the size of its target"),
])
def test_a_sample_that_does_not_hold_together_is_named(model, extra, message):
    sample = dataclasses.replace(micro.pair(0.5, "red", 16), extra=extra)
    with pytest.raises(MgzooError, match=message):
        model.task.prepare(model, [sample])


# ------------------------------------------------------------------------------------------------- guidance


def test_guidance_by_source_and_by_text_are_apart(model):
    """At scale 0 a condition is not heard; at 1 it is."""
    one, other = clip(), dataclasses.replace(clip(), video=255 - clip().video)
    with torch.no_grad():
        model.backbone.embed.weight[:, 16:].normal_(std=0.3)

    def differ(first, second):
        return (first.video.int() - second.video.int()).abs().max() > 1

    def made(source=one, prompt="make it red", **scales):
        return model.generate(prompt, source=source, edit="texture", **scales)

    assert differ(made(one), made(other)) and differ(made(), made(prompt="make it blue"))
    assert not differ(made(one, source_guidance=0.0, guidance=0.0), made(other, source_guidance=0.0, guidance=0.0))
    assert not differ(made(guidance=1.5, prompt="a"), made(guidance=1.5, prompt="a"))
    blind = [made(prompt=words, source_guidance=2.0, guidance=0.0) for words in ("make it red", "make it blue")]
    assert differ(made(one, source_guidance=2.0, guidance=0.0), made(other, source_guidance=2.0, guidance=0.0))
    # v(nothing) + 2 (v(source) - v(nothing)) + 0 (v(source, text) - v(source)): the words are in no branch that counts
    assert not differ(*blind)


# ------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("frames, height, width, fps", [(16, 16, 16, 8.0), (2, 16, 16, 25.0), (37, 23, 41, 29.97), (5, 1, 90, 3.0), (17, 64, 48, 8.0)])
def test_an_edit_has_its_sources_size_length_rate_and_sound(model, frames, height, width, fps):
    sound = torch.rand(2, 1234) - 0.5
    made = model.generate("add a ball", source=clip(frames, height, width, fps=fps, audio=sound, rate=44100))
    assert made.video.shape == (frames, height, width, 3) and made.fps == fps
    assert torch.equal(made.audio, sound) and made.rate == 44100
    assert made.meta["edit"] == "add" and made.meta["edit_guessed"] is True


def test_a_picture_is_edited_as_a_picture(model):
    made = model.generate("make it red", picture=clip(1, 20, 12, fps=None), edit="style")
    assert made.video.shape == (1, 20, 12, 3) and made.fps is None and made.meta["edit"] == "style" and not made.meta["edit_guessed"]


@pytest.mark.parametrize("request_, message", [
    ({"prompt": "  ", "source": clip()}, "the instruction is empty"),
    ({"prompt": "red " * 30, "source": clip()}, "the instruction is too long: encoders.text reads 24 of 33 words, frame rate included"),
    ({"prompt": "make it red"}, "no source to edit"),
    ({"prompt": "make it red", "source": clip(), "picture": clip(1)}, "--source and --picture cannot be combined"),
    ({"prompt": "make it red", "source": clip(1)}, "--source expects a clip; this file is a single image"),
    ({"prompt": "make it red", "picture": clip(3)}, "--picture expects a picture; this file is a clip of 3 frames"),
    ({"prompt": "make it red", "source": Media(audio=torch.zeros(1, 100), rate=8000)}, "a sound without video"),
    ({"prompt": "make it red", "source": clip(), "edit": "paint"}, "--edit is 'paint', not one of"),
    ({"prompt": "make it red", "source": clip(), "frames": 3}, "does not support frames"),
])
def test_a_request_that_cannot_be_met_says_why(model, request_, message):
    with pytest.raises(MgzooError, match=message):
        model.generate(**request_)


def test_a_sound_that_no_clip_could_hold_is_known_before_the_work(tmp_path):
    surround = choose_source(clip(audio=torch.full((6, 8000), 0.1), rate=8000), None)
    assert torch.equal(surround.audio, torch.full((6, 8000), 0.1)), "mixed down as it is written"
    odd = choose_source(clip(audio=torch.zeros(1, 11_000), rate=11_000), None)
    assert odd.rate == 48_000 and odd.audio.shape == (1, 48_000)
    for one in (surround, odd):
        one.save(tmp_path / "a.mp4")
    with pytest.raises(MgzooError, match="AAC cannot hold"):
        clip(audio=torch.zeros(1, 11_000), rate=11_000).save(tmp_path / "b.mp4")


def test_the_task_is_guessed_from_the_words():
    slots = dict(tone="dark", was="man", person="woman", name="fox", back="red stripes", a_thing="a tiger", thing="tiger", place="top left", texture="blue",
                 marked="fox", mark="red")
    for kind, templates in [*TEMPLATES.items(), *HELD_OUT_TEMPLATES.items()]:
        for look in [*LOOKS.values(), *VENDORS.values()] if kind == "look" else [""]:
            for template in templates:
                assert guess_task(template.format(**slots, look=look)) == TASK_OF[kind], template
    assert guess_task("make the sky red") == "background" and guess_task("let it snow") == "local" and guess_task("") in EDITS


# ----------------------------------------------------------------------------------------- size and windows


@pytest.mark.parametrize("size", [(16, 64, 64), (16, 30, 64), (16, 64, 7), (16, 128, 500), (3, 64, 64)])
def test_a_source_is_put_in_the_picture_and_taken_out_again(size):
    """Whole, in the middle, its border repeated; where nothing is scaled the same bits come back."""
    video = torch.arange(size[1] * size[2]).remainder(251).view(1, size[1], size[2], 1).expand(size[0], -1, -1, 3).to(torch.uint8)
    into = fit_source(video, 16, 64, 64)
    assert into.video.shape == (16, 64, 64, 3) and into.restore(into.video).shape == video.shape
    if max(size[1:]) == 64:
        assert torch.equal(into.restore(into.video), video)
        top, left = into.corner
        assert torch.equal(into.video[0, top, :, 0], into.video[0, 0, :, 0]) and torch.equal(into.video[0, :, left, 0], into.video[0, :, 0, 0])


def test_windows_see_only_their_own_and_one_window_is_the_model_itself(model):
    """Each window is denoised from its own part of source and latents; where windows do not overlap, they are as if alone."""
    with torch.no_grad():
        model.backbone.embed.weight[:, 16:].normal_(std=0.3)
    told = {**model.encode_conditions({"text": ["make it red", "a"]}), **model.task(torch.tensor([1, 2]))}
    x, source, t = torch.randn(2, 16, 4, 2, 2), torch.randn(2, 16, 4, 2, 2), torch.tensor([0.3, 0.7])
    branches = [frozenset(), frozenset({"source", "text"})]
    with torch.no_grad():
        whole = windowed(model, told, {"source": source}, source, 2, 0)(x, t, branches)
        for part in (slice(0, 2), slice(2, 4)):
            alone = model.denoiser(told, concat={"source": source[:, :, part]})(x[:, :, part], t, branches)
            for found, expected in zip(whole, alone):
                torch.testing.assert_close(found[:, :, part], expected, rtol=1e-4, atol=1e-5)
        short = windowed(model, told, {"source": source[:, :, :2]}, source[:, :, :2], 2, 1)(x[:, :, :2], t, branches)
        expected = model.denoiser(told, concat={"source": source[:, :, :2]})(x[:, :, :2], t, branches)
    assert all(torch.equal(a, b) for a, b in zip(short, expected))
