"""The stream of clips with references: which picture goes with which clip, what stays out, and what is said of damaged files."""

import io
import itertools
import json
import tarfile

import pytest
import torch
from PIL import Image

from mgzoo.media import Media
from mgzoo.spec import MgzooError
from mgzoo_personalize.configs import PairsConfig
from mgzoo_personalize.pairs import Pairs

COLOURS = {"a": (200, 30, 30), "b": (30, 160, 30), "c": (30, 30, 200), "d": (150, 150, 20)}


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def square(colour, size=32):
    picture = torch.full((size, size, 3), 255, dtype=torch.uint8)
    picture[8:24, 8:24] = torch.tensor(colour, dtype=torch.uint8)
    return picture


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four clips of coloured squares on white; stills of each in two styles, the second brighter. Clip d stands in no list."""
    root = tmp_path_factory.mktemp("pairs")
    with tarfile.open(root / "clips.tar", "w") as tar:
        for key, colour in COLOURS.items():
            file = Media(video=torch.stack([square(colour)] * 4), fps=4.0).save(root / f"{key}.mp4", crf=1)
            add(tar, f"{key}.mp4", file.read_bytes())
            add(tar, f"{key}.json", json.dumps({"caption": f"square {key}", "frames": 4, "fps": 4.0}).encode())
            file.unlink()
    stills = root / "stills"
    stills.mkdir()
    for style, more in (("flat", 0), ("bright", 50)):
        with tarfile.open(stills / f"{style}.tar", "w") as tar:
            for key in "abc":
                buffer = io.BytesIO()
                Image.fromarray(square([c + more for c in COLOURS[key]]).numpy()).save(buffer, "PNG")
                add(tar, f"{key}.png", buffer.getvalue())
    lines = [{"key": key, "caption": "a square", "references": [f"flat/{key}", f"bright/{key}", "flat/a"]} for key in "abc"]
    (stills / "references.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "held_out.txt").write_text("# apart\na\tsquare a\nnot-in-this-data\n")
    return root


def stream(folders, **settings):
    config = PairsConfig(**{"path": str(folders), "references": str(folders / "stills"), "frames": 4, "height": 32, "width": 32, "crop": 16, **settings})
    return Pairs(config, seed=3)


def taken(data, count=8):
    stream = data.batches(2)
    return [clip for _ in range(count) for clip in next(stream)]


def test_only_listed_clips_come_and_their_captions_are_the_lists(folders):
    data = stream(folders)
    assert {clip.key for clip in taken(data)} == {"a", "b", "c"} and len(data) == 3
    assert {clip.caption for clip in taken(data)} == {"a square"}
    alone = stream(folders, references="", cross=0.0)
    assert {clip.caption for clip in taken(alone)} == {f"square {key}" for key in "abcd"}


def test_paired_references_are_of_the_clip_and_crossed_ones_of_another_picture(folders):
    """A frame of the clip fills the crop with its colour; a still does with its style's."""
    for cross in (0.0, 1.0):
        for clip in taken(stream(folders, cross=cross)):
            found = clip.extra["reference"]
            assert found.cross == bool(cross)
            middle = found.load()[8, 8].int()
            base = torch.tensor(COLOURS[clip.key])
            near = min((middle - torch.tensor(c)).abs().max() for c in (COLOURS[clip.key], [x + 50 for x in COLOURS[clip.key]], COLOURS["a"]))
            assert near <= 6 and (cross or (middle - base).abs().max() <= 6)


def test_the_ratio_is_kept_and_drawn_anew_each_epoch(folders):
    clips = taken(stream(folders, cross=0.5), 150)
    share = sum(clip.extra["reference"].cross for clip in clips) / len(clips)
    assert 0.4 < share < 0.6
    assert len({clip.extra["reference"].cross for clip in clips if clip.key == "b"}) == 2


def test_a_held_out_subject_is_in_no_reference(folders):
    """Clip a is held out, and its still, which the list names for b and c too, never comes in training; the list may name what is not here."""
    data = stream(folders, cross=1.0, held_out=("held_out.txt",))
    assert [clip.key for clip in data.held_out()] == ["a"]
    for clip in taken(data, 30):
        assert clip.key != "a"
        assert (clip.extra["reference"].load()[8, 8].int() - torch.tensor(COLOURS["a"])).abs().max() > 60


def test_digests_tell_references_apart(folders):
    seen = {}
    for clip in taken(stream(folders, cross=0.5), 40):
        found = clip.extra["reference"]
        pixels = found.load().numpy().tobytes()
        assert seen.setdefault(found.digest, pixels) == pixels


def refused(folders, **settings):
    with pytest.raises(MgzooError) as caught:
        stream(folders, **settings)
    return str(caught.value)


def test_what_is_wrong_with_the_files_is_said(folders, tmp_path):
    assert "there is no data at nowhere" in refused(folders, path="nowhere")
    assert refused(folders, frames=9).splitlines()[0].endswith("3 clips have fewer than 9 frames, the first a with 4")
    assert "docs/personalize.md" in refused(folders, references=str(tmp_path))
    (tmp_path / "references.jsonl").write_text('{"key": "a", "caption": "x", "references": ["flat/zzz"]}\n')
    assert "1 listed stills are missing, the first flat/zzz" in refused(folders, references=str(tmp_path))
    (tmp_path / "references.jsonl").write_text("nonsense\n")
    assert "references.jsonl:1: this line is not a JSON object with `key` and `caption`" in refused(folders, references=str(tmp_path))


def test_a_share_out_of_range_and_cross_without_stills_are_refused():
    for settings, message in (({"cross": 1.5, "references": "x"}, "cross must be in .0, 1., got 1.5"), ({"cross": 0.5}, "cross 0.5 needs references")):
        with pytest.raises(ValueError, match=message):
            PairsConfig(path="data/emoji64", **settings)


def test_jitter_moves_the_references_of_training_and_no_others(folders):
    plain, moved = (stream(folders, held_out=("held_out.txt",), jitter=jitter) for jitter in (0.0, 0.2))
    pairs = [(a.extra["reference"], b.extra["reference"]) for a, b in zip(taken(plain, 24), taken(moved, 24), strict=True)]
    assert all(a.digest != b.digest and b.load().shape == (16, 16, 3) for a, b in pairs)
    assert sum(not torch.equal(a.load(), b.load()) for a, b in pairs) > 20
    assert all((a.load().float().mean((0, 1)) - b.load().float().mean((0, 1))).abs().max() < 60 for a, b in pairs)  # the same subject on the same white
    same = {}
    for _, one in pairs:  # a digest stands for its pixels
        assert torch.equal(same.setdefault(one.digest, one.load()), one.load())
    held, unmoved = moved.held_out()[0].extra["reference"], plain.held_out()[0].extra["reference"]
    assert held.digest == unmoved.digest and torch.equal(held.load(), unmoved.load())
    with pytest.raises(ValueError, match=r"jitter must be in \[0, 0.5\]"):
        stream(folders, jitter=0.5)


def test_a_bad_clip_ends_the_run_before_its_first_step_or_is_left_out(folders, tmp_path, caplog):
    for name in ("a", "b", "c"):
        Media(video=torch.stack([square(COLOURS[name])] * 4), fps=4.0).save(tmp_path / f"{name}.mp4", crf=1)
        (tmp_path / f"{name}.txt").write_text(f"square {name}")
    data = (tmp_path / "b.mp4").read_bytes()
    at = data.index(b"mdat") + 8
    facts = {"caption": "square b", "frames": 4, "fps": 4.0, "height": 32, "width": 32}
    (tmp_path / "b.json").write_text(json.dumps(facts))
    (tmp_path / "b.mp4").write_bytes(data[:at] + bytes(len(data) - at))
    with pytest.raises(MgzooError, match="b.mp4: "):
        next(stream(tmp_path, references="").batches(1))
    skipping = stream(tmp_path, references="", on_error="skip")
    assert {clip.key for clip in taken(skipping)} == {"a", "c"} and skipping.counts() == {"skipped": 1}
    assert "skipped: " in caplog.text and "b.mp4" in caplog.text


def with_still(folder, tmp_path, content):
    """References of which the still bright/a is this."""
    for file in folder.iterdir():
        if file.suffix != ".tar":
            (tmp_path / file.name).write_bytes(file.read_bytes())
            continue
        with tarfile.open(file) as old, tarfile.open(tmp_path / file.name, "w") as tar:
            for member in old:
                bright = file.stem == "bright" and member.name == "a.png"
                add(tar, member.name, content if bright else old.extractfile(member).read())
    return str(tmp_path)


def test_a_bad_still_is_told_before_the_first_step_or_is_no_reference(folders, tmp_path, caplog):
    references = with_still(folders / "stills", tmp_path, b"\x89PNG no more")
    with pytest.raises(MgzooError, match="bright/a: not a readable"):
        next(stream(folders, references=references, cross=1.0).batches(1))
    with caplog.at_level("WARNING"):
        skipping = stream(folders, references=references, cross=1.0, on_error="skip")
        drawn = [clip for batch in itertools.islice(skipping.batches(3), 8) for clip in batch]
    assert "1 stills skipped" in caplog.text and "bright/a" in caplog.text
    assert {clip.key for clip in drawn} == {clip.key for clip in taken(stream(folders), 24)}
    for clip in drawn:
        clip.extra["reference"].load()


def test_what_is_clear_in_a_still_is_white(folders, tmp_path):
    clear = io.BytesIO()
    Image.new("RGBA", (32, 32), (10, 20, 30, 0)).save(clear, "PNG")
    loaded = stream(folders, references=with_still(folders / "stills", tmp_path, clear.getvalue()), cross=1.0, jitter=0.0)
    assert loaded._still("bright/a").min() == 255 and loaded._still("flat/a").min() < 255
