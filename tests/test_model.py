"""Laws of a built recipe: seeds of parts, identities of frozen parts, weights that fit or are refused."""

import pytest
import torch

import mgzoo
from mgzoo.media import float_to_uint8, uint8_to_float
from mgzoo.model.build import build, load_part
from mgzoo.model.feature_cache import Cache
from mgzoo.model.model import EncoderInput
from mgzoo.parts import Clip, Condition
from mgzoo.spec import ConditionSpec, LatentSpec, MgzooError

RECIPE = """
schema: 1
seed: {seed}
parts:
  autoencoder: {{use: autoencoders.tae.v1, config: {{size: tiny}}, frozen: true}}
  encoders:
    text: {{use: encoders.bytes.v1, config: {{size: tiny}}}}
  backbone: {{use: backbones.{backbone}.v1, config: {{depth: {depth}, width: 64, heads: 2, ffn: 128, max_len: [4, 4, 4]}}}}
  objective: {{use: samplers.flow_matching.v1}}
  sampler: {{use: samplers.euler.v1, config: {{steps: 2}}}}
  task: {{use: video.text_to_video.v1, config: {{frames: 8, height: 32, width: 32}}}}
data: {{use: video.clips.v1, config: {{path: data/emoji64, frames: 8, height: 32, width: 32}}}}
"""


@pytest.fixture
def model(tmp_path):
    def make(seed=0, backbone="llama3", depth=1):
        file = tmp_path / f"{backbone}-{depth}-{seed}.yaml"
        file.write_text(RECIPE.format(seed=seed, backbone=backbone, depth=depth))
        return build(mgzoo.compose(file))

    return make


def same(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_swapping_one_part_leaves_the_first_weights_of_the_others_as_they_were(model):
    """And another seed changes all of them."""
    llama, dit, reseeded = model(), model(backbone="dit"), model(seed=1)
    assert same(llama.autoencoder, dit.autoencoder) and same(llama.encoders["text"], dit.encoders["text"])
    assert not same(llama.backbone, dit.backbone)
    assert not same(llama.encoders["text"], reseeded.encoders["text"])


def test_building_leaves_the_callers_random_state_alone(model):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    model()
    assert torch.equal(torch.rand(3), expected)


def test_a_part_is_known_by_its_component_config_and_weights(model):
    one, two = model(), model(seed=1)
    assert one.fingerprint("autoencoder") == model().fingerprint("autoencoder")
    assert one.fingerprint("autoencoder")[:3] == two.fingerprint("autoencoder")[:3]
    assert one.fingerprint("autoencoder")[3] != two.fingerprint("autoencoder")[3]


def test_part_names_are_those_with_weights(model):
    assert model().part_names() == ["autoencoder", "encoders.text", "backbone"]


def test_weights_of_another_shape_are_refused_with_the_artifact_named(model, tmp_path):
    mgzoo.model.save(model(depth=1), tmp_path / "artifact")
    deeper = model(depth=2)
    with pytest.raises(MgzooError, match="weights of backbone in .* do not fit backbones.llama3.v1"):
        load_part(deeper, "backbone", str(tmp_path / "artifact"))
    shallow = model(seed=3)
    load_part(shallow, "backbone", str(tmp_path / "artifact"))
    assert same(shallow.backbone, model().backbone)


def test_all_branches_of_a_guided_step_equal_calls_of_their_own(model):
    """Batching the branches changes rounding alone."""
    model = model()
    torch.nn.init.normal_(model.backbone.output.weight, std=0.1)
    conditions = model.encode_conditions({"text": ["a cat", "two dogs running"]})
    denoise = model.denoiser(conditions)
    latents, t = torch.randn(2, 16, 1, 4, 4), torch.tensor([0.3, 0.7])
    told, blind = denoise(latents, t, [frozenset(), frozenset({"text"})])
    assert torch.allclose(told, denoise(latents, t, [frozenset()])[0], atol=1e-5)
    assert torch.allclose(blind, denoise(latents, t, [frozenset({"text"})])[0], atol=1e-5)
    assert not torch.allclose(told, blind, atol=1e-3)


def fed(concat_channels: int, conditions=()):
    """A small backbone, its weights moved from their start."""
    from mgzoo_backbones.configs import Llama3Config
    from mgzoo_backbones.llama3 import Llama3

    torch.manual_seed(0)
    latent = LatentSpec(space="x", channels=4, stride=(8, 8, 8))
    part = Llama3(Llama3Config(depth=1, width=32, heads=2, ffn=64, patch=(1, 1, 1), max_len=(4, 4, 4)), latent=latent, conditions=conditions, concat_channels=concat_channels)
    with torch.no_grad():
        for weight in part.parameters():
            weight.add_(0.02 * torch.randn(weight.shape))
    return part


TEXT = ConditionSpec(name="text", dim=6)


def test_a_feed_is_zero_in_the_branches_that_drop_it(model):
    made, (x, t) = model(), (torch.randn(2, 4, 1, 2, 2), torch.rand(2))
    made.backbone = fed(4)
    source = torch.randn(2, 4, 1, 2, 2)
    with torch.no_grad():
        given, dropped = made.denoiser({}, {"source": source})(x, t, [frozenset(), frozenset({"source"})])
        assert torch.allclose(given, made.backbone(torch.cat([x, source], 1), t), atol=1e-6)
        assert torch.allclose(dropped, made.backbone(torch.cat([x, 0 * source], 1), t), atol=1e-6) and not torch.allclose(given, dropped)


def test_a_backbone_goes_on_from_a_narrower_one_and_says_what_is_new():
    base, wide = fed(0, (TEXT,)), fed(4, (TEXT, ConditionSpec(name="shift", dim=3, kind="vector")))
    state, new = wide.expand_state_dict(base.state_dict())
    assert set(new) == {"embed.weight", "conditions.shift.project.weight", "conditions.shift.null"}
    wide.load_state_dict(state)
    with torch.no_grad():
        wide.conditions["shift"].null.zero_()  # a vector is added to the timestep: nothing but this may differ
    x, t = torch.randn(2, 4, 1, 2, 2), torch.rand(2)
    text = {"text": Condition(name="text", values=torch.randn(2, 3, 6), mask=torch.ones(2, 3, dtype=torch.bool))}
    with torch.no_grad():
        assert torch.allclose(wide(torch.cat([x, torch.randn(2, 4, 1, 2, 2)], 1), t, text), base(x, t, text), atol=1e-5)
    other, added = base.expand_state_dict(wide.state_dict())  # a wider one stays what it is, for the caller to refuse
    assert added == [] and other["embed.weight"].shape == wide.embed.weight.shape


def test_a_sound_is_encoded_as_the_mean_of_its_channels(model):
    made, given = model(), []

    class Ear(torch.nn.Module):
        spec = LatentSpec(space="ear", channels=1, stride=(4,), layout="sound")

        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(()))

        def encode(self, media):
            given.append(media)
            return self.gain * media.unflatten(2, (-1, 4)).mean(-1)

    made.autoencoder, made.cache = Ear(), Cache(disk=False)
    made.clear_fingerprints()
    sound = torch.tensor([[1.0] * 8, [0.0] * 8])
    (latent,) = made.encode_clips([Clip(key="a", digest="00", caption="", sound=lambda: sound, samples=8, rate=8)])
    assert given[0].shape == (1, 1, 8) and torch.equal(latent, torch.full((1, 2), 0.5))


def test_a_frozen_encoder_sees_an_input_once(model):
    made, asked = model(), []
    made.cache = Cache(disk=False)

    def later():
        asked.append(1)
        return "a red heart"

    one = EncoderInput(value=later, digest=EncoderInput.text("a red heart").digest)
    first, again = made.encode_inputs("text", [one, EncoderInput.text("x")]), made.encode_inputs("text", [one])
    assert asked == [1] and first.mask.sum(1).tolist()[0] == again.mask.sum().item() > first.mask.sum(1).tolist()[1]
    assert torch.equal(made.encode_texts("text", ["a red heart"]).values, again.values) and asked == [1]


def test_frames_become_pixels_and_come_back_unchanged():
    video = torch.randint(0, 256, (3, 4, 5, 3), dtype=torch.uint8)
    media = uint8_to_float(video)
    assert media.shape == (3, 3, 4, 5) and media.min() >= -1 and media.max() <= 1
    assert torch.equal(float_to_uint8(media), video)
    assert torch.equal(float_to_uint8(media * 4), (((media * 4).clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_become_no_frames(value):
    media = torch.zeros(3, 1, 4, 4)
    media[0, 0, 1, 1] = value
    with pytest.raises(MgzooError, match="non-finite"):
        float_to_uint8(media)


def test_a_request_that_the_task_cannot_answer_names_what_it_takes(tmp_path):
    file = tmp_path / "tae.yaml"
    tae = "{use: autoencoders.tae.v1, config: {widths: [16, 16, 16, 16], groups: 8, attention: false}}"
    file.write_text(f"schema: 1\nparts: {{autoencoder: {tae}, task: {{use: autoencoders.reconstruct.v1}}}}\n")
    model = build(mgzoo.compose(file))
    with pytest.raises(MgzooError, match="the task Reconstruct needs video and does not support steps, prompt\n    -> supported: video, fps"):
        model.generate("a cat", steps=2, on_step=lambda done, total: None)
    video = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    assert model.generate(video=video, on_step=lambda done, total: None).video.shape == video.shape


# -- what an encoder does not read


LONG = "a rabbit hopping " * 30 + "in the snow at night"


def warnings(caplog) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.name == "mgzoo" and record.levelname == "WARNING"]
    caplog.clear()
    return found


def test_a_prompt_that_is_not_read_to_its_end_is_said_once_for_each_text(model, caplog):
    """With how much is read, and what is not, on every way to an encoder; a text from the cache was cut as well."""
    asked = model()
    media = [asked.generate(text, frames=1, height=32, width=32, steps=1, fps=8) for text in (LONG, LONG, LONG + " again")]
    said = "text truncated by encoders.text (64 of 98 words); ignored: 'rabbit hopping a rabbit hopping a rabbit hopping a rabbit ho…'"
    assert warnings(caplog) == [said, said.replace("98", "99")]  # three of them tell the frame rate
    assert torch.equal(media[0].video, media[2].video)
    assert asked.generate("a rabbit", frames=1, height=32, width=32, steps=1) and not warnings(caplog)
    asked.encode_texts("text", ["word " * 64 + "end", "word " * 64])
    assert warnings(caplog) == ["text truncated by encoders.text (64 of 65 words); ignored: 'end'"]
    kept = model()
    kept.cache = asked.cache
    kept.encode_texts("text", ["word " * 64 + "end"])
    assert warnings(caplog) == ["text truncated by encoders.text (64 of 65 words); ignored: 'end'"]


def test_a_quoted_end_cannot_forge_a_line(model, caplog):
    model().encode_conditions({"text": ["word " * 64 + "x\x1b[2J\u202e\n"]})
    (line,) = warnings(caplog)
    assert line.endswith("ignored: 'x\\x1b[2j\\u202e'")


def test_training_counts_captions_that_are_cut_and_generating_meanwhile_says_them(model, caplog):
    learning = model()
    assert learning.counts() == {"encoders.text.cut": 0}
    learning.counting = True
    learning.encode_conditions({"text": [LONG, "short", LONG]})
    learning.encode_texts("text", [LONG])
    assert learning.counts() == {"encoders.text.cut": 3} and not warnings(caplog)
    learning.generate(LONG, frames=1, height=32, width=32, steps=1)
    assert len(warnings(caplog)) == 1 and learning.counting and learning.counts() == {"encoders.text.cut": 3}
