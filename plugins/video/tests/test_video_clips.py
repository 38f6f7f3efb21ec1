"""Laws of the clip stream: its order depends on the seed alone, it goes on where it stopped, and what is wrong is named."""

import dataclasses
import io
import itertools
import json
import logging
import subprocess
import sys
import tarfile
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mgzoo
from mgzoo import media
from mgzoo.media import Media
from mgzoo.parts import Data
from mgzoo.spec import MgzooError
from mgzoo_video.clips import Clips
from mgzoo_video.configs import ClipsConfig

NAMES = [f"clip{i:02d}" for i in range(11)]


def video(shade, frames=8, height=16, width=16):
    """Grey frames; frame i is shade + 10 i."""
    levels = (shade + 10 * torch.arange(frames)).clamp(max=255).to(torch.uint8)
    return levels[:, None, None, None].expand(frames, height, width, 3).contiguous()


def encoded(tmp_path, made):
    path = Media(video=made, fps=8).save(tmp_path / "made.mp4", crf=4)
    data = path.read_bytes()
    path.unlink()
    return data


def write_shard(path, members):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Eleven clips of 8 frames, 16x16, in two shards."""
    folder = tmp_path_factory.mktemp("shards")
    pairs = []
    for i, name in enumerate(NAMES):
        fields = {"caption": f"shade {i}", "fps": 8, "frames": 8, "height": 16, "width": 16, "group": "grey"}
        pairs.append([(f"{name}.json", json.dumps(fields).encode()), (f"{name}.mp4", encoded(folder, video(10 * i)))])
    write_shard(folder / "a.tar", itertools.chain(*pairs[:6]))
    write_shard(folder / "b.tar", itertools.chain(*pairs[6:]))
    (folder / "held.txt").write_text("# key, caption\nclip03\tshade 3\nclip09\tshade 9\n")
    return folder


@pytest.fixture
def mixed(tmp_path):
    """A folder: five wide clips of 8 frames, three tall ones of 4 frames, two pictures."""
    for i in range(5):
        Media(video=video(20 * i, 8, 16, 32), fps=8).save(tmp_path / f"wide{i}.mp4")
    for i in range(3):
        Media(video=video(20 * i, 4, 32, 16), fps=8).save(tmp_path / f"tall{i}.mp4")
    for i in range(2):
        Media(video=video(20 * i, 1, 16, 16)).save(tmp_path / f"still{i}.png")
    for path in list(tmp_path.iterdir()):
        path.with_suffix(".txt").write_text(f"this is {path.stem}\n")
    return tmp_path


def config(path, **changes):
    return ClipsConfig(**{"path": str(path), "frames": 8, "height": 16, "width": 16, **changes})


def taken(stream, count):
    return [[clip.key for clip in batch] for batch in itertools.islice(stream, count)]


# the order


def test_it_is_the_data_that_the_core_asks_for(shards):
    assert isinstance(Clips(config(shards)), Data)


def test_the_seed_alone_makes_the_order(shards):
    first = taken(Clips(config(shards), seed=1).batches(4), 9)
    assert first == taken(Clips(config(shards), seed=1).batches(4), 9)
    assert first != taken(Clips(config(shards), seed=2).batches(4), 9)


def test_every_epoch_holds_every_clip_once_in_an_order_of_its_own(shards):
    keys = list(itertools.chain(*taken(Clips(config(shards)).batches(3), 11)))
    epochs = [keys[i : i + 11] for i in (0, 11, 22)]
    assert all(sorted(epoch) == NAMES for epoch in epochs)
    assert epochs[0] != epochs[1]
    plain = list(itertools.chain(*taken(Clips(config(shards, shuffle=False)).batches(3), 11)))
    assert plain == NAMES * 3


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 30), world=st.integers(1, 4), steps=st.integers(0, 12), ranks=st.integers(1, 4))
def test_it_goes_on_where_it_stopped_on_any_number_of_ranks(shards, size, world, steps, ranks):
    whole = taken(Clips(config(shards)).batches(size), (steps + 6) * max(world, ranks))
    states = []
    for rank in range(world):
        data = Clips(config(shards), rank=rank, world=world)
        assert taken(data.batches(size), steps) == whole[rank::world][:steps]
        states.append(data.state_dict())
    assert all(state == states[0] for state in states)
    state = json.loads(json.dumps(states[0]))
    assert state["position"] == steps * world
    for rank in range(ranks):
        data = Clips(config(shards), rank=rank, world=ranks)
        data.load_state_dict(state)
        assert taken(data.batches(size), 2) == whole[steps * world + rank :: ranks][:2]


def test_another_batch_size_goes_on_at_the_same_sample(shards):
    data = Clips(config(shards))
    taken(data.batches(6), 5)
    other = Clips(config(shards))
    other.load_state_dict(data.state_dict())
    ahead = list(itertools.chain(*taken(Clips(config(shards)).batches(1), 36)))[30:]
    assert list(itertools.chain(*taken(other.batches(3), 2))) == ahead


def test_a_micro_batch_never_mixes_sizes_unless_told(mixed):
    buckets = {"buckets": ("8x16x32", "4x32x16", "1x16x16")}
    batches = list(itertools.islice(Clips(config(mixed, **buckets)).batches(4), 25))
    assert all(len({(c.frames, c.height, c.width) for c in batch}) == 1 for batch in batches)
    counts = Counter(clip.key for batch in batches for clip in batch)
    assert len(counts) == 10 and max(counts.values()) - min(counts.values()) <= 3
    assert any(len({c.frames for c in batch}) > 1 for batch in itertools.islice(Clips(config(mixed, **buckets, mix=True)).batches(4), 5))


@pytest.mark.parametrize("skip", [0, 1, 7, 40, 101])
def test_buckets_resume_exactly_too(mixed, skip):
    buckets = {"buckets": ("8x16x32", "4x32x16", "1x16x16")}
    whole = taken(Clips(config(mixed, **buckets)).batches(4), skip + 5)
    data = Clips(config(mixed, **buckets))
    data.load_state_dict({"epoch": 0, "position": skip, "size": 4})
    assert taken(data.batches(4), 5) == whole[skip:]


# held out


def test_held_out_clips_are_never_trained_on(shards):
    data = Clips(config(shards, held_out=("held.txt",)))
    trained = set(itertools.chain(*taken(data.batches(3), 12)))
    assert len(data) == 9 and trained == set(NAMES) - {"clip03", "clip09"}
    assert sorted(clip.key for clip in data.held_out()) == ["clip03", "clip09"]
    assert [c.key for c in data.held_out()] == [c.key for c in Clips(config(shards, held_out=("held.txt",)), seed=9).held_out()]
    assert len(Clips(config(shards, held_out=("held.txt",), split="all"))) == 11
    assert Clips(config(shards)).held_out() == []


def test_a_held_out_list_that_is_not_there_is_an_error_about_the_list(shards):
    with pytest.raises(MgzooError, match="there is no held-out list nothing.txt\n    -> set data.config.held_out to files that list held-out keys"):
        Clips(config(shards, held_out=("nothing.txt",)))


def test_a_held_out_key_that_is_not_there_is_an_error(shards, tmp_path):
    (tmp_path / "list.txt").write_text("clip03\nclip99\n")
    with pytest.raises(MgzooError, match="1 held-out keys match no clip of this data, the first is clip99"):
        Clips(config(shards, held_out=(str(tmp_path / "list.txt"),)))


# what a clip is


def test_a_clip_is_decoded_when_it_is_loaded_and_is_what_it_says(shards):
    data = Clips(config(shards))
    for clip in next(data.batches(4)):
        loaded = clip.load()
        assert loaded.dtype == torch.uint8 and tuple(loaded.shape) == (clip.frames, clip.height, clip.width, 3)
        number = NAMES.index(clip.key)
        assert clip.caption == f"shade {number}" and clip.extra["group"] == "grey" and clip.fps == 8
        assert (loaded[:, 8, 8, 0].float() - video(10 * number)[:, 8, 8, 0]).abs().max() <= 4


@pytest.mark.parametrize(
    ("changes", "frames", "fps"),
    [
        ({"frames": 8}, range(8), 8),
        ({"frames": 4}, (0, 2, 4, 6), 4),
        ({"frames": 3}, (0, 2, 5), 3),
        ({"frames": 4, "sampling": "center"}, (2, 3, 4, 5), 8),
        ({"frames": 3, "sampling": "center", "fps": 4}, (1, 3, 5), 4),
        ({"frames": 1}, (4,), 8),
        ({"frames": 1, "image_frame": "first"}, (0,), 8),
    ],
)
def test_the_cut_takes_these_frames(shards, changes, frames, fps):
    clip = next(Clips(config(shards, shuffle=False, **changes)).batches(1))[0]
    shown = [round(level / 10) for level in clip.load()[:, 8, 8, 0].tolist()]
    assert shown == list(frames) and clip.fps == pytest.approx(fps) and clip.frames == len(shown)


def test_a_random_frame_is_another_each_epoch_and_the_same_again(shards):
    def frames(seed):
        batches = itertools.islice(Clips(config(shards, frames=1, image_frame="random", shuffle=False), seed=seed).batches(11), 6)
        return [[clip.digest for clip in batch] for batch in batches]

    assert frames(0) == frames(0) != frames(1)
    assert len({batch[0] for batch in frames(0)}) > 2


def test_the_digest_says_exactly_what_is_loaded(shards, tmp_path):
    def digest(path=shards, **changes):
        return next(Clips(config(path, shuffle=False, **changes)).batches(1))[0].digest

    same = [digest(), digest(split="all"), digest(keep_mb=0)]
    other = [digest(frames=4), digest(frames=4, sampling="center"), digest(height=8), digest(width=8), digest(frames=1), digest(frames=1, image_frame="first")]
    assert len(set(same)) == 1 and len({same[0], *other}) == 7
    copy = tmp_path / "copy"
    copy.mkdir()
    with tarfile.open(shards / "a.tar") as tar:
        tar.extractall(copy, filter="data")
    assert digest(copy) == same[0], "the same bytes in a folder are the same clip"


@pytest.mark.parametrize(
    ("buckets", "chosen"),
    [
        (("8x16x32", "4x32x16", "1x16x16"), {"wide": (8, 16, 32), "tall": (4, 32, 16), "still": (1, 16, 16)}),
        (("1x16x16", "1x32x16", "1x16x32"), {"wide": (1, 16, 32), "tall": (1, 32, 16), "still": (1, 16, 16)}),
        (("4x16x16", "4x16x32", "1x8x8", "1x16x16"), {"wide": (4, 16, 32), "tall": (4, 16, 16), "still": (1, 16, 16)}),
    ],
)
def test_each_clip_takes_the_nearest_bucket(mixed, buckets, chosen):
    batches = itertools.islice(Clips(config(mixed, buckets=buckets)).batches(1), 30)
    for clip in itertools.chain(*batches):
        assert (clip.frames, clip.height, clip.width) == chosen[clip.key.rstrip("0123456789")]
        assert tuple(clip.load().shape[:3]) == (clip.frames, clip.height, clip.width)


def test_captions_may_stand_in_one_table(mixed):
    for path in mixed.glob("*.txt"):
        path.unlink()
    (mixed / "captions.jsonl").write_text("".join(json.dumps({"file": p.name, "text": f"from the table: {p.stem}"}) + "\n" for p in sorted(mixed.glob("*.*"))))
    data = Clips(config(mixed, frames=1, caption_key="text"))
    assert {clip.caption for clip in next(data.batches(10))} == {f"from the table: {n}" for n in [*(f"wide{i}" for i in range(5)), *(f"tall{i}" for i in range(3)), "still0", "still1"]}


# what is wrong


def spoilt(folder, kind):
    data = bytearray((folder / "a.tar").read_bytes())
    with tarfile.open(folder / "a.tar") as tar:
        members = {member.name: member for member in tar}
    clip, sidecar = members["clip02.mp4"], members["clip02.json"]
    if kind == "cut off":
        data = data[: clip.offset_data + 100]
    elif kind == "header":
        data[clip.offset : clip.offset + 512] = bytes(range(256)) * 2
    elif kind == "pixels":
        data[clip.offset_data : clip.offset_data + clip.size] = b"\x07" * clip.size
    elif kind == "sidecar":
        data[sidecar.offset_data : sidecar.offset_data + 1] = b"["
    (folder / "a.tar").write_bytes(data)


@pytest.fixture
def copied(shards, tmp_path):
    (tmp_path / "a.tar").write_bytes((shards / "a.tar").read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "message", "left"),
    [
        ("cut off", "a.tar: the shard is damaged at clip0", 2),
        ("header", "a.tar: the shard is damaged at clip02.json: no valid tar header after it\n    -> copy it again", 2),
        ("sidecar", "a.tar/clip02.mp4: its .json cannot be read", 5),
    ],
)
def test_a_damaged_shard_is_named_or_left_out_loudly(copied, caplog, kind, message, left):
    spoilt(copied, kind)
    with pytest.raises(MgzooError) as error:
        Clips(config(copied))
    assert message in str(error.value)
    with caplog.at_level(logging.WARNING, "mgzoo"):
        data = Clips(config(copied, on_error="skip"))
    assert len(data) == left and message in caplog.text and f"1 clips skipped, {left} used" in caplog.text


def test_a_damaged_medium_is_named_before_the_first_batch_or_replaced_loudly(copied, caplog):
    spoilt(copied, "pixels")
    for _ in range(2):  # remembered, and said again
        with pytest.raises(MgzooError) as error:
            next(Clips(config(copied)).batches(1))
    assert f"{copied}/a.tar/clip02.mp4: not a readable video" in str(error.value)
    with caplog.at_level(logging.WARNING, "mgzoo"):
        data = Clips(config(copied, on_error="skip", shuffle=False))
        batch = next(data.batches(6))
    assert data.counts() == {"skipped": 1}
    assert [clip.key for clip in batch] == ["clip00", "clip01", "clip03", "clip03", "clip04", "clip05"]
    assert "skipped: " in caplog.text and "clip02.mp4" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "wide0.txt").write_text("  \n"), "wide0.mp4: the caption is empty\n    -> write one into its .txt"),
        (lambda f: (f / "wide0.txt").unlink(), "wide0.mp4: no caption\n    -> add a .txt or .json of the same name"),
        (lambda f: (f / "wide0.txt").write_bytes(b"\xff\xfe\xff"), "wide0.mp4: its .txt cannot be read"),
        (lambda f: (f / "wide0.mp4").write_bytes(b""), "wide0.mp4: the file is empty"),
        (lambda f: (f / "wide0.mp4").write_bytes(b"nothing"), "wide0.mp4: not a readable video"),
        (lambda f: (f / "wide0.json").write_text('{"caption": 3}'), "wide0.mp4: its .json cannot be read"),
    ],
)
def test_a_bad_file_in_a_folder_is_named(mixed, spoil, message):
    spoil(mixed)
    with pytest.raises(MgzooError) as error:
        Clips(config(mixed, frames=1))
    assert f"{mixed}/{message}" in str(error.value)


def test_too_few_frames_is_said_with_both_numbers(mixed, caplog):
    with pytest.raises(MgzooError) as error:
        Clips(config(mixed))
    assert "5 clips cannot be used" in str(error.value) and "still0.png: it has 1 frame, needed: 8" in str(error.value)
    with caplog.at_level(logging.WARNING, "mgzoo"):
        assert len(Clips(config(mixed, on_error="skip"))) == 5
    assert "5 clips skipped, 5 used" in caplog.text


def test_two_clips_of_one_name_are_an_error(copied):
    (copied / "again.tar").write_bytes((copied / "a.tar").read_bytes())
    with pytest.raises(MgzooError, match="duplicate key clip00: .*a.tar/clip00.mp4 and .*again.tar/clip00.mp4"):
        Clips(config(copied))


def test_data_that_is_not_there_is_said_at_once():
    with pytest.raises(MgzooError) as error:
        Clips(config("no/such/folder"))
    assert "there is no data at no/such/folder\n    -> set data.config.path" in str(error.value)


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(MgzooError, match="no training clips left of 0 found"):
        Clips(config(tmp_path))


# the config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, not 0"),
        ({"fps": -1.0, "sampling": "center"}, "fps must be positive"),
        ({"fps": 8.0}, "fps 8.0 needs sampling: center"),
        ({"buckets": ("16x64",)}, "bucket '16x64' is not FRAMESxHEIGHTxWIDTH, e.g. 16x64x64"),
        ({"buckets": ("16x64x64", "016x64x64")}, "duplicate sizes in buckets"),
        ({"mix": True}, "mix needs at least two buckets"),
    ],
)
def test_a_config_refuses_nonsense(changes, message):
    with pytest.raises(ValueError, match=message):
        ClipsConfig(path="x", **changes)


def test_a_config_says_what_it_emits():
    assert ClipsConfig().sizes() == ((16, 64, 64),) and ClipsConfig().modalities() == ("video", "text")
    assert ClipsConfig(frames=1).modalities() == ("image", "text")
    both = ClipsConfig(buckets=("16x64x64", "1x96x64"))
    assert both.sizes() == ((16, 64, 64), (1, 96, 64)) and both.modalities() == ("video", "image", "text")
    assert ClipsConfig.tiny().num_parameters() == 0
    assert all(f.metadata["help"] for f in dataclasses.fields(ClipsConfig))


def test_declaring_imports_no_torch():
    code = "import sys, mgzoo_video.plugin as p, mgzoo_video.configs; assert [c.id for c in p.mgzoo_components()][:2] == ['video.clips.v1', 'video.text_to_video.v1']; assert 'torch' not in sys.modules and 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# the emoji


def test_the_emoji_are_found_whole():
    data = Clips(ClipsConfig(path="data/emoji64", held_out=("held_out_concepts.txt", "held_out_combinations.txt"), license="mit"))
    assert (len(data), len(data.held_out())) == (1857, 252)
    clip = next(data.batches(1))[0]
    assert tuple(clip.load().shape) == (16, 64, 64, 3) and clip.caption
    assert torch.equal(clip.load(), media.read_bytes(data.sources[[s.key for s in data.sources].index(clip.key)].bytes()).video)


@pytest.mark.parametrize("old, now", [("spread", "uniform"), ("middle", "center")])
def test_sampling_is_still_read_under_its_old_key_and_values(tmp_path, old, now):
    file = tmp_path / "old.yaml"
    file.write_text(f"schema: 1\ndata: {{use: video.clips.v1, config: {{path: data/emoji64, cut: {old}}}}}\n")
    assert mgzoo.compose(file).data.config.sampling == ClipsConfig(path="x", sampling=old).sampling == now
