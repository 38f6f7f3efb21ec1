"""The stream of sounds: what comes out of good files, and what is said of bad ones."""

import json
import math
import re
import tarfile
from itertools import islice

import av
import numpy as np
import pytest
import torch

from mgzoo.media import Media
from mgzoo.spec import MgzooError
from mgzoo_audio.sound_configs import SoundsConfig
from mgzoo_audio.sounds import Sounds


def tone(samples: int, channels: int = 1, hertz: float = 300.0, rate: int = 8000) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(samples) / rate).repeat(channels, 1)


def wav(path, audio: torch.Tensor, rate: int, layout: str = "mono", codec: str = "pcm_s16le", format: str = "s16") -> None:
    data = audio.T.reshape(1, -1).contiguous()
    data = (data * 32767).round().short() if format == "s16" else data.float()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(data.numpy(), format=format, layout=layout)
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    path.with_suffix(".txt").write_text(f"the sound {path.stem}")


def config(folder, **more) -> SoundsConfig:
    return SoundsConfig(**{"path": str(folder), "samples": 800, "rate": 8000, **more})


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        wav(tmp_path / f"s{i}.wav", tone(400 + 400 * i, hertz=200 + 100 * i), 8000)
    return tmp_path


def keys(data: Sounds, count: int, size: int = 2) -> list[list[str]]:
    return [[clip.key for clip in batch] for batch in islice(data.batches(size), count)]


def test_sounds_are_cut_or_followed_by_silence(folder):
    data = Sounds(config(folder, shuffle=False))
    clips = [clip for batch in islice(data.batches(5), 1) for clip in batch]
    assert [clip.key for clip in clips] == ["s0", "s1", "s2", "s3", "s4"]
    for i, clip in enumerate(clips):
        heard = clip.sound()
        assert heard.shape == (1, 800) and clip.samples == 800 and clip.rate == 8000 and clip.load is None and clip.frames == 0
        assert torch.allclose(heard[:, : 400 + 400 * i], tone(min(800, 400 + 400 * i), hertz=200 + 100 * i), atol=1e-4)
    assert not clips[0].sound()[:, 400:].any() and clips[0].caption == "the sound s0"
    assert len({clip.digest for clip in clips}) == 5


def test_random_crops_move_with_the_epoch_and_stay_with_the_seed(folder):
    def starts(seed: int) -> list[str]:
        data = Sounds(config(folder, crop="random", shuffle=False), seed=seed)
        return [clip.digest for batch in islice(data.batches(5), 2) for clip in batch]

    first, again, other = starts(1), starts(1), starts(2)
    assert first == again != other
    assert first[:2] == first[5:7]  # too short to be cut elsewhere
    assert first[2:5] != first[7:10]


def test_delays_put_silence_before_a_sound_and_come_back(folder):
    data, plain = Sounds(config(folder, shuffle=False, delay=0.05, delays=4, held_out=())), Sounds(config(folder, shuffle=False))
    clean = {clip.key: clip.sound() for clip in next(plain.batches(5))}
    late: dict[str, set[int]] = {key: set() for key in clean}
    for batch in islice(data.batches(5), 24):
        for clip in batch:
            heard = clip.sound()
            (at,) = [k * 100 for k in range(4) if torch.equal(heard, torch.nn.functional.pad(clean[clip.key], (100 * k, 0))[:, :800])]
            late[clip.key].add(at)
    assert set.union(*late.values()) == {0, 100, 200, 300} and all(len(found) > 2 for found in late.values())
    assert len({clip.digest for batch in islice(data.batches(5), 24) for clip in batch if clip.key == "s4"}) == len(late["s4"])
    with pytest.raises(ValueError, match=r"delay must be in \[0, 0.1\) seconds"):
        config(folder, delay=0.1)


def test_ranks_and_resuming(folder):
    alone = keys(Sounds(config(folder)), 6)
    assert [keys(Sounds(config(folder), rank=r, world=2), 3) for r in range(2)] == [alone[0::2], alone[1::2]]
    first, second = Sounds(config(folder)), Sounds(config(folder))
    stream = first.batches(2)
    for _ in range(3):
        next(stream)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert keys(second, 3) == alone[3:]


def test_held_out_sounds_stay_out(folder):
    (folder / "held.txt").write_text("# apart\ns1\tthe sound s1\ns3\n")
    data = Sounds(config(folder, held_out=("held.txt",), crop="random"))
    assert sorted(clip.key for clip in data.held_out()) == ["s1", "s3"] and len(data) == 3
    assert {key for batch in keys(data, 9) for key in batch} == {"s0", "s2", "s4"}
    assert len(Sounds(config(folder, held_out=("held.txt",), split="all"))) == 5
    (folder / "held.txt").write_text("s9\n")
    with pytest.raises(MgzooError, match="1 held-out keys match no sound of this data, the first is s9"):
        Sounds(config(folder, held_out=("held.txt",)))


@pytest.mark.parametrize(("rate", "layout", "channels"), [(8000, "stereo", 2), (192_000, "mono", 1), (48_000, "5.1", 6), (11_025, "mono", 1)])
def test_any_rate_and_layout_becomes_the_configs(tmp_path, rate, layout, channels):
    wav(tmp_path / "x.wav", tone(rate // 5, channels, rate=rate), rate, layout)
    (clip,) = next(Sounds(config(tmp_path)).batches(1))
    assert clip.sound().shape == (1, 800)
    assert (clip.sound() - tone(800))[:, 50:-50].abs().max() < 0.02
    (clip,) = next(Sounds(config(tmp_path, channels=2)).batches(1))
    assert clip.sound().shape == (2, 800)


def test_a_clip_brings_its_picture_and_its_sound_in_time(tmp_path):
    video = torch.arange(16, dtype=torch.uint8)[:, None, None, None].mul(15).expand(16, 32, 32, 3).contiguous()
    audio = torch.zeros(1, 76_800)
    audio[:, 38_400:38_500] = 0.8
    Media(video=video, fps=10.0, audio=audio, rate=48_000).save(tmp_path / "c.mp4")
    (tmp_path / "c.txt").write_text("a click in the middle")
    wav(tmp_path / "s.wav", tone(800), 8000)
    settings = {"samples": 76_800, "rate": 48_000, "frames": 8, "height": 32, "width": 32}
    data = Sounds(config(tmp_path, shuffle=False, **settings))
    clip, plain = next(data.batches(2))
    assert (clip.frames, clip.height, clip.width, clip.fps) == (8, 32, 32, 5.0) and plain.load is None
    shown = clip.load()
    assert shown.shape == (8, 32, 32, 3)
    assert [round(frame.float().mean().item() / 30) for frame in shown] == list(range(8))  # every second frame
    assert abs(clip.sound()[0].abs().argmax().item() - 38_450) < 200
    assert SoundsConfig(path="x", frames=8).modalities() == ("sound", "text", "video") and SoundsConfig(path="x").modalities() == ("sound", "text")


def bad_files(folder) -> dict[str, str]:
    """Bad files by what is said of them."""
    Media(video=torch.zeros(3, 16, 16, 3, dtype=torch.uint8), fps=10.0).save(folder / "mute.mp4")
    (folder / "mute.txt").write_text("no sound track")
    wav(folder / "silent.wav", torch.zeros(1, 800), 8000)
    wav(folder / "nan.wav", torch.full((1, 800), math.nan), 8000, codec="pcm_f32le", format="flt")
    wav(folder / "loud.wav", torch.full((1, 800), 7.0), 8000, codec="pcm_f32le", format="flt")
    wav(folder / "corrupt.flac", 0.5 * torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 48_000))), 48_000, codec="flac")
    data = bytearray((folder / "corrupt.flac").read_bytes())
    data[40_000:50_000] = bytes(10_000)
    (folder / "corrupt.flac").write_bytes(data)
    return {"mute": "no sound track", "silent": "silent", "nan": "non-finite", "loud": "a peak of 7", "corrupt": "damaged|declares"}


def test_bad_files_are_named_or_left_out(folder, caplog):
    said = bad_files(folder)
    with pytest.raises(MgzooError, match="mute.mp4: the file has no sound track"):
        Sounds(config(folder))
    (folder / "mute.mp4").unlink()
    (folder / "mute.txt").unlink()
    said.pop("mute")
    with pytest.raises(MgzooError, match="4 sounds cannot be used") as error:
        next(Sounds(config(folder)).batches(9))
    for key, message in said.items():
        assert re.search(f"{key}\\.[^\\n]*({message})", str(error.value)), key
    data = Sounds(config(folder, on_error="skip"))
    heard = [clip for batch in islice(data.batches(3), 6) for clip in batch]
    assert {clip.key for clip in heard} == {f"s{i}" for i in range(5)} and all(clip.sound().any() for clip in heard)
    assert all(any(key in record.getMessage() for record in caplog.records) for key in said)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda f: (f / "s1.txt").unlink(), "no caption"),
        (lambda f: (f / "s1.txt").write_text("  "), "the caption is empty"),
        (lambda f: (f / "captions.jsonl").write_text("{}\n"), "captions.jsonl:1: this line is not"),
        (lambda f: (f / "captions.jsonl").write_text('{"file": "gone.wav", "caption": "x"}\n'), "the first is gone.wav"),
        (lambda f: wav(f / "s1.flac", tone(800), 8000, codec="flac"), "duplicate key s1"),
    ],
)
def test_folders_that_say_too_little_or_too_much(folder, write, said):
    write(folder)
    with pytest.raises(MgzooError, match=said):
        Sounds(config(folder))


def test_kinds_choose_by_sidecar(folder):
    lines = [{"file": f"s{i}.wav", "caption": f"sound {i}", "kind": "note" if i % 2 else "film", "pitch": 60 + i} for i in range(5)]
    for path in folder.glob("*.txt"):
        path.unlink()
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = Sounds(config(folder, kinds=("note",)))
    assert {s.key for s in data.sources} == {"s1", "s3"} and data.sources[0].fields["pitch"] == 61


def test_no_folder_and_no_sound(tmp_path):
    for path, said in ((tmp_path / "gone", "there is no data at"), (tmp_path, "no training sounds left of 0 found")):
        with pytest.raises(MgzooError, match=said):
            Sounds(config(path))


@pytest.mark.parametrize("seconds", [None, 5.0])
def test_a_crop_is_taken_from_where_there_is_sound(tmp_path, caplog, seconds):
    """The picture lasts longer than the sound, or the sidecar says a length that is not the file's."""
    video = torch.zeros(96, 32, 32, 3, dtype=torch.uint8)
    Media(video=video, fps=8.0, audio=tone(8000, rate=8000), rate=8000).save(tmp_path / "a.mp4")
    fields = {"caption": "a tone", **({"seconds": seconds} if seconds else {})}
    (tmp_path / "a.json").write_text(json.dumps(fields))
    drawn = [clip.sound().abs().max() for batch in islice(Sounds(config(tmp_path, crop="random")).batches(1), 20) for clip in batch]
    assert min(drawn) > 0.3
    assert ("a.mp4 declares 5.00 s and has 1." in caplog.text) == bool(seconds)


def test_captions_with_a_mark_and_clips_of_other_systems_are_read(tmp_path):
    wav(tmp_path / "a.WAV", tone(800), 8000)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa bell\r\n")
    (tmp_path / "._a.WAV").write_bytes(b"\0\5\26\7")
    (clip,) = next(Sounds(config(tmp_path)).batches(1))
    assert (clip.key, clip.caption) == ("a", "a bell")


def test_sounds_in_shards_are_said_not_to_be_read(folder):
    with tarfile.open(folder / "all.tar", "w") as tar:
        for file in sorted(folder.glob("s0.*")):
            tar.add(file, file.name)
    with pytest.raises(MgzooError, match="sounds in shards are not supported: s0\n    -> unpack the shards"):
        Sounds(config(folder))
