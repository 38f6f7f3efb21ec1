"""What task heads share: dropped conditions, extra channels, prompts, batches of mixed sizes."""

import re
from pathlib import Path

import pytest
import torch

import mgzoo
from mgzoo.parts import Condition
from mgzoo.spec import MgzooError
from mgzoo.tasks import as_prompts, concat_channels, drop_conditions, prompt_with_fps, stack_latents


def conditions(batch: int) -> dict[str, Condition]:
    text = Condition(name="text", values=torch.ones(batch, 3, 2), mask=torch.ones(batch, 3, dtype=torch.bool))
    return {"text": text, "image": Condition(name="image", values=torch.ones(batch, 2), mask=torch.ones(batch, dtype=torch.bool))}


def dropped(found: dict[str, Condition]) -> dict[str, torch.Tensor]:
    return {name: ~one.mask.reshape(len(one.mask), -1).any(1) for name, one in found.items()}


def test_all_conditions_of_a_sample_are_dropped_together():
    rows = dropped(drop_conditions(conditions(4000), 0.3, torch.Generator().manual_seed(0)))
    assert torch.equal(rows["text"], rows["image"]) and abs(rows["text"].float().mean() - 0.3) < 0.03


def test_a_condition_is_dropped_by_itself_in_as_many_samples_more():
    rows = dropped(drop_conditions(conditions(4000), 0.3, torch.Generator().manual_seed(0), independently=["text"]))
    assert abs((rows["text"] & ~rows["image"]).float().mean() - 0.7 * 0.3) < 0.03 and not (rows["image"] & ~rows["text"]).any()


def test_where_nothing_is_dropped_nothing_is_drawn():
    generator, before = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0).get_state()
    assert not any(rows.any() for rows in dropped(drop_conditions(conditions(4), 0.0, generator)).values())
    assert torch.equal(generator.get_state(), before)


def test_extra_channels_follow_the_latents_own_in_a_batch_and_in_a_list():
    noisy, extra = torch.randn(2, 3, 4), torch.randn(2, 1, 4, dtype=torch.float64)
    joined = concat_channels(noisy, extra)
    assert joined.dtype == noisy.dtype and torch.equal(joined, torch.cat([noisy, extra.float()], 1))
    assert all(torch.equal(a, b) for a, b in zip(concat_channels(list(noisy), list(extra)), joined, strict=True))
    with pytest.raises(ValueError, match="zip"):
        concat_channels(noisy, extra[:1])


def test_latents_of_one_size_are_a_batch_and_others_a_list():
    assert stack_latents([torch.zeros(3, 4)] * 2).shape == (2, 3, 4)
    assert [one.shape for one in stack_latents([torch.zeros(3, 4), torch.zeros(3, 1)])] == [(3, 4), (3, 1)]


def test_prompts_are_words():
    assert as_prompts("a cat") == ["a cat"] and as_prompts(("a", "b")) == ["a", "b"] and prompt_with_fps("a cat", 15.97) == "FPS-16 a cat"
    for blank in ("", " ", [], ["a", " "]):
        with pytest.raises(MgzooError, match="the prompt is empty"):
            as_prompts(blank)


def test_the_example_of_the_plugin_page_makes_a_clip_longer_than_its_windows():
    page = (Path(__file__).resolve().parents[1] / "docs" / "plugin.md").read_text()
    names: dict = {}
    exec(re.search(r"```python\n(# mgzoo_noise/long_clips.py.*?)```", page, re.DOTALL)[1], names)
    model = mgzoo.load("registry/emoji-t2v")
    longer, (trained,) = model.task.config.frames + 8, model.task.config.sizes()
    text = prompt_with_fps("a cat", model.task.config.fps)
    with torch.inference_mode():
        clip, again, short = (names["generate_long"](model, text, (n, *trained[1:]), seed=1, steps=2) for n in (longer, longer, trained[0]))
    assert clip.shape == (longer, *trained[1:], 3) and clip.dtype == torch.uint8 and torch.equal(clip, again)
    assert torch.equal(short, model.generate("a cat", seed=1, steps=2).video)
