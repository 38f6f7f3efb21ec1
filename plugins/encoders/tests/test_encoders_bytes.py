"""The text encoder that needs no download: hashing, masks, invariances, and that it learns."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgzoo.parts import Cut, Encoder
from mgzoo_encoders.bytes import EMPTY, Bytes, bucket, token_rows, word_rows, words
from mgzoo_encoders.configs import BytesConfig

TEXTS = ["A rabbit, hopping!", "", "a red fox runs over the snow", "🐇"]
WORD = BytesConfig(width=32, depth=2, heads=4, buckets=512, max_len=16)
BYTE = BytesConfig(unit="byte", width=32, depth=2, heads=4, max_len=48)
BOTH = pytest.mark.parametrize("config", [WORD, BYTE], ids=["word", "byte"])


def built(config, seed=0):
    torch.manual_seed(seed)
    return Bytes(config)


def test_words_are_lower_case_composed_and_split_at_punctuation():
    assert words("A rabbit, hopping!") == ["a", "rabbit", ",", "hopping", "!"]
    assert words("Cafe\u0301\n\tCAFÉ") == ["café", "café"]
    assert words("16:9 🐇🐇") == ["16", ":", "9", "🐇", "🐇"]
    assert words(" \n") == []


def test_a_word_is_itself_and_its_ngrams():
    assert word_rows("fox", 512, (3,)) == (
        bucket(b"fox", b"word", 512),
        *(bucket(piece, b"ngram", 512) for piece in (b"<fo", b"fox", b"ox>")),
    )
    assert bucket(b"fox", b"word", 1 << 40) != bucket(b"fox", b"ngram", 1 << 40)
    assert word_rows("fox", 512, ()) == (bucket(b"fox", b"word", 512),)


def test_words_that_look_alike_share_rows():
    rabbit, rabbits, quartz = (set(word_rows(word, 1 << 30, (3, 4, 5))[1:]) for word in ("rabbit", "rabbits", "quartz"))
    assert len(rabbit & rabbits) > len(rabbit) / 2 and not rabbit & quartz


def test_hashes_are_the_same_in_every_process_and_forever():
    code = "from mgzoo_encoders.bytes import word_rows; print(word_rows('rabbit', 4096, (3, 4, 5)))"
    outputs = set()
    for seed in ("1", "2"):
        env = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed}
        outputs.add(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env).stdout)
    assert outputs == {f"{word_rows('rabbit', 4096, (3, 4, 5))}\n"}
    assert word_rows("rabbit", 4096, (5,)) == (783, 2846, 3885, 3847, 1569)


def test_hashes_spread_evenly():
    counts = torch.bincount(torch.tensor([bucket(str(i).encode(), b"word", 101) for i in range(20_000)]), minlength=101)
    assert counts[0] == 0  # kept for the empty text
    chi_squared = ((counts[1:] - 200) ** 2 / 200).sum()
    assert chi_squared < 149  # 99 degrees of freedom, 0.1 %


@BOTH
def test_masks_say_which_tokens_count(config):
    condition = built(config)(TEXTS)
    lengths = [5, 1, 7, 1] if config.unit == "word" else [18, 1, 28, 4]
    assert condition.mask.dtype == torch.bool and condition.mask.sum(1).tolist() == lengths
    assert condition.mask.shape == condition.values.shape[:2] == (4, max(lengths))
    assert (condition.mask[:, :-1] | ~condition.mask[:, 1:]).all()  # tokens first, then padding


@BOTH
def test_long_texts_are_cut_at_max_len(config):
    part = built(config).eval()
    long = "word " * 2_000
    condition = part([long, "a fox"])
    assert condition.values.shape[1] == config.max_len == part.spec.max_len
    torch.testing.assert_close(condition.values[0], part([long + "more"]).values[0])


@BOTH
def test_a_caption_alone_is_what_it_is_in_a_batch(config):
    part = built(config).eval()
    batch = part(TEXTS)
    for i, text in enumerate(TEXTS):
        alone = part([text])
        assert alone.mask.all()
        torch.testing.assert_close(alone.values[0], batch.values[i, : alone.values.shape[1]], rtol=1e-4, atol=1e-5)


@BOTH
def test_same_seed_same_bits(config):
    part, twin, other = built(config), built(config), built(config, seed=1)
    assert isinstance(part, Encoder) and part(TEXTS).name == "text"
    assert torch.equal(part(TEXTS).values, twin(TEXTS).values) and torch.equal(part(TEXTS).values, part(TEXTS).values)
    assert not torch.equal(part(TEXTS).values, other(TEXTS).values)


@BOTH
def test_different_texts_differ_and_only_order_free_ones_ignore_order(config):
    part = built(config).eval()
    there, back = part(["fox red"]).values[0], part(["red fox"]).values[0]
    assert not torch.allclose(there.sum(0), back.sum(0), atol=1e-4)
    assert not torch.allclose(part(["a cat"]).values, part(["a dog"]).values, atol=1e-2)


def test_without_positions_a_text_is_a_set():
    part = built(BytesConfig(width=32, heads=4, buckets=512, positions=False)).eval()
    assert part.positions is None
    torch.testing.assert_close(part(["fox red"]).values[0], part(["red fox"]).values[0].flip(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config", [WORD, BYTE, BytesConfig(), BytesConfig.tiny(), BytesConfig(depth=0, positions=False), BytesConfig(unit="byte", buckets=2)]
)
def test_parameters_in_closed_form(config):
    with torch.device("meta"):
        part = Bytes(config)
    assert config.num_parameters() == sum(p.numel() for p in part.parameters())
    assert BytesConfig.tiny().num_parameters() < 1_500_000
    assert part.spec == config.condition_spec("text") and config.input_modality() == "text"


@BOTH
def test_gradient_reaches_all_and_only_the_rows_read(config):
    part = built(config)
    part(TEXTS).values.square().mul(torch.rand(config.width)).sum().backward()
    assert [name for name, p in part.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    read = {row for text in TEXTS for rows in token_rows(text, config) for row in rows}
    touched = set(part.tokens.weight.grad.abs().sum(1).nonzero().flatten().tolist())
    assert touched == read and EMPTY[0] in read


@BOTH
def test_bf16_stays_close_and_trains(config):
    part = built(config)
    full = part(TEXTS).values
    half = part.bfloat16()(TEXTS).values
    assert half.dtype == torch.bfloat16 and (half.float() - full).norm() < 0.05 * full.norm()
    half.float().square().mul(torch.rand(config.width)).sum().backward()
    assert all(p.grad.isfinite().all() for p in part.parameters())


@BOTH
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_texts_give_finite_tokens(config, texts):
    condition = built(config)(texts)
    assert condition.values.isfinite().all() and condition.mask.any(1).all()
    assert condition.values.shape[1] <= config.max_len


@BOTH
@pytest.mark.parametrize("text", ["x" * 10_000, "\ud800", "👩🏽‍🚀" * 1_000, "\x00", "a\nb\r\nc", '"' * 300])
def test_odd_texts(config, text):
    condition = built(config)([text])
    assert condition.values.isfinite().all() and condition.mask.all()


def test_one_text_for_a_list_is_our_own_mistake():
    with pytest.raises(AssertionError, match="give a list of texts"):
        built(WORD)("a rabbit")


def test_it_learns_words_and_carries_them_to_new_combinations():
    """Colour and animal are read off unseen pairs after 60 steps on the others; a text's words sum up in the mean of its tokens."""
    colours, animals = ["red", "green", "blue", "white"], ["fox", "rabbit", "horse", "whale", "owl"]
    pairs = [(c, a) for c in range(4) for a in range(5)]
    held_out = [(c, a) for c, a in pairs if (c + a) % 5 == 0]
    trained = [pair for pair in pairs if pair not in held_out]
    torch.manual_seed(0)
    part = Bytes(WORD)
    head = torch.nn.Linear(32, 9)
    optimiser = torch.optim.AdamW([*part.parameters(), *head.parameters()], lr=3e-3)

    def scores(chosen):
        condition = part([f"a {colours[c]} {animals[a]} runs" for c, a in chosen])
        return head(condition.values.mean(1)).split([4, 5], dim=1)

    for _ in range(60):
        wanted = torch.tensor(trained)
        loss = sum(torch.nn.functional.cross_entropy(score, wanted[:, i]) for i, score in enumerate(scores(trained)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        right = torch.stack([score.argmax(1) == torch.tensor(held_out)[:, i] for i, score in enumerate(scores(held_out))])
    assert right.float().mean() >= 0.75, right  # chance: 0.23


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": "letter"}, "unit must be word or byte, not 'letter'"),
        ({"width": 100, "heads": 3}, "heads (3) must divide width (100)"),
        ({"max_len": 0}, "max_len must be at least 1, not 0"),
        ({"depth": -1}, "depth must not be negative, not -1"),
        ({"buckets": 1}, "buckets must be at least 2, not 1"),
        ({"ngrams": (0, 3)}, "ngrams must be positive lengths, not (0, 3)"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        BytesConfig(**settings)
    assert str(caught.value) == message


def test_pooled_is_the_mean_of_the_tokens_that_count():
    tokens, pooled = built(WORD), built(dataclasses.replace(WORD, pooled=True))
    one, other = tokens(TEXTS), pooled(TEXTS)
    assert pooled.spec.kind == "vector" and pooled.spec.dim == WORD.width and other.mask.tolist() == [True] * len(TEXTS)
    means = torch.stack([values[mask].mean(0) for values, mask in zip(one.values, one.mask)])
    torch.testing.assert_close(other.values, means)
    assert pooled.state_dict().keys() == tokens.state_dict().keys()  # weights of the one serve the other


@pytest.mark.parametrize("unit, text, read, whole, rest", [
    ("word", "one two three four five", 4, 5, "five"),
    ("word", "one two three four", None, None, None),
    ("word", "One, Two! Three", 4, 5, "three"),
    ("byte", "four!", 4, 5, "!"),
    ("byte", "four", None, None, None),
    ("byte", "\u00e9\u00e9\u00e9", 4, 6, "\u00e9"),
    ("word", "", None, None, None),
])
def test_what_is_not_read_of_a_text_is_told_in_the_encoders_own_unit(unit, text, read, whole, rest):
    part = Bytes(BytesConfig(unit=unit, width=8, heads=1, depth=0, buckets=64, max_len=4))
    (cut,) = part.cut([text])
    assert cut == (Cut(read=read, whole=whole, unit=f"{unit}s", rest=rest) if whole else None)
    if cut:
        assert torch.equal(part([text]).values, part([text + " more"]).values)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=40), st.sampled_from(["word", "byte"]))
def test_a_text_is_called_cut_exactly_where_a_longer_encoder_reads_more_of_it(text, unit):
    (cut,) = built(dataclasses.replace(WORD if unit == "word" else BYTE, max_len=8)).cut([text])
    assert (cut is not None) == (len(token_rows(text, BytesConfig(unit=unit, max_len=1000))) > 8)
