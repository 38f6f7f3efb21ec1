"""What media hold is found out before the first step, once; what a sidecar says is believed until then."""

import json

import av
import numpy
import pytest
import torch
from PIL import Image

from mgzoo.data import Inspections, claimed_facts, decode_whole, disagreement, scan_data
from mgzoo.data.decoded_cache import DecodedCache
from mgzoo.media import Media
from mgzoo.spec import MgzooError
from mgzoo_video.clips import Clips
from mgzoo_video.configs import ClipsConfig

FACTS = {"frames": 8, "fps": 8, "height": 16, "width": 16}


def clip(path, facts=(), frames=8, fps=8.0, height=16, width=16):
    levels = (20 * torch.arange(frames)).clamp(max=255).to(torch.uint8)
    Media(video=levels[:, None, None, None].expand(frames, height, width, 3).contiguous(), fps=fps).save(path, crf=4)
    path.with_suffix(".json").write_text(json.dumps({"caption": f"this is {path.stem}", **dict(facts)}))
    return path


def spoil(path):
    """Break the last frames' bytes: the header stays good, decoding fails or gives fewer frames."""
    data = bytearray(path.read_bytes())
    start = data.rindex(b"mdat") + 4
    data[start + 40 :] = bytes(len(data) - start - 40)
    path.write_bytes(data)


def config(path, **changes):
    return ClipsConfig(**{"path": str(path), "frames": 4, "height": 16, "width": 16, **changes})


@pytest.fixture
def folder(tmp_path):
    """Five clips, of which two decode to nothing."""
    for i in range(5):
        made = clip(tmp_path / f"c{i}.mp4", FACTS if i < 4 else {})
        if i in (1, 3):
            spoil(made)
    return tmp_path


def test_all_bad_clips_are_told_before_the_first_step(folder):
    for _ in range(2):
        with pytest.raises(MgzooError) as error:
            next(Clips(config(folder)).batches(1))
        text = str(error.value)
        assert "2 clips cannot be used" in text and "c1.mp4" in text and "c3.mp4" in text and "on_error: skip" in text


def test_bad_clips_that_are_skipped_are_counted_and_named(folder, caplog):
    data = Clips(config(folder, on_error="skip", shuffle=False))
    keys = [c.key for c in next(data.batches(5))]
    assert keys == ["c0", "c2", "c2", "c4", "c4"] and data.counts() == {"skipped": 2}
    assert "c1.mp4" in caplog.text and "c3.mp4" in caplog.text and "2 clips skipped, 3 used" in caplog.text


def test_what_was_found_is_remembered_until_the_file_changes(folder):
    next(Clips(config(folder, on_error="skip")).batches(1))
    samples = scan_data(folder, (".mp4",)).samples
    assert all(Inspections(folder).knows("pictures", sample) for sample in samples)
    clip(folder / "c1.mp4", frames=6)
    assert [Inspections(folder).knows("pictures", sample) for sample in scan_data(folder, (".mp4",)).samples] == [True, False, True, True, True]
    data = Clips(config(folder, on_error="skip", shuffle=False))
    assert [c.key for c in next(data.batches(5))] == ["c0", "c1", "c2", "c4", "c4"]


def test_a_cache_home_that_cannot_be_written_is_no_error(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path / "file"))
    assert len(next(Clips(config(folder, on_error="skip")).batches(5))) == 5


@pytest.mark.parametrize("wrong", [{"frames": 4}, {"frames": 99}, {"fps": 30}, {"height": 720, "width": 1280}])
def test_a_sidecar_that_is_wrong_about_its_clip_is_not_believed(tmp_path, caplog, wrong):
    clip(tmp_path / "a.mp4", {**FACTS, **wrong})
    drawn = next(Clips(config(tmp_path, frames=8 if wrong.get("frames") != 4 else 4)).batches(1))[0]
    assert drawn.fps == pytest.approx(8 if drawn.frames == 8 else 4) and len(drawn.load()) == drawn.frames
    assert [round(level / 20) for level in drawn.load()[:, 8, 8, 0].tolist()] == list(range(0, 8, 8 // drawn.frames))
    name, value = next(iter(wrong.items()))
    assert f"a.mp4 declares {name} {value:g} (it has" in caplog.text


def test_a_bucket_is_chosen_by_the_clip_not_by_its_sidecar(tmp_path):
    clip(tmp_path / "a.mp4", {**FACTS, "height": 9}, height=32)
    drawn = next(Clips(config(tmp_path, buckets=("4x16x32", "4x32x16"))).batches(1))[0]
    assert (drawn.height, drawn.width) == (32, 16)


def test_facts_that_are_no_facts_are_looked_up(tmp_path):
    for i, facts in enumerate(({"frames": True}, {"frames": "8"}, {"frames": 8.5}, {"fps": -1}, {"fps": float("inf")})):
        clip(tmp_path / f"c{i}.mp4", {**FACTS, **facts})
    found = scan_data(tmp_path, (".mp4",)).samples
    assert len(found) == 5 and not any(claimed_facts(sample) for sample in found)
    assert all(c.fps == 4 for c in next(Clips(config(tmp_path)).batches(5)))


def test_rates_within_half_a_per_cent_are_one():
    facts = {"frames": 8, "height": 16, "width": 16, "fps": 24}
    assert disagreement(facts, {**facts, "fps": 24000 / 1001}) == ""
    assert disagreement(facts, {**facts, "fps": 25}) == "fps 24 (it has 25)"
    assert disagreement({**facts, "frames": 1}, {**facts, "frames": 1, "fps": None}) == ""


# formats


FORMATS = {"mp4": "libx264", "m4v": "libx264", "mov": "libx264", "mkv": "libx264", "ts": "libx264", "flv": "libx264", "webm": "libvpx", "avi": "mpeg4", "mpg": "mpeg1video",
           "wmv": "msmpeg4", "3gp": "mpeg4", "ogv": "libvpx"}  # fmt: skip
CONTAINERS = {"ts": "mpegts", "mpg": "mpeg", "wmv": "asf", "m4v": "mp4", "ogv": "ogg"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_clip_of_this_suffix_is_trained_on(tmp_path, suffix):
    with av.open(str(tmp_path / f"a.{suffix}"), "w", format=CONTAINERS.get(suffix)) as container:
        stream = container.add_stream(FORMATS[suffix], rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numpy.full((64, 64, 3), 20 * i, numpy.uint8), "rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode())
    (tmp_path / "a.txt").write_text("growing light")
    drawn = next(Clips(config(tmp_path)).batches(1))[0]
    levels = drawn.load()[:, 8, 8, 0].tolist()
    assert drawn.caption == "growing light" and levels == sorted(levels) and levels[-1] > 90


@pytest.mark.parametrize("suffix", ["png", "jpg", "jfif", "bmp", "tif", "tiff", "webp", "avif", "gif"])
def test_a_picture_of_this_suffix_is_trained_on(tmp_path, suffix):
    Image.new("RGB", (16, 16), (200, 40, 40)).save(tmp_path / f"a.{suffix}")
    (tmp_path / "a.txt").write_text("red")
    drawn = next(Clips(config(tmp_path, frames=1)).batches(1))[0]
    assert abs(drawn.load()[0, 8, 8, 0].item() - 200) < 12


def test_what_is_no_clip_is_said_to_be_none(tmp_path):
    (tmp_path / "a.ts").write_text("const a: number = 1;")
    (tmp_path / "a.txt").write_text("a program")
    with pytest.raises(MgzooError, match="a.ts: not a readable video"):
        Clips(config(tmp_path))


# memory


def test_decoded_media_stay_while_there_is_room():
    tensor = torch.zeros(10, dtype=torch.uint8)
    full, recent = DecodedCache(25), DecodedCache(25, evict=True)
    for cache in (full, recent):
        for name in "abc":
            cache.get_or_compute(name, tensor.clone)
    made = []
    for cache, held in ((full, "ab"), (recent, "bc")):
        for name in held:
            cache.get_or_compute(name, lambda: made.append(name) or tensor)
    assert made == []
    assert DecodedCache(5).get_or_compute("large", tensor.clone).shape == (10,)


def test_a_whole_decode_finds_pictures_of_all_kinds(tmp_path):
    frames = [Image.new("RGB", (8, 6), (40 * i, 0, 0)) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    found = decode_whole((tmp_path / "a.gif").read_bytes(), "a.gif")
    assert (found["frames"], found["height"], found["width"], round(found["fps"])) == (3, 6, 8, 10)
    data = (tmp_path / "a.gif").read_bytes()
    with pytest.raises(MgzooError):
        decode_whole(data[: len(data) // 2], "a.gif")
