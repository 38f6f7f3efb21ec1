"""T5, ByT5 and CLIP towers on tiny random weights in the files that public ones come in."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from mgzoo.parts import Encoder
from mgzoo.spec import MgzooError
from mgzoo_encoders.configs import ByT5Config, MetaClipConfig, MetaClipVisionConfig, T5Config
from mgzoo_encoders.metaclip import PIXEL_MEAN, PIXEL_STD, MetaClip, MetaClipVision
from mgzoo_encoders.t5 import T5, ByT5, quoted

TEXTS = ['a rabbit holds a "HOP" sign', "", "a red fox"]
WORDS = "a rabbit holds red fox sign hop runs".split()
TINY = [(T5, T5Config), (ByT5, ByT5Config), (MetaClip, MetaClipConfig), (MetaClipVision, MetaClipVisionConfig)]
TEXT = [(T5, T5Config), (ByT5, ByT5Config), (MetaClip, MetaClipConfig)]


def built(target, config, seed=0):
    torch.manual_seed(seed)
    return target(config)


def inputs_of(config):
    return TEXTS if config.input_modality() == "text" else torch.rand(2, 3, 1, 40, 50, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory):
    """A T5 for text-to-text (its decoder is not ours), with a SentencePiece-like tokenizer, as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(1)
    sizes = dict(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=64, feed_forward_proj="gated-silu")
    transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes)).save_pretrained(folder)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [("▁" + word, -2.0) for word in WORDS]
    pieces += [(letter, -6.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = dict(eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A whole CLIP, text and vision, with a byte-level BPE tokenizer."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(2)
    vocab = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {symbol + "</w>": len(vocab) + i for i, symbol in enumerate(sorted(vocab))}
    vocab |= {"<|startoftext|>": 512, "<|endoftext|>": 513}
    text = dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=514, max_position_embeddings=20,
        bos_token_id=512, eos_token_id=513, pad_token_id=513, projection_dim=24,
    )
    vision = dict(
        hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8, projection_dim=24
    )
    transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    transformers.CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    return folder


T5_SIZES = dict(width=32, depth=2, heads=4, head_dim=8, hidden=48, vocab=64, max_len=16)
CLIP_SIZES = dict(width=32, depth=2, heads=4, hidden=48, vocab=514, max_len=20)
VISION_SIZES = dict(width=48, projection=24, depth=2, heads=4, hidden=64, patch=8, size=32)


# ------------------------------------------------------------------------------------------------ laws of all


@pytest.mark.parametrize(("target", "config"), TINY)
def test_parameters_in_closed_form_are_those_of_the_model(target, config):
    tiny = config.tiny()
    assert tiny.num_parameters() == sum(p.numel() for p in target(tiny).parameters()) < 5_000_000
    with torch.device("meta"):
        full = target(config())
    assert config().num_parameters() == sum(p.numel() for p in full.parameters())
    assert all(p.is_meta for p in full.parameters())


@pytest.mark.parametrize("settings", [{"activation": "relu"}, {"activation": "gated-gelu"}])
def test_t5_parameters_know_the_activation(settings):
    config = T5Config(source="random", **{**T5_SIZES, "vocab": 384}, **settings)
    assert config.num_parameters() == sum(p.numel() for p in T5(config).parameters())


def test_published_sizes():
    assert 8.7e9 < T5Config().num_parameters() < 8.8e9  # about half of UL2's 20B is its encoder
    assert T5Config().condition_spec("text").dim == 4096 and ByT5Config().condition_spec("glyphs").dim == 1472
    assert MetaClipConfig().condition_spec("text").dim == 1280 and MetaClipVisionConfig(gives="frames").condition_spec("clip").dim == 1024
    public_h14 = MetaClipConfig(width=1024, depth=24, heads=16, hidden=4096, max_len=77)
    projection = 1024 * 1024  # which OpenCLIP's 354.03 M for this tower counts, and tokens do not pass
    assert public_h14.num_parameters() + projection == pytest.approx(354.03e6, rel=1e-4)


@pytest.mark.parametrize(("target", "config"), TINY)
def test_same_seed_same_bits_and_the_name_is_carried(target, config):
    part, twin, other = built(target, config.tiny()), built(target, config.tiny()), built(target, config.tiny(), seed=1)
    assert isinstance(part, Encoder)
    inputs = inputs_of(config.tiny())
    assert torch.equal(part(inputs).values, twin(inputs).values)
    assert not torch.equal(part(inputs).values, other(inputs).values)
    named = target(config.tiny(), name="glyphs")
    assert named.spec == config.tiny().condition_spec("glyphs") and named(inputs).name == "glyphs"


@pytest.mark.parametrize(("target", "config"), TINY)
def test_training_mode_draws_no_noise(target, config):
    part = built(target, config.tiny()).train()
    inputs = inputs_of(config.tiny())
    assert torch.equal(part(inputs).values, part(inputs).values)


@pytest.mark.parametrize(("target", "config"), TINY)
def test_gradient_reaches_all_and_the_states_are_distinct_tensors(target, config, tmp_path):
    part = built(target, config.tiny())
    part(inputs_of(config.tiny())).values.square().sum().backward()
    assert [name for name, p in part.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    save_file(part.state_dict(), tmp_path / "model.safetensors")  # refuses tensors that share memory


@pytest.mark.parametrize(("target", "config"), TINY)
def test_bf16_stays_close(target, config):
    part, inputs = built(target, config.tiny()).eval(), inputs_of(config.tiny())
    full = part(inputs).values
    half = part.bfloat16()(inputs).values
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).norm() < 0.05 * full.norm()


@pytest.mark.parametrize(("target", "config"), TEXT)
def test_a_caption_alone_is_what_it_is_in_a_batch(target, config):
    part = built(target, config.tiny()).eval()
    batch = part(TEXTS)
    for i, text in enumerate(TEXTS):
        alone = part([text])
        length = alone.values.shape[1]
        assert alone.mask.all() and batch.mask[i].sum() == length
        torch.testing.assert_close(alone.values[0], batch.values[i, :length], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("target", "config"), TEXT)
@pytest.mark.parametrize("text", ["", " ", "\n\t", "🐇👩🏽‍🚀", "é" * 10_000, "line\nline", "\ud800 lone", "</s><pad>", '"""""'])
def test_any_text_gives_tokens_within_bounds(target, config, text):
    part = built(target, config.tiny()).eval()
    condition = part([text, "a fox"])
    assert condition.values.shape[1] <= part.spec.max_len and condition.values.isfinite().all()
    assert condition.mask.dtype == torch.bool and condition.mask.any(1).all()


# ------------------------------------------------------------------------------------------------ public files


def test_t5_reads_a_folder_as_transformers_does(t5_folder):
    part = T5(T5Config(source=str(t5_folder), **T5_SIZES)).eval()
    model = transformers.T5EncoderModel.from_pretrained(t5_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5_folder)
    condition = part(["a red fox runs"])
    ids = tokenizer("a red fox runs", return_tensors="pt")
    assert ids["input_ids"].tolist() == [[3, 6, 7, 10, 1]]  # whole words of the tokenizer's file, then the end mark
    torch.testing.assert_close(condition.values, model(**ids).last_hidden_state)
    assert part(["a " * 100]).values.shape[1] == 16


def test_byt5_reads_quoted_text_as_bytes(tmp_path):
    torch.manual_seed(3)
    sizes = dict(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=384, feed_forward_proj="gated-gelu")
    transformers.T5EncoderModel(transformers.T5Config(**sizes)).save_pretrained(tmp_path)
    config = ByT5Config(source=str(tmp_path), **{**T5_SIZES, "vocab": 384})
    part = ByT5(config).eval()
    condition = part(['a sign says "HOP"', "no sign"])
    assert condition.mask.sum(1).tolist() == [4, 1]  # H, O, P and the end mark; the end mark alone
    model = transformers.T5EncoderModel.from_pretrained(tmp_path).eval()
    expected = model(input_ids=torch.tensor([[ord(c) + 3 for c in "HOP"] + [1]])).last_hidden_state
    torch.testing.assert_close(condition.values[0], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ('a sign says "Go home" and "now"', "Go home now"),
        ("curly “Zoo” signs", "Zoo"),
        ("it's 5\" long", ""),
        ("nothing", ""),
        ('two\n"li\nnes"', "li\nnes"),
    ],
)
def test_quoted(prompt, expected):
    assert quoted(prompt) == expected


def test_metaclip_reads_the_text_half_of_a_clip(clip_folder):
    part = MetaClip(MetaClipConfig(source=str(clip_folder), **CLIP_SIZES)).eval()
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval().text_model
    ids = transformers.AutoTokenizer.from_pretrained(clip_folder)("a red fox", return_tensors="pt")
    condition = part(["a red fox", ""])
    assert ids["input_ids"][0, 0] == 512 and ids["input_ids"][0, -1] == 513
    torch.testing.assert_close(condition.values[:1], model(**ids).last_hidden_state, rtol=1e-4, atol=1e-5)
    assert condition.mask.sum(1).tolist() == [9, 2]


def test_metaclip_vision_reads_the_other_half(clip_folder):
    media = torch.rand(2, 3, 3, 32, 32) * 2 - 1
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    frames = MetaClipVision(MetaClipVisionConfig(source=str(clip_folder), gives="frames", **VISION_SIZES)).eval()
    condition = frames(media)
    assert condition.values.shape == (2, 3, 24) and condition.mask.tolist() == [True, True]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    one = model.visual_projection(model.vision_model(pixel_values=((media[1, :, 2] + 1) / 2 - mean)[None] / std).pooler_output)
    torch.testing.assert_close(condition.values[1, 2], one[0], rtol=1e-4, atol=1e-5)
    tokens = MetaClipVision(MetaClipVisionConfig(source=str(clip_folder), **VISION_SIZES)).eval()(media[:, :, :1])
    assert tokens.values.shape == (2, 17, 48) and tokens.mask.all()
    hidden = model.vision_model(pixel_values=((media[:, :, 0] + 1) / 2 - mean) / std).last_hidden_state
    torch.testing.assert_close(tokens.values, model.vision_model.post_layernorm(hidden), rtol=1e-4, atol=1e-5)


def test_pictures_are_scaled_by_their_short_side_and_cropped():
    part = MetaClipVision(MetaClipVisionConfig.tiny())
    wide = torch.full((1, 3, 64, 200), -1.0)
    wide[..., 68:132] = 1.0  # the middle square is white
    pixels = part.pixels(wide) * torch.tensor(PIXEL_STD).view(3, 1, 1) + torch.tensor(PIXEL_MEAN).view(3, 1, 1)
    assert pixels.shape == (1, 3, 32, 32) and pixels[..., 2:-2].min() > 0.95


# ------------------------------------------------------------------------------------------------ bad input


def refused(make):
    with pytest.raises(MgzooError) as caught:
        make()
    return str(caught.value)


def test_no_source_is_refused_unless_planning():
    assert refused(lambda: T5(T5Config())) == (
        "T5 has no weights\n    -> set the encoder's config.source to a folder or to org/name[@revision]"
    )


def test_a_missing_folder_is_named():
    assert refused(lambda: T5(T5Config(source="./nowhere"))) == (
        "no such folder: ./nowhere\n    -> set the encoder's `source` to a folder or to org/name[@revision]"
    )


def test_other_sizes_say_what_to_write(t5_folder):
    message = refused(lambda: T5(T5Config(source=str(t5_folder), **{**T5_SIZES, "width": 64, "vocab": 32})))
    assert message == (
        f"T5: the sizes of {t5_folder} differ from the recipe (width, vocab)\n    -> set width: 32, vocab: 64 in the encoder's config"
    )


def test_missing_weights_are_not_made_up(clip_folder, tmp_path):
    for file in clip_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(clip_folder / "model.safetensors")
    name = next(key for key in weights if key.startswith("text_model") and key.endswith("layers.1.mlp.fc1.weight"))
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    message = refused(lambda: MetaClip(MetaClipConfig(source=str(tmp_path), **CLIP_SIZES)))
    assert message.startswith(f"MetaClip: 1 weights missing in {tmp_path}, the first encoder.layers.1.mlp.fc1.weight")


def test_a_truncated_file_is_refused(t5_folder, tmp_path):
    for file in t5_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert refused(lambda: T5(T5Config(source=str(tmp_path), **T5_SIZES))).startswith(f"T5: {tmp_path} cannot be read: ")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "{", "nonsense"])
def test_damaged_json_is_refused(t5_folder, tmp_path, name, content):
    for file in t5_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text(content)
    assert refused(lambda: T5(T5Config(source=str(tmp_path), **T5_SIZES))).startswith(f"T5: {tmp_path} cannot be read: ")


def test_pickled_weights_are_refused(t5_folder, tmp_path):
    for file in t5_folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(t5_folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    assert refused(lambda: T5(T5Config(source=str(tmp_path), **T5_SIZES))).startswith(f"T5: {tmp_path} cannot be read: ")


def test_code_in_the_folder_is_never_run(t5_folder, tmp_path):
    for file in t5_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for name, key in (("config.json", "AutoModel"), ("tokenizer_config.json", "AutoTokenizer")):
        content = json.loads((tmp_path / name).read_text())
        content["auto_map"] = {"AutoConfig": "evil.Config", key: "evil.Thing" if key == "AutoModel" else ["evil.Thing", "evil.Thing"]}
        (tmp_path / name).write_text(json.dumps(content))
    try:
        T5(T5Config(source=str(tmp_path), **T5_SIZES))
    except MgzooError:
        pass
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (T5Config, {"depth": 0}, "depth must be at least 1, not 0"),
        (T5Config, {"source": "random", "vocab": 64}, "random weights read bytes: vocab must be at least 384, not 64"),
        (MetaClipConfig, {"width": 100, "heads": 3}, "heads (3) must divide width (100)"),
        (MetaClipVisionConfig, {"size": 225}, "patch (14) must divide size (225)"),
        (MetaClipVisionConfig, {"gives": "vectors"}, "gives must be tokens or frames, not 'vectors'"),
    ],
)
def test_nonsense_is_refused(config, settings, message):
    with pytest.raises(ValueError) as caught:
        config(**settings)
    assert str(caught.value) == message


def test_what_is_not_read_is_told_in_tokens_of_the_source_or_in_bytes(t5_folder, clip_folder):
    """Marks that the tokenizer adds take places, and are not counted as words of the text."""
    t5 = T5(T5Config(source=str(t5_folder), width=32, depth=2, heads=4, head_dim=8, hidden=48, vocab=64, activation="gated-silu", max_len=4))
    cut, none = t5.cut(["a rabbit holds red fox", "a red fox"])
    assert (cut.read, cut.whole, cut.unit, cut.rest.strip(), none) == (3, 5, "tokens", "red fox", None)
    assert torch.equal(t5(["a rabbit holds red fox"]).values, t5(["a rabbit holds"]).values)
    clip = MetaClip(MetaClipConfig(source=str(clip_folder), width=32, depth=2, heads=4, hidden=48, vocab=514, max_len=20))
    (cut,) = clip.cut(["a" * 25])
    assert (cut.read, cut.whole, cut.unit, cut.rest) == (18, 25, "tokens", "a" * 7) and clip.cut(["a" * 18]) == [None]
    read = ByT5(ByT5Config.tiny())
    most = read.config.max_len - 1
    (cut,) = read.cut([f'a sign "{"x" * most}yz" and {"more " * 99}'])
    assert (cut.read, cut.whole, cut.unit, cut.rest) == (most, most + 2, "bytes", "yz")
    assert read.cut(["nothing in quotes " * 99, f'"{"x" * most}"']) == [None, None]
