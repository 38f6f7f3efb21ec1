"""The personalization head on real tiny parts: what each stage trains and learns, what a request gives, and what is refused."""

import dataclasses
import shutil

import pytest
import torch
from PIL import Image

import mgzoo
from mgzoo.media import Media
from mgzoo.model.build import build
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo.tasks import encode_example, override_sampler
from mgzoo.train.stages import plan_stages
from mgzoo_personalize.pairs import Reference as Picture

RECIPE = """
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, config: {size: tiny}, frozen: true}
  encoders:
    text: {use: encoders.bytes.v1, config: {size: tiny}, frozen: true}
    reference: {use: encoders.patches.v1, config: {size: 32, patch: 8, width: 64, depth: 1}}
  backbone: {use: backbones.llama3.v1, config: {depth: 2, width: 64, heads: 2, ffn: 128, max_len: [4, 4, 4]}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 3, guidance: 2.0}}
  task: {use: personalize.reference.v1, config: {frames: 8, height: 32, width: 32, fps: 8, finder: paper, crop: 32, smallest: 12}}
data:
  use: personalize.pairs.v1
  config: {path: data/emoji64, frames: 8, height: 32, width: 32, crop: 32, cross: 0.0}
train: {batch: 4, condition_dropout: 0.1, precision: fp32, lr: 1.0e-3, warmup: 0}
stages:
  - {name: look, steps: 2, set: {parts.backbone.frozen: true, data.config.frames: 1}}
  - {name: identity, steps: 2, set: {parts.encoders.reference.frozen: true}}
  - {name: natural, steps: 2}
"""
RED, BLUE = (220, 40, 30), (20, 30, 90)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "personalize.yaml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def model(file):
    return build(mgzoo.compose(file))


def still(colour, size=32, radius=10):
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    picture = torch.full((size, size, 3), 255, dtype=torch.uint8)
    picture[(rows - size // 2) ** 2 + (columns - size // 2) ** 2 <= radius**2] = torch.tensor(colour, dtype=torch.uint8)
    return picture


def clip(colour, frames=8, reference=None, caption="person"):
    video = torch.tensor(colour, dtype=torch.uint8).expand(frames, 32, 32, 3).contiguous()
    name = f"{colour} {frames}".encode().hex()
    extra = {"reference": Picture(digest=f"{reference}".encode().hex(), load=lambda: still(reference), cross=True)} if reference else {}
    return Clip(key=name, digest=name, caption=caption, frames=frames, height=32, width=32, fps=8.0, load=lambda: video, extra=extra)


def test_the_stages_train_what_they_say(model, file):
    recipe = mgzoo.compose(file)
    wanted = [["encoders.reference"], ["backbone"], ["backbone", "encoders.reference"]]
    for span, names in zip(plan_stages(recipe), wanted, strict=True):
        assert [name for name in model.task.trained(model) if name not in span.frozen] == names


def test_a_frozen_vision_encoder_comes_through_the_cache_and_a_trained_one_gets_pictures(file):
    recipe = mgzoo.compose(file)
    model = build(recipe)
    clips = [clip(RED, reference=BLUE), clip(BLUE)]
    trained = model.task.prepare(model, clips)
    assert list(trained.inputs) == ["reference"] and list(trained.conditions) == ["text"]
    assert [tuple(one.shape) for one in trained.inputs["reference"]] == [(3, 1, 32, 32)] * 2
    model.recipe = recipe.at_stage(1)
    frozen = model.task.prepare(model, clips)
    assert not frozen.inputs and set(frozen.conditions) == {"text", "reference"}
    fresh = model.encoders["reference"](trained.inputs["reference"])
    torch.testing.assert_close(frozen.conditions["reference"].values, fresh.values, rtol=1e-4, atol=1e-5)


def test_a_clip_without_a_reference_is_its_own(model):
    pictures = model.task.prepare(model, [clip(RED), clip(RED, reference=BLUE)]).inputs["reference"]
    middle = [((one[:, 0, 16, 16] + 1) * 127.5).round().tolist() for one in pictures]
    assert middle[0] == pytest.approx(RED, abs=3) and middle[1] == pytest.approx(BLUE, abs=3)


def test_look_teaches_the_encoder_which_pictures_belong_together(file):
    """Four colours, the reference half as bright as the clip: after 40 steps a reference is nearest to its own clip's frame for pictures with noise
    that were not trained on. Before, it is not."""
    recipe = mgzoo.compose(file)
    model = build(recipe)
    model.recipe = recipe.at_stage(0)
    colours = [(220, 40, 30), (30, 60, 220), (40, 190, 60), (210, 190, 40)]
    dark = [tuple(c // 2 for c in colour) for colour in colours]
    example = model.task.prepare(model, [clip(a, frames=1, reference=b, caption=name) for a, b, name in zip(colours, dark, ("red", "blue", "green", "yellow"))])
    assert len(example.inputs["reference"]) == 8

    def shaken(seed):
        noise = torch.Generator().manual_seed(seed)
        return dataclasses.replace(example, inputs={"reference": [x + 0.1 * torch.randn(x.shape, generator=noise) for x in example.inputs["reference"]]})

    before = model.task.contrastive_loss(model, shaken(1000)).item()
    optimiser = torch.optim.AdamW(model.encoders["reference"].parameters(), lr=1e-3)
    for step in range(40):
        optimiser.zero_grad()
        model.task.loss(model, shaken(step), torch.Generator()).total.backward()
        optimiser.step()
    assert model.task.contrastive_loss(model, shaken(1000)).item() < 0.1 < before / 5


def test_pictures_are_taught_to_be_as_near_as_their_words(file):
    """Where half of the target goes by the words, two captions of one subject are nearer each other than a third, and the same words for all
    say nothing beyond who is who; where none of it does, each is itself alone."""
    recipe = mgzoo.compose(file, ["parts.task.config.text_target_weight=0.5"])
    assert recipe.tree == mgzoo.compose(file, ["parts.task.config.words=0.5"]).tree, "its name before"
    model = build(recipe)
    model.recipe = recipe.at_stage(0)
    words = ("a tall man with red hair", "a tall man with red hair", "green", "blue")
    example = model.task.prepare(model, [clip(RED, frames=1, reference=BLUE, caption=one) for one in words])
    near = model.task.soft_targets(model, example)
    torch.testing.assert_close(near.sum(1), torch.ones(4))
    assert near[0, 1] > near[0, 2] + 0.1 and near[0, 0] > near[0, 1]
    alike = model.task.soft_targets(model, model.task.prepare(model, [clip(RED, frames=1, reference=BLUE, caption="the same")] * 4))
    torch.testing.assert_close(alike, 0.5 * torch.eye(4) + 0.125)
    plain = build(mgzoo.compose(file))
    plain.recipe = plain.recipe.at_stage(0)
    torch.testing.assert_close(plain.task.soft_targets(plain, example), torch.eye(4))


def learnt(model, parameters, steps, clips):
    """Squared distance of the latents drawn for each reference to its clip's, as a share of that to the other's, after so many steps."""
    example = model.task.prepare(model, clips * 4)
    optimiser = torch.optim.AdamW(parameters, lr=3e-3)
    for step in range(steps):
        optimiser.zero_grad()
        model.task.loss(model, example, torch.Generator().manual_seed(step)).total.backward()
        optimiser.step()
    with torch.no_grad():
        asked = model.task.prepare(model, clips)
        conditions, latents = encode_example(model, asked), asked.latents
        sampler = override_sampler(model.sampler, steps=12, guidance=1.0)
        drawn = sampler.sample(model.denoiser(conditions), latents.shape, torch.Generator().manual_seed(0), conditions=tuple(conditions))
    return ((drawn - latents).square().flatten(1).mean(1) / (drawn - latents.flip(0)).square().flatten(1).mean(1)).tolist()


@pytest.mark.parametrize("stage", [1, 2], ids=["identity", "natural"])
def test_who_is_drawn_is_who_the_picture_shows(file, stage):
    """One prompt for two clips: only the reference tells them apart. In `identity` it is a frozen encoder's, in `natural` it learns along, with references
    in other colours than the clips'."""
    recipe = mgzoo.compose(file)
    model = build(recipe)
    model.recipe = recipe.at_stage(stage)
    shown = (RED, BLUE) if stage == 1 else ((60, 160, 60), (200, 180, 40))
    clips = [clip(RED, reference=shown[0]), clip(BLUE, reference=shown[1])]
    parameters = [p for name in ("backbone", *(["encoders.reference"] if stage == 2 else [])) for p in model.part(name).parameters()]
    assert max(learnt(model, parameters, 0, clips)) > 0.7
    assert max(learnt(model, parameters, 200, clips)) < 0.5


def test_a_request_gives_a_clip_of_the_size_and_prompt_asked_for(model):
    reference = Media(video=still(RED, 40)[None])
    media = model.generate("a person running", reference=reference, seed=1, frames=5, width=16)
    assert media.video.shape == (5, 32, 16, 3) and (media.caption, media.meta["seed"]) == ("a person running", 1)
    many = model.generate(["a person", "a person running"], reference=reference)
    assert len(many) == 2 and many[1].meta["seed"] == 1


def test_the_picture_changes_what_is_drawn(model):
    torch.manual_seed(0)
    torch.nn.init.normal_(model.backbone.output.weight, std=0.1)
    torch.nn.init.normal_(model.backbone.modulation.weight, std=0.1)
    red, blue = (model.generate("a person", reference=Media(video=still(c)[None])).video for c in (RED, BLUE))
    none = model.task.generate_clips(model, ["a person"], None)[0].video
    assert not torch.equal(red, blue) and not torch.equal(red, none)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "missing in the request: reference"),
        ({"reference": Media(video=torch.stack([still(RED)] * 3), fps=4.0)}, "--reference expects a picture; this file is a clip of 3 frames"),
        ({"reference": Media(audio=torch.zeros(1, 800), rate=8000)}, "--reference expects a picture; this file is a sound"),
        ({"reference": Media(video=torch.full((1, 40, 40, 3), 255, dtype=torch.uint8))}, "there is no subject in the reference"),
        ({"reference": Media(video=still(RED, 40, 3)[None])}, "the subject in the reference has 7 pixels, but needs at least 12"),
        ({"reference": Media(video=torch.cat([still(RED), still(BLUE)], 1)[None])}, "2 subjects found in the reference"),
        ({"reference": Media(video=still(RED)[None]), "subject": 2}, "subject 2 does not exist: 1 found"),
        ({"reference": Media(video=still(RED)[None]), "subject": "left"}, "--subject is 'left', not an integer"),
        ({"reference": Media(video=still(RED)[None]), "height": 33}, "height 33 is not a multiple"),
        ({"reference": Media(video=still(RED)[None]), "prompt": " "}, "the prompt is empty"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(model, request_, message):
    with pytest.raises(MgzooError) as caught:
        model.generate(**{"prompt": "a person", **request_})
    assert message in str(caught.value) and "->" in str(caught.value)


def test_of_two_the_chosen_one_is_drawn_from(model):
    both = Media(video=torch.cat([still(RED), still(BLUE)], 1)[None])
    for number, colour in ((1, RED), (2, BLUE)):
        assert model.task.cut_reference(both, number)[16, 16].tolist() == list(colour)


def test_a_picture_with_transparency_and_odd_sizes_is_read_from_its_file(model, tmp_path):
    rgba = torch.cat([still(RED, 45, 14), torch.zeros(45, 45, 1, dtype=torch.uint8)], 2)
    rgba[..., 3] = (still(RED, 45, 14)[..., 1] < 200) * 255
    rgba[..., :3] = torch.tensor(RED, dtype=torch.uint8)  # hidden colour that must not show
    Image.fromarray(rgba.numpy(), "RGBA").crop((0, 2, 45, 43)).save(tmp_path / "odd.png")
    media = model.generate("a person", reference=tmp_path / "odd.png")
    assert media.video.shape == (8, 32, 32, 3)
    crop = model.task.cut_reference(mgzoo.media.read(tmp_path / "odd.png"))
    assert (crop[0] == 255).all() and crop[16, 16].tolist() == list(RED)


@pytest.mark.parametrize("zero", [2, 3])
def test_a_run_resumes_exactly_across_the_border_where_the_vision_encoder_thaws(file, tmp_path, zero):
    """Stopped one step before the border (or at it) and resumed, the run ends with the bits of one that was not stopped."""
    settings = [f"zero.stage={zero}", "train.save_every=1", "train.keep_checkpoints=9", "train.batch=2", "stages.0.steps=1"]
    recipe = mgzoo.compose(file, settings)
    whole = mgzoo.train(recipe, out=tmp_path / "whole")
    for at in (3, 4):  # inside identity, and its last step
        again = tmp_path / f"again{at}"
        (again / "checkpoints").mkdir(parents=True)
        name = f"step-{at:06d}"
        shutil.copytree(tmp_path / "whole" / "checkpoints" / name, again / "checkpoints" / name)
        (again / "checkpoints" / "latest").write_text(f"{name}\n")
        shutil.copy(tmp_path / "whole" / "recipe.lock.json", again)
        run = mgzoo.train(recipe, out=again, resume=True)
        one, other = (mgzoo.load(r.artifact).state_dict() for r in (whole, run))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
