"""Laws of the text-to-video head on real tiny parts: sizes, seeds, guidance, dropped captions, what was learnt."""

import dataclasses

import pytest
import torch

import mgzoo
from mgzoo.model.build import build
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo.tasks import drop_conditions, encode_example, prompt_with_fps

RECIPE = """
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, config: {size: tiny}, frozen: true}
  encoders:
    text: {use: encoders.bytes.v1, config: {size: tiny}}
  backbone: {use: backbones.llama3.v1, config: {depth: 2, width: 64, heads: 2, ffn: 128, max_len: [4, 4, 4]}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 3, guidance: 2.0}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 32, width: 32, fps: 8}}
data:
  use: video.clips.v1
  config: {path: data/emoji64, frames: 8, height: 32, width: 32}
train: {batch: 4, condition_dropout: 0.5}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "t2v.yaml"
    file.write_text(RECIPE)
    return build(mgzoo.compose(file))


def clip(caption: str, shade: int, frames: int = 8, size: int = 32) -> Clip:
    video = torch.full((frames, size, size, 3), shade, dtype=torch.uint8)
    return Clip(key=caption, digest=f"{caption}-{shade}-{frames}-{size}", caption=caption, frames=frames, height=size, width=size,
                fps=8.0, load=lambda: video)


def wake(model):
    """The output layer starts at zero: give it weights, so that conditions show."""
    torch.manual_seed(0)
    torch.nn.init.normal_(model.backbone.output.weight, std=0.1)
    torch.nn.init.normal_(model.backbone.modulation.weight, std=0.1)


def test_a_clip_has_the_size_rate_and_caption_that_were_asked_for(model):
    media = model.generate("a cat", seed=1, frames=5, height=32, width=16, fps=12)
    assert media.video.shape == (5, 32, 16, 3) and media.video.dtype == torch.uint8
    assert (media.fps, media.caption, media.meta["seed"]) == (12, "a cat", 1)
    assert model.generate("a cat").video.shape == (8, 32, 32, 3)


def test_an_image_is_a_one_frame_video(model):
    assert model.generate("a cat", frames=1).video.shape == (1, 32, 32, 3)


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_ones(model):
    wake(model)
    one, same, other = (model.generate("a cat", seed=seed).video for seed in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_prompt_i_of_a_list_starts_from_the_noise_of_seed_plus_i(model):
    """A list differs from single prompts by rounding alone."""
    wake(model)
    many = model.generate(["a cat", "a dog"], seed=5)
    alone = model.generate("a dog", seed=6)
    assert many[1].meta["seed"] == 6
    assert (many[1].video.int() - alone.video.int()).abs().max() <= 2
    assert (many[0].video.int() - alone.video.int()).abs().max() > 2


def test_the_prompt_and_the_frame_rate_reach_the_model(model):
    wake(model)
    cat, dog, slow = (model.generate(p, fps=fps).video for p, fps in (("a cat", 16), ("a dog", 16), ("a cat", 8)))
    assert not torch.equal(cat, dog) and not torch.equal(cat, slow)
    assert prompt_with_fps("a cat", 15.97) == "FPS-16 a cat"


def test_guidance_zero_forgets_the_prompt(model):
    """v = v(none) + 0 (v(text) - v(none)); any other scale remembers it."""
    wake(model)
    cat, dog = (model.generate(p, guidance=0.0).video for p in ("a cat", "a dog"))
    assert torch.equal(cat, dog)


def test_dropped_captions_make_the_loss_blind_to_them(model):
    wake(model)
    task = model.task

    def losses(share):
        out = []
        for words in ("a cat", "something else entirely"):
            example = task.prepare(model, [clip(words, 90), clip(words, 90)])
            conditions = drop_conditions(encode_example(model, example), share, torch.Generator().manual_seed(1))
            noisy, t, target = model.objective.pair(example.latents, torch.Generator().manual_seed(2))
            out.append(model.objective.loss(model.backbone(noisy, t, conditions), target, t).item())
        return out

    told, also_told = losses(0.0)
    blind, also_blind = losses(1.0)
    assert told != also_told and blind == also_blind


def test_a_batch_may_mix_an_image_and_a_clip(model):
    example = model.task.prepare(model, [clip("image", 10, frames=1), clip("clip", 20, frames=9)])
    assert isinstance(example.latents, list)
    loss = model.task.loss(model, example, torch.Generator().manual_seed(0))
    assert torch.isfinite(loss.total)


def test_latents_of_a_clip_that_is_cached_are_found_without_decoding_it(model):
    first = model.encode_clips([clip("kept", 77)])
    damaged = Clip(key="kept", digest="kept-77-8-32", caption="", frames=8, height=32, width=32, fps=8.0, load=None)
    assert torch.equal(model.encode_clips([damaged])[0], first[0])


def test_a_frozen_encoders_conditions_are_kept_and_equal_fresh_ones(model):
    """Masked as fresh ones are, whatever batch they were first met in; a trained encoder's are never kept."""
    words = ["FPS-8 a cat", "FPS-8 a much longer caption than that", "FPS-8 a cat"]
    kept, fresh = model.encode_texts("text", words), model.encoders["text"](words)
    assert torch.equal(kept.mask, fresh.mask)
    assert torch.allclose(kept.values[kept.mask], fresh.values[fresh.mask], atol=1e-5)
    assert torch.equal(model.encode_texts("text", words[:1]).values, kept.values[:1, : kept.mask[0].sum()])
    assert model.task.prepare(model, [clip("a cat", 5)]).inputs == {"text": ["FPS-8 a cat"]}


def test_two_captions_are_told_apart_after_a_few_steps(model):
    """Trained on a dark and a bright clip, the model draws nearer to the one that was asked for; untrained it does not."""
    model = build(model.recipe)
    optimiser = torch.optim.AdamW([*model.backbone.parameters(), *model.encoders.parameters()], lr=3e-3)
    example = model.task.prepare(model, [clip("night", 20), clip("day", 235)] * 8)
    sampler = type(model.sampler)(dataclasses.replace(model.sampler.config, steps=20, guidance=1.0))

    def nearness():
        """Squared distance of each drawn latent to the clip that was asked for, as a share of that to the other one."""
        conditions = model.encode_conditions({"text": [model.task.text(w, 8.0) for w in ("night", "day")]})
        with torch.no_grad():
            noise = torch.Generator().manual_seed(0)
            drawn = sampler.sample(model.denoiser(conditions), (2, *example.latents.shape[1:]), noise, conditions=("text",))
        asked, other = example.latents[:2], example.latents[:2].flip(0)
        return ((drawn - asked).pow(2).flatten(1).mean(1) / (drawn - other).pow(2).flatten(1).mean(1)).tolist()

    before = nearness()
    for step in range(200):
        optimiser.zero_grad()
        model.task.loss(model, example, torch.Generator().manual_seed(step)).total.backward()
        optimiser.step()
    assert max(nearness()) < 0.5 < max(before)


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"prompt": "   "}, "the prompt is empty"),
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": "a", "height": 33}, "height 33 is not a multiple of the autoencoder's stride 8"),
        ({"prompt": "a", "width": 24}, "latent size 3 along w is not a multiple of the patch 2"),
        ({"prompt": "a", "height": 640}, "40 patches along h exceed max_len 4"),
        ({"prompt": "a", "frames": 0}, "cannot generate 0 frames"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(model, request_, message):
    with pytest.raises(MgzooError, match=message):
        model.generate(**request_)
