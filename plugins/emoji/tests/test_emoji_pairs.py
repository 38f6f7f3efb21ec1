"""The stream of editing pairs: the same for ever, wherever it is resumed, for any ranks, in its ratio, and never what is held out."""

from __future__ import annotations

import io
import itertools
import json
import random
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from mgzoo import media
from mgzoo.spec import MgzooError
from mgzoo_edit.tasks import TASKS, guess_task
from mgzoo_emoji.configs import EDITS, PairsConfig
from mgzoo_emoji.instruction_templates import HELD_OUT_TEMPLATES, MARKS, OBJECTS, TEMPLATES, write_instruction
from mgzoo_emoji.material import find_material, read_shards
from mgzoo_emoji.pairs import SPLITS, Pairs
from mgzoo_emoji.scenes import Edit, EditPool, Scene

THINGS = ("rabbit", "fox", "wolf", "taxi", "star")


@pytest.fixture(scope="session")
def real() -> dict:
    """Every emoji of the repository, not decoded."""
    return read_shards(find_material("data/emoji64", "path", "data"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory, real) -> Path:
    """A shard of some thirty of them: everybody who surfs, and a few things; one clip is held out."""
    chosen = {key: piece for key, piece in real.items() if "surfing" in piece.facts["caption"] or piece.facts["caption"] in (*THINGS, "sun")}
    root = tmp_path_factory.mktemp("emoji")
    with tarfile.open(root / "some.tar", "w") as tar:
        for key, piece in chosen.items():
            for suffix, data in (("json", json.dumps(piece.facts).encode()), ("mp4", piece.bytes())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    (root / "apart.txt").write_text("# held out\n2600-fe0f\tsun\n")
    return root


def pairs(folder: Path, *, seed: int = 0, rank: int = 0, world: int = 1, **changes) -> Pairs:
    config = {"path": str(folder), "frames": 2, "height": 16, "width": 16, "scenes": 6, "held_out": ("apart.txt",), "held_out_pairs": "", **changes}
    return Pairs(PairsConfig(**config), seed=seed, rank=rank, world=world)


def take(stream: Pairs, count: int, size: int = 4) -> list[list[str]]:
    return [[f"{clip.key} {clip.digest} {clip.extra['source_digest']}" for clip in batch] for batch in itertools.islice(stream.batches(size), count)]


# ------------------------------------------------------------------------------------------------- the stream


def test_a_stream_is_fixed_by_its_seed(folder):
    assert take(pairs(folder), 4) == take(pairs(folder), 4)
    assert take(pairs(folder), 4) != take(pairs(folder, seed=1), 4)


def test_a_resumed_stream_goes_on_where_it_stood(folder):
    whole = take(pairs(folder), 6)
    stream = pairs(folder)
    take(stream, 2)
    resumed = pairs(folder)
    resumed.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert take(resumed, 4) == whole[2:]
    assert take(pairs(folder), 4) != whole[2:], "one that was not resumed does not"


def test_ranks_share_one_stream_and_may_change_in_number(folder):
    whole = take(pairs(folder), 12)
    streams = [pairs(folder, rank=rank, world=3) for rank in range(3)]
    found = [take(stream, 2) for stream in streams]
    assert [found[m % 3][m // 3] for m in range(6)] == whole[:6]
    assert all(stream.state_dict() == streams[0].state_dict() for stream in streams)
    alone = pairs(folder)
    alone.load_state_dict(streams[0].state_dict())
    take(alone, 1)
    for stream in (streams := [pairs(folder, rank=rank, world=2) for rank in range(2)]):
        stream.load_state_dict(alone.state_dict())  # at 7, which 2 does not divide
    assert take(streams[0], 2) + take(streams[1], 2) == [whole[7], whole[9], whole[8], whole[10]]
    assert streams[0].state_dict() == streams[1].state_dict()


def test_its_edits_are_those_that_the_task_head_knows():
    assert TASKS == ("text_to_video", *EDITS)


def test_kinds_come_in_their_ratio_in_every_stretch(folder):
    stream = pairs(folder, mix={"edit": 5, "text_to_video": 1})
    kinds = [stream.sample(n).extra["task"] for n in range(600)]
    for start in (0, 137, 300):
        counted = Counter(kinds[start : start + 240])
        assert abs(counted["text_to_video"] - 40) <= 2
        assert all(abs(counted[task] - 200 / 7) <= 3 for task in EDITS), counted
    other = Counter(pairs(folder, mix={"edit": 1, "text_to_video": 1}).sample(n).extra["task"] for n in range(240))
    assert abs(other["text_to_video"] - 120) <= 3, "another ratio is another count"


def test_text_to_video_of_another_length_takes_whole_micro_batches_in_the_same_ratio(folder):
    stream = pairs(folder, mix={"edit": 5, "text_to_video": 1}, frames=1, text_frames=2)
    batches = list(itertools.islice(stream.batches(4), 60))
    texts = [{clip.extra["task"] == "text_to_video" for clip in batch} for batch in batches]
    assert all(len(kinds) == 1 for kinds in texts) and abs(texts.count({True}) - 10) <= 1
    assert all(clip.frames == (2 if clip.extra["task"] == "text_to_video" else 1) == len(clip.load()) for batch in batches[:6] for clip in batch)
    mixed = [{clip.frames for clip in batch} for batch in itertools.islice(pairs(folder, mix={"edit": 5, "text_to_video": 1}).batches(4), 6)]
    assert all(frames == {2} for frames in mixed), "of one length they share micro-batches"


def test_a_mix_may_name_single_tasks_and_leave_the_rest_out(folder):
    stream = pairs(folder, mix={"animated": 3, "segment": 1, "text_to_video": 0})
    assert stream.shares.keys() == {*(f"animated.{task}" for task in EDITS), "segment"} and sum(stream.shares.values()) == pytest.approx(1)
    assert stream.shares["segment"] == pytest.approx(0.25)
    assert {stream.sample(n).extra["task"] for n in range(60)} == set(EDITS)


def test_what_is_drawn_again_has_the_same_pixels_behind_the_same_digest(folder):
    stream, seen = pairs(folder, scenes=3), {}
    for n in range(120):
        clip = stream.sample(n)
        for digest, load in ((clip.digest, clip.load), (clip.extra["source_digest"], clip.extra["source"])):
            if load is not None and seen.setdefault(digest, load) is not load and n < 60:
                assert torch.equal(load(), seen[digest]())
    assert len(seen) < 100, "a small pool is seen again and again, so that latents are found in the cache"
    few = list(itertools.islice(seen.items(), 12))
    pictures = {load().numpy().tobytes() for _, load in few}
    assert len(pictures) == len(few), "another digest is another clip"


# ------------------------------------------------------------------------------------------------- the samples


def test_a_sample_is_a_target_a_source_and_where_they_differ(folder):
    stream = pairs(folder, mix={"edit": 1}, height=64, width=64)
    for n in range(21):
        clip = stream.sample(n)
        source, target, region = clip.extra["source"](), clip.load(), clip.extra["region"]()
        assert source.shape == target.shape == (2, 64, 64, 3) and source.dtype == target.dtype == torch.uint8
        assert region.shape == (2, 64, 64) and region.dtype == torch.bool and region.any(), clip.key
        assert ((source.int() - target.int()).abs().amax(-1)[~region] <= 12).all()
        assert clip.caption and clip.extra["output_caption"] and clip.extra["input_caption"] and clip.extra["source_digest"] != clip.digest


def test_text_to_video_has_no_source(folder):
    clip = pairs(folder, mix={"text_to_video": 1}).sample(3)
    assert clip.extra["task"] == "text_to_video" and clip.extra["source"] is None and clip.caption == clip.extra["output_caption"]


def test_an_animated_pair_is_one_still_pair_under_one_motion(folder):
    stream = pairs(folder, frames=8, height=64, width=64, mix={"animated": 1})
    edit = stream.pool.draw_edit("background", 2, 0)
    clip = stream.pair(edit, "x", item=2, animated=True)
    source, target, region = clip.extra["source"](), clip.load(), clip.extra["region"]()
    assert (source[1:].int() - source[:-1].int()).abs().float().mean() > 0.5, "it moves"
    kept = ~region
    assert kept.float().mean() > 0.1 and (source[kept].int() - target[kept].int()).abs().max() <= 12, "and the subject moves alike in both"
    other = stream.pair(edit, "x", item=3, animated=True).load()
    assert (source[kept].int() - other[kept].int()).abs().float().mean() > 3, "under another motion it does not"


def test_both_directions_of_a_change_share_their_clips(folder):
    stream = pairs(folder)
    added, removed = (stream.pair(stream.pool.draw_edit(task, 4, 0), "x") for task in ("add", "remove"))
    assert (added.digest, added.extra["source_digest"]) == (removed.extra["source_digest"], removed.digest)
    assert added.extra["task"] == "add" and removed.extra["task"] == "remove"


def test_back_translated_pairs_come_from_their_folder(folder, tmp_path):
    shown = torch.randint(0, 255, (2, 16, 16, 3), dtype=torch.uint8)
    for name, video in (("a.mp4", shown), ("b.mp4", 255 - shown)):
        media.Media(video=video, fps=5.0).save(tmp_path / name)
    line = {"file": "a.mp4", "source": "b.mp4", "task": "local", "caption": "undo it", "output_caption": "a", "input_caption": "b"}
    (tmp_path / "captions.jsonl").write_text(json.dumps(line) + "\n")
    clip = pairs(folder, mix={"back_translated": 1}, back_translated=str(tmp_path)).sample(0)
    assert (clip.caption, clip.extra["task"], clip.fps) == ("undo it", "local", 5.0)
    assert (clip.load().float() - shown).abs().mean() < (clip.extra["source"]().float() - shown).abs().mean()
    (tmp_path / "captions.jsonl").write_text(json.dumps({**line, "source": "c.mp4"}) + "\n")
    with pytest.raises(MgzooError, match="missing file c.mp4"):
        pairs(folder, mix={"back_translated": 1}, back_translated=str(tmp_path)).sample(0)
    (tmp_path / "captions.jsonl").write_text(json.dumps({**line, "fps": 5.0}) + "\n")
    next(pairs(folder, mix={"back_translated": 1}, back_translated=str(tmp_path)).batches(1))
    (tmp_path / "b.mp4").write_bytes((tmp_path / "b.mp4").read_bytes()[:-40])
    with pytest.raises(MgzooError, match="b.mp4: "):  # before the first step, not in the step that draws it
        next(pairs(folder, mix={"back_translated": 1}, back_translated=str(tmp_path)).batches(1))


@pytest.mark.parametrize("changes, said", [
    ({"mix": {"edits": 1}}, "unknown entries of mix: 'edits'"), ({"mix": {"edit": 0}}, "one of them positive"), ({"mix": {"edit": -1}}, "at least 0"),
    ({"frames": 1, "mix": {"animated": 1}}, "frames must be greater than 1"), ({"mix": {"back_translated": 1}}, "the folder of the pairs"), ({"scenes": 0}, "scenes must be"),
])  # fmt: skip
def test_a_config_that_cannot_be_met_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        PairsConfig(**changes)


def test_missing_data_is_said(folder, tmp_path):
    with pytest.raises(MgzooError, match="there is no data at nowhere"):
        pairs(folder, path="nowhere")
    with pytest.raises(MgzooError, match="has no emoji"):
        pairs(tmp_path)
    with pytest.raises(MgzooError, match="captions.jsonl is missing"):
        pairs(folder, stills=str(tmp_path))


# ------------------------------------------------------------------------------------------------- what is held out


@pytest.fixture(scope="session")
def stream(real) -> Pairs:
    """The real data with the committed lists."""
    return Pairs(PairsConfig(frames=1, scenes=3000))


def test_training_never_draws_a_held_out_clip_or_edit(stream):
    apart, names = stream.pool.apart, {Edit.parse(text).name() for split, text, _ in stream.list if split != "wordings"}
    assert len(apart) > 200 and len(names) > 100
    for task in EDITS:
        for number in range(400):
            edit = stream.pool.draw_edit(task, number, number % 2)
            assert edit.name() not in names and not (edit.source.clips() | edit.target.clips()) & apart


def test_an_edit_that_is_held_out_gives_way_and_another_does_not(stream):
    pool = stream.pool
    first = pool.draw_edit("add", 5, 0)
    strict = EditPool(pool.facts, pool.apart, held_out=[first.text()])
    assert strict.draw_edit("add", 5, 0) != first and strict.draw_edit("remove", 5, 0).name() != first.name(), "in either direction"
    assert strict.draw_edit("add", 6, 0) == pool.draw_edit("add", 6, 0)


def test_training_never_says_a_held_out_wording(stream):
    dice = random.Random(0)
    for number in range(1500):
        clip = stream.sample(number)
        if clip.extra["edit"]:
            edit = Edit.parse(clip.extra["edit"])
            apart = {write_instruction(clip.extra["kind"], stream.pool.slots(edit), i, held_out=True) for i in range(len(HELD_OUT_TEMPLATES[clip.extra["kind"]]))}
            assert clip.caption not in apart
    kind = dice.choice(list(TEMPLATES))
    assert not set(TEMPLATES[kind]) & set(HELD_OUT_TEMPLATES[kind])


def test_the_committed_list_is_what_it_says(stream):
    counted = Counter()
    trained = EditPool(stream.pool.facts, stream.pool.apart, held_out=[text for split, text, _ in stream.list if split != "wordings"])
    for split, text, instruction in stream.list:
        edit = Edit.parse(text)
        if edit.kind == "vendor":
            continue
        kind = edit.kind if edit.kind in TEMPLATES else "look"
        known, new = ({write_instruction(kind, stream.pool.slots(edit), i, held) for i in range(8)} for held in (False, True))
        assert instruction in (known if split == "pairs" else new), instruction
        assert trained.is_trainable(edit) == (split == "wordings"), text
        counted[split, edit.task] += 1
    assert set(counted) == {(split, task) for split in SPLITS for task in EDITS} and min(counted.values()) >= 12


def test_every_held_out_sample_is_given_in_a_fixed_order(stream):
    first, second = stream.held_out(), stream.held_out()
    assert [clip.key for clip in first] == [clip.key for clip in second]
    assert len(first) == sum("vendor " not in text for _, text, _ in stream.list), "all but those of stills that are not there"
    assert len({clip.extra["task"] for clip in first[:24]}) == len(EDITS), "the first ones are a fair sample"


# ------------------------------------------------------------------------------------------------- words


def test_edits_and_scenes_are_read_back_as_they_were_written(stream):
    for task in EDITS:
        for number in range(40):
            edit = stream.pool.draw_edit(task, number, number % 2)
            assert Edit.parse(edit.text()) == edit
    assert Scene.parse(Scene(subject="a", mark=("b", "red"), look="pencil").text()) != Scene(subject="a", mark=("b", "blue"), look="pencil")


def test_objects_are_emoji_of_the_data(real):
    captions = {piece.facts["caption"] for piece in real.values()}
    assert not [name for name in OBJECTS if name not in captions]


def test_an_instruction_is_short_enough_for_a_small_encoder(stream):
    longest = max(len(stream.sample(n).caption.split()) for n in range(500))
    assert longest + 8 < 64


def test_what_training_says_is_taken_for_its_task(stream):
    wrong = Counter()
    for task in EDITS:
        for number in range(100):
            edit = stream.pool.draw_edit(task, number, number % 2)
            instruction = write_instruction(edit.kind if edit.kind in TEMPLATES else "look", stream.pool.slots(edit), number)
            wrong[task] += guess_task(instruction) != task
    assert all(count <= 5 for count in wrong.values()), wrong
    assert len(MARKS) == 5
