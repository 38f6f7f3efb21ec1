"""Laws of files: what is written is read back, what cannot be read is said, nothing is half there."""

import io
import os
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mgzoo import media
from mgzoo.media import Media
from mgzoo.spec import MgzooError


def moving(frames=9, height=48, width=64):
    """A soft gradient that brightens, uint8 (frames, height, width, 3)."""
    y, x, t = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, torch.arange(frames) / frames, indexing="ij")
    return (torch.stack([x, y, (x + y) / 2], -1).mul(150).add(t[..., None] * 100)).to(torch.uint8).permute(2, 0, 1, 3).contiguous()


def tone(seconds=1.0, rate=48000):
    return 0.5 * torch.sin(torch.arange(round(seconds * rate)) / rate * 440 * 2 * torch.pi)[None]


def psnr(a, b):
    return 10 * torch.log10(255**2 / (a.double() - b.double()).square().mean()).item()


def raw_video(frames, pix_fmt, codec, suffix="mkv", pts=None, rate=8):
    """Bytes of a file in a format that `Media.save` does not write; frames uint8 (T, H, W, 3 or 4)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format={"mkv": "matroska", "mov": "mov", "mp4": "mp4"}[suffix]) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, "rgba" if picture.shape[-1] == 4 else "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = pts[i] if pts else i * 1000 // rate, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


# written and read back


@pytest.mark.parametrize("height,width", [(48, 64), (47, 63), (48, 63), (16, 16)])
def test_mp4_keeps_size_rate_and_picture(tmp_path, height, width):
    video = moving(height=height, width=width)
    path = Media(video=video, fps=5.29, caption="a rabbit").save(tmp_path / "a.mp4")
    read = media.read(path)
    assert read.video.shape == video.shape and read.video.dtype == torch.uint8
    assert read.fps == pytest.approx(5.29) and read.caption == "a rabbit"
    assert psnr(read.video, video) > 36
    assert "variable_frame_rate" not in read.meta


def test_mp4_is_playable_everywhere_where_the_size_allows(tmp_path):
    for width, pix_fmt in ((64, "yuv420p"), (63, "yuv444p")):
        with av.open(str(Media(video=moving(width=width), fps=8).save(tmp_path / "a.mp4"))) as container:
            assert container.streams.video[0].codec_context.pix_fmt == pix_fmt
            assert container.streams.video[0].codec_context.name == "h264"


@pytest.mark.parametrize("channels", [1, 2])
def test_mp4_keeps_sound_in_step(tmp_path, channels):
    sound = tone(2.0).repeat(channels, 1) * (torch.arange(96000) > 48000)
    read = media.read(Media(video=moving(16), fps=8, audio=sound, rate=48000).save(tmp_path / "a.mp4"))
    assert read.rate == 48000 and read.audio.shape[0] == channels
    assert abs(read.audio.shape[1] - 96000) <= 1024
    loud = (read.audio[0].abs() > 0.1).nonzero()[0].item()
    assert abs(loud - 48000) < 1024, "AAC's own delay is taken back"


def test_wav_keeps_every_sample(tmp_path):
    sound = tone(0.25, 16000)
    read = media.read(Media(audio=sound, rate=16000, caption="sine").save(tmp_path / "a.wav"))
    assert read.video is None and read.fps is None and read.rate == 16000 and read.caption == "sine"
    assert (read.audio - sound).abs().max() < 1 / 32000


def test_png_keeps_every_pixel(tmp_path):
    picture = torch.randint(0, 256, (1, 7, 5, 3), dtype=torch.uint8)
    read = media.read(Media(video=picture, caption="noise").save(tmp_path / "a.png"))
    assert torch.equal(read.video, picture) and read.fps is None


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.png", "a.wav"])
def test_what_is_known_travels_in_the_file(tmp_path, name):
    facts = {"seed": 3, "sampler": {"steps": 50}, "prompt": "héllo 🐇 \"quoted\"\nline"}
    frames = 1 if name == "a.png" else 4
    made = Media(video=moving(frames), fps=8, audio=tone(0.1), rate=48000, caption="wörds", meta=facts)
    path = made.save(tmp_path / name)
    assert media.meta(path) == {"caption": "wörds", **facts}
    assert media.read(path).meta == media.meta(path)


@pytest.mark.parametrize("name,least", [("a.gif", 25), ("a.webp", 30)])
def test_previews_move(tmp_path, name, least):
    video = moving()
    read = media.read(Media(video=video, fps=10).save(tmp_path / name))
    assert read.video.shape == video.shape and read.fps == pytest.approx(10)
    assert psnr(read.video, video) > least


def test_only_the_frames_asked_for_are_kept(tmp_path):
    path = Media(video=moving(), fps=8).save(tmp_path / "a.mp4")
    whole = media.read(path).video
    assert torch.equal(media.read(path, [0, 3, 8]).video, whole[[0, 3, 8]])
    assert torch.equal(media.read_bytes(path.read_bytes(), "a", [4]).video, whole[[4]])


# what others make


def test_a_turned_video_is_set_upright(tmp_path):
    path = Media(video=moving(), fps=8).save(tmp_path / "a.mp4")
    upright, data = media.read(path).video, bytearray(path.read_bytes())
    matrix = data.index(struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000), data.index(b"tkhd"))
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)  # a quarter turn clockwise
    turned = media.read_bytes(bytes(data))
    assert torch.equal(turned.video, torch.rot90(upright, -1, (1, 2)))
    facts = media.probe(bytes(data))
    assert (facts["height"], facts["width"]) == tuple(turned.video.shape[1:3])


def test_transparency_is_laid_on_white():
    frames = np.zeros((3, 16, 16, 4), np.uint8)
    frames[:, :8] = (255, 0, 0, 255)
    video = media.read_bytes(raw_video(frames, "rgba", "png", "mov")).video
    assert video[0, 0, 0].tolist() == [255, 0, 0] and video[0, -1, -1].tolist() == [255, 255, 255]
    buffer = io.BytesIO()
    Image.fromarray(frames[0]).save(buffer, "PNG")
    assert media.read_bytes(buffer.getvalue()).video[0, -1, -1].tolist() == [255, 255, 255]


def test_ten_bits_become_eight():
    video = moving()
    read = media.read_bytes(raw_video(video.numpy(), "yuv444p10le", "ffv1"))
    assert read.video.dtype == torch.uint8 and psnr(read.video, video) > 40


def test_a_variable_frame_rate_is_said():
    video = moving(6).numpy()
    uneven = media.read_bytes(raw_video(video, "yuv444p", "ffv1", pts=[0, 40, 80, 500, 540, 1000]))
    even = media.read_bytes(raw_video(video, "yuv444p", "ffv1"))
    assert len(uneven.video) == 6 and uneven.meta["variable_frame_rate"] == pytest.approx([0, 0.04, 0.08, 0.5, 0.54, 1], abs=0.002)
    assert "variable_frame_rate" not in even.meta and even.fps == pytest.approx(8)


def test_an_uneven_video_can_be_read_evenly(tmp_path):
    video, path = moving(6), tmp_path / "uneven.mkv"
    path.write_bytes(raw_video(video.numpy(), "yuv444p", "ffv1", pts=[0, 40, 80, 500, 540, 1000]))
    asread, even = media.read(path), media.read(path, even=True)
    assert "variable_frame_rate" not in even.meta and even.fps == asread.fps
    shown = [0, 2, 2, 4, 4, 5]  # at 0, 200, … 1000 ms
    assert torch.equal(even.video, asread.video[shown]) and not torch.equal(even.video, asread.video)


def test_a_picture_turned_by_its_exif_is_set_upright():
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(moving(1)[0].numpy()).save(buffer, "JPEG", exif=exif, quality=95)
    assert tuple(media.read_bytes(buffer.getvalue()).video.shape) == (1, 64, 48, 3)
    assert media.probe(buffer.getvalue())["height"] == 64


def test_probe_says_what_read_finds(tmp_path):
    path = Media(video=moving(), fps=8, audio=tone(), rate=48000).save(tmp_path / "a.mp4")
    assert media.probe(path) == {"frames": 9, "height": 48, "width": 64, "fps": 8.0, "seconds": pytest.approx(1.125), "codec": "h264", "channels": 1, "rate": 48000, "samples": 48000, "offset": 0.0}
    assert media.probe(raw_video(moving().numpy(), "yuv444p", "ffv1"))["frames"] == 9, "counted where the header does not say"


def test_a_strangers_comment_is_no_metadata(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif", comment=b"hello there")
    assert media.meta(tmp_path / "a.gif") == {}


# what is refused


def refused(match, call, *args, **kwargs):
    with pytest.raises(MgzooError) as error:
        call(*args, **kwargs)
    assert match in str(error.value)
    assert error.value.remedy
    return error.value


def test_a_missing_file_is_named(tmp_path):
    assert str(refused("no such file", media.read, tmp_path / "no.mp4")) == f"{tmp_path}/no.mp4: no such file\n    -> check the path"


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.webp"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_file_is_refused_by_name(tmp_path, name, damage):
    path = Media(video=moving(1 if name == "a.png" else 9), fps=8).save(tmp_path / name)
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "noise": bytes(range(256)) * 8, "empty": b""}[damage])
    assert refused("", media.read, path).origin == str(path)


def test_a_file_without_frames_is_refused():
    empty = io.BytesIO()
    with av.open(empty, "w", format="matroska") as container:
        sound = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 480), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    refused("the video stream has no frames", media.read_bytes, empty.getvalue(), "empty.mkv")
    refused("the video stream has no frames", media.probe, empty.getvalue(), "empty.mkv")


def test_more_frames_than_there_are_is_refused(tmp_path):
    path = Media(video=moving(4), fps=8).save(tmp_path / "a.mp4")
    refused("only 1 of 2 frames could be decoded (requested frame: 9)", media.read, path, [0, 9])


@pytest.mark.parametrize(
    ("made", "name", "match"),
    [
        (Media(video=moving(), fps=8), "a.tiff", "cannot write .tiff"),
        (Media(video=moving(), fps=8), "a", "cannot write a file without a suffix"),
        (Media(video=moving(), fps=8), "a.png", "a .png holds one frame, but this video has 9"),
        (Media(video=moving()), "a.mp4", "a video needs fps"),
        (Media(video=moving().float(), fps=8), "a.mp4", "video must be uint8 (T, H, W, 3), got float32 (9, 48, 64, 3)"),
        (Media(video=moving(0), fps=8), "a.mp4", "got uint8 (0, 48, 64, 3)"),
        (Media(video=moving(), fps=8), "a.wav", "no sound to write"),
        (Media(audio=tone(), rate=48000), "a.mp4", "no video to write"),
        (Media(audio=tone()), "a.wav", "audio must be float"),
        (Media(video=moving(), fps=8, audio=tone(), rate=12345), "a.mp4", "AAC cannot hold 12345"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_and_nothing_is_left(tmp_path, made, name, match):
    refused(match, made.save, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = Media(video=moving(4), fps=8).save(tmp_path / "a.mp4")
    before = path.read_bytes()
    refused("a video needs fps", Media(video=moving()).save, path)
    with pytest.raises((ValueError, OSError)):
        Media(video=moving(), fps=8).save(path, crf=float("nan"))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("name", ["clip.png", "clip.mp4", "clip.gif"])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(IsADirectoryError) as error:
        Media(video=moving(1), fps=5.0).save(tmp_path / name)
    assert error.value.filename == str(tmp_path / name) and os.listdir(tmp_path) == [name]


# sizes and sheets


@pytest.mark.parametrize("height,width", [(32, 32), (24, 64), (96, 128), (48, 64), (17, 31)])
def test_fit_covers_the_size_and_cuts_from_the_centre(height, width):
    video = moving(2)
    fitted = media.fit(video, height, width)
    assert tuple(fitted.shape) == (2, height, width, 3) and fitted.dtype == torch.uint8
    assert (fitted.float().mean() - video.float().mean()).abs() < 3
    if (height, width) == (48, 64):
        assert torch.equal(fitted, video)


@pytest.mark.parametrize("height,width", [(24, 32), (20, 48), (30, 30), (96, 128)])
def test_a_video_scaled_while_it_is_decoded_is_the_one_scaled_afterwards(tmp_path, height, width):
    path = Media(video=moving(), fps=8).save(tmp_path / "a.mp4")
    covering = media.read(path, cover=(height, width)).video
    assert min(covering.shape[1] - height, covering.shape[2] - width) == 0
    there, after = (media.fit(video, height, width) for video in (covering, media.read(path).video))
    assert psnr(there, after) > 38
    assert psnr(there[1:], after[:-1]) < 30, "or the comparison sees nothing"


def test_cover_turns_with_the_video_and_leaves_what_it_must_not_touch(tmp_path):
    path = Media(video=moving(), fps=8).save(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    matrix = data.index(struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000), data.index(b"tkhd"))
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    assert tuple(media.read_bytes(bytes(data), cover=(32, 20)).video.shape[1:3]) == (32, 24)
    assert torch.equal(media.read(path, cover=(48, 64)).video, media.read(path).video)
    still = Media(video=moving(1)).save(tmp_path / "a.png")
    assert tuple(media.read(still, cover=(8, 8)).video.shape[1:3]) == (48, 64)


def test_resize_gives_each_frame_the_size_alone_and_leaves_the_same_size_as_it_is():
    video = torch.randint(0, 256, (70, 9, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    resized = media.resize(video, 6, 20)
    assert resized.shape == (70, 6, 20, 3) and resized.dtype == torch.uint8 and media.resize(video, 9, 12) is video
    assert torch.equal(resized, torch.cat([media.resize(frame[None], 6, 20) for frame in video]))


def test_fit_keeps_the_aspect():
    video = torch.zeros(1, 64, 128, 3, dtype=torch.uint8)
    video[:, :, 32:96] = 255
    assert media.fit(video, 32, 32).min() > 200, "the sides are cut, not squeezed in"


def test_a_contact_sheet_shows_every_row(tmp_path):
    path = media.contact_sheet([("a red square", moving(9, 16, 16)), ("one frame", moving(1, 16, 16))], tmp_path / "deep" / "sheet.png", columns=4)
    sheet = Image.open(path).convert("RGB")
    assert sheet.width >= 4 * 96 and sheet.height >= 2 * (96 + 16)
    assert np.asarray(sheet)[4:24].min() < 100, "the caption is printed"
    refused("at least one row", media.contact_sheet, [], tmp_path / "none.png")


def test_showing_a_file_does_not_import_torch(tmp_path):
    path = Media(video=moving(2), fps=8, meta={"seed": 1}).save(tmp_path / "a.mp4")
    code = f"import sys; from mgzoo import media; assert media.meta({str(path)!r})['seed'] == 1; assert media.probe({str(path)!r})['frames'] == 2; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# the digest that a file carries


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.png", "a.wav"])
def test_a_file_says_whether_it_is_as_it_was_written(tmp_path, name):
    made = Media(video=moving(1 if name == "a.png" else 4), fps=8, audio=tone(0.1), rate=48000, caption="wörds", meta={"seed": 3, "blake3": "x"})
    path = made.save(tmp_path / name)
    data = path.read_bytes()
    assert media.intact(path) is True and media.meta(path) == {"caption": "wörds", "seed": 3}
    assert made.save(tmp_path / f"again-{name}").read_bytes() == data
    assert Media(**{**vars(media.read(path))}).save(tmp_path / f"copy-{name}") and media.intact(tmp_path / f"copy-{name}") is True
    digest = data[data.index(b'"blake3": "') + 11 :][:64]
    for old, new in ((b'"seed": 3', b'"seed": 4'), (digest, digest[::-1])):
        path.write_bytes(data.replace(old, new))
        assert name == "a.png" or media.intact(path) is False  # Pillow itself refuses a chunk whose checksum is wrong
    for place in range(len(data) // 7, len(data), len(data) // 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            assert media.intact(path) in (False, None)
        except MgzooError:
            pass  # too damaged to be opened
    path.write_bytes(data + b"\0")
    assert media.intact(path) is False


def test_an_edited_picture_is_found_though_its_checksums_are_right(tmp_path):
    path = Media(video=moving(1), caption="a red heart").save(tmp_path / "a.png")
    with Image.open(path) as image:
        info = PngInfo()
        info.add_itxt("mgzoo", image.info["mgzoo"])
        edited = image.copy()
        edited.putpixel((0, 0), (1, 2, 3))
    edited.save(path, pnginfo=info)
    assert media.intact(path) is False and media.meta(path)["caption"] == "a red heart"


def test_a_strangers_file_carries_no_digest(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert media.intact(tmp_path / "a.png") is None
