"""Files that end early, that are damaged in one stream, or whose name or bytes lead elsewhere: said, and never read as something else."""

import logging

import av
import numpy as np
import pytest
import torch
from PIL import Image
from wild import audio, clip, noise, square, tone, veiled

from mgzoo import data, media
from mgzoo.media.decode import read_audio
from mgzoo.media.truncation import missing
from mgzoo.spec import MgzooError

FASTSTART = {"movflags": "faststart"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path / "home"))


def shortened(path, share=0.6):
    """The first bytes of a file."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return len(whole)


# files that end early


CLIPS = [("mp4", "libx264", FASTSTART), ("mov", "mjpeg", FASTSTART), ("mkv", "libx264", {}), ("webm", "libvpx", {}), ("avi", "mpeg4", {})]


@pytest.mark.parametrize(("suffix", "codec", "container"), CLIPS)
def test_a_clip_that_ends_early_is_no_good_sample_and_reading_says_so(tmp_path, caplog, suffix, codec, container):
    path = clip(tmp_path / f"a.{suffix}", square(32), vcodec=codec, container=container, gop=1, pix="yuvj420p" if codec == "mjpeg" else "")
    assert missing(path) == (0, path.stat().st_size)
    data.decode_whole(path.read_bytes(), "a")  # whole: no word
    size = shortened(path)
    assert missing(path) == (size - path.stat().st_size, size)
    with pytest.raises(MgzooError, match=r"a: it ends early: [\d,]+ of its [\d,]+ bytes \(40 %\) are missing"):
        data.decode_whole(path.read_bytes(), "a")
    with caplog.at_level(logging.WARNING):
        try:
            assert len(media.read(path).video) < 32
        except MgzooError:  # the last packet is cut through
            pass
    assert "it ends early" in caplog.text and str(path) in caplog.text


SOUNDS = [("wav", "pcm_s16le", {}), ("aiff", "pcm_s16be", {}), ("mp3", "libmp3lame", {}), ("mka", "libopus", {}), ("m4a", "alac", FASTSTART)]


@pytest.mark.parametrize(("suffix", "codec", "container"), SOUNDS)
def test_a_sound_that_ends_early_is_refused(tmp_path, suffix, codec, container):
    path = audio(tmp_path / f"a.{suffix}", noise(2.0), 48000, codec=codec, container=container)
    read_audio(path)
    shortened(path)
    with pytest.raises(MgzooError, match="it ends early"):
        read_audio(path)


def test_a_size_that_nobody_knew_is_no_size(tmp_path):
    path = audio(tmp_path / "a.wav", tone(0.5), codec="pcm_s16le")
    bytes_ = bytearray(path.read_bytes())
    for unknown in (0, 0xFFFFFFFF, 0x7FFFFFFF):
        bytes_[4:8] = unknown.to_bytes(4, "little")
        assert missing(bytes(bytes_))[0] == 0
    live = clip(tmp_path / "live.mkv", square(8), container={"live": "1"})
    assert missing(live.read_bytes()[:-200])[0] == 0
    tagged = audio(tmp_path / "a.mp3", tone(0.5), codec="libmp3lame")
    assert missing(tagged.read_bytes() + b"TAG" + bytes(125))[0] == 0


def test_no_bytes_upset_the_look_for_the_end(tmp_path):
    draw = np.random.default_rng(0)
    heads = [clip(tmp_path / f"a.{suffix}", square(2), vcodec=codec).read_bytes() for suffix, codec in (("mp4", "mpeg4"), ("mkv", "mpeg4"), ("avi", "mpeg4"))]
    heads.append(audio(tmp_path / "a.mp3", tone(0.2), codec="libmp3lame").read_bytes())
    for head in heads:
        for _ in range(200):
            bent = bytearray(head[: draw.integers(200)])
            for at in draw.integers(len(bent) or 1, size=3) if bent else ():
                bent[at] = draw.integers(256)
            lost, size = missing(bytes(bent))
            assert 0 <= lost <= size


# one stream of two


def bent(path, kind):
    """The file with one packet of a stream of this type damaged."""
    whole = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(getattr(container.streams, kind)[0]) if packet.size]
        middle = bytes(packets[len(packets) // 2])
    at = bytes(whole).index(middle)
    for place in range(at + 20, at + len(middle) - 5, 3):
        whole[place] ^= 0x55
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("codec", ["flac", "ac3", "aac"])
def test_damaged_sound_does_not_spoil_a_picture_that_is_wanted_alone(tmp_path, codec):
    path = clip(tmp_path / "a.mkv", square(24), vcodec="libvpx", sound=noise(3.0), acodec=codec)
    frames = media.read(path).video
    bent(path, "audio")
    for read in (media.read, read_audio):
        with pytest.raises(MgzooError, match="damaged"):
            read(path)
    found = data.probed(path, "a")
    assert found == {"frames": 24, "height": 64, "width": 64, "fps": 8.0} == data.decode_whole(path.read_bytes(), "a")
    assert torch.equal(media.read(path, range(24)).video, frames)


def test_a_checksum_of_a_picture_is_heeded(tmp_path):
    path = clip(tmp_path / "a.mkv", square(8), vcodec="ffv1")
    assert len(media.read(path).video) == 8
    with pytest.raises(MgzooError):
        media.read(bent(path, "video"))


# names and bytes that lead elsewhere


@pytest.mark.parametrize("name", ["12:30.mp4", "concat:b.mp4", "http:a.mp4", "a%03d.mp4"])
def test_a_name_is_a_name_and_no_address(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "b.mp4", square(3))
    clip(tmp_path / "made.mp4", square(5)).rename(name)
    assert len(media.read(name).video) == 5 == media.probe(name)["frames"]


def test_a_list_of_files_is_no_medium(tmp_path):
    clip(tmp_path / "b.mp4", square(3))
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile b.mp4\n")
    with pytest.raises(MgzooError, match="a list of other files"):
        media.read(tmp_path / "a.mp4")


# pictures


@pytest.mark.parametrize("tag", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_tiff_is_turned_once(tmp_path, tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    picture = Image.fromarray(square(1, 32, 64, corner=True)[0])
    for suffix in ("tif", "png"):
        picture.save(tmp_path / f"a.{suffix}", exif=exif)
    read, found = media.read(tmp_path / "a.tif").video, media.probe(tmp_path / "a.tif")
    assert torch.equal(read, media.read(tmp_path / "a.png").video)
    assert (found["height"], found["width"]) == tuple(read.shape[1:3])


def test_an_avif_that_moves_moves(tmp_path):
    pytest.importorskip("PIL.AvifImagePlugin")
    first, *rest = (Image.fromarray(picture) for picture in square(6))
    first.save(tmp_path / "a.avif", save_all=True, append_images=rest, duration=50)
    read, found = media.read(tmp_path / "a.avif"), media.probe(tmp_path / "a.avif")
    assert len(read.video) == 6 == found["frames"] and read.fps == found["fps"] == pytest.approx(20)
    assert (read.video[0] != read.video[5]).any()


@pytest.mark.parametrize("suffix", ["tga", "ico"])
def test_a_still_that_ffmpeg_reads_has_no_rate(tmp_path, suffix):
    Image.new("RGB", (16, 16), "red").save(tmp_path / f"a.{suffix}")
    read = media.read(tmp_path / f"a.{suffix}")
    assert len(read.video) == 1 and read.fps is None and media.probe(tmp_path / f"a.{suffix}")["fps"] is None
    assert read.video[0, 8, 8].tolist() == [255, 0, 0]


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_a_clear_part_of_a_webm_is_white(tmp_path, codec):
    path = veiled(tmp_path / "a.webm", codec)
    shown = media.read(path).video
    assert shown.shape == (4, 64, 64, 3) and shown[:, 48:].min() > 250  # clear
    assert (shown[:, 8:24, ..., 0] > 180).all() and (shown[:, 8:24, ..., 1:] < 20).all()  # red
    assert media.probe(path, decode=True)["frames"] == 4
