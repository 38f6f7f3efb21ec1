"""Files as they are found in the wild: what `probe` says is what `read` gives, at the times and in the colours that are meant."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from wild import audio, clip, flash, graded, luma, moved, noise, square, tone, with_matrix

from mgzoo import media
from mgzoo.media import color
from mgzoo.media.audio import downmix
from mgzoo.media.decode import read_audio
from mgzoo.media.timing import spread
from mgzoo.spec import MgzooError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path / "home"))


def agree(path):
    """`probe` and `read` of a file, which must say the same, twice (the second answer may be a kept one)."""
    found, read = media.probe(path), media.read(path)
    assert media.probe(path) == found
    if read.video is None:
        assert found["frames"] is None and found["fps"] is None
    else:
        assert (found["frames"], found["height"], found["width"]) == tuple(read.video.shape[:3])
        assert found["fps"] == read.fps
    if read.audio is None:
        assert not found["samples"]
    else:
        assert (found["channels"], found["samples"]) == tuple(read.audio.shape) and found["rate"] == read.rate
    return found, read


# counts and lengths


CLIPS = [("mp4", "libx264", "aac"), ("mp4", "libx265", "aac"), ("mp4", "mpeg4", "aac"), ("mov", "libx264", "pcm_s16le"), ("mov", "prores_ks", "alac"), ("mkv", "libx264", "aac"),
         ("mkv", "ffv1", "flac"), ("mkv", "mpeg4", "libmp3lame"), ("webm", "libvpx", "libopus"), ("webm", "libvpx-vp9", "libopus"), ("avi", "mpeg4", "libmp3lame"),
         ("avi", "libx264", "aac"), ("mpg", "mpeg1video", "mp2"), ("ts", "libx264", "aac"), ("flv", "libx264", "aac")]  # fmt: skip


@pytest.mark.parametrize(("suffix", "vcodec", "acodec"), CLIPS)
def test_probe_is_what_reading_gives_of_any_container(tmp_path, suffix, vcodec, acodec):
    fps = 25 if suffix == "mpg" else 8
    path = clip(tmp_path / f"a.{suffix}", square(21), fps, sound=tone(2.0), vcodec=vcodec, acodec=acodec)
    found, _ = agree(path)
    assert found["frames"] == 21 and found["fps"] == pytest.approx(fps)
    assert found["seconds"] == pytest.approx(max(21 / fps, 2.0), abs=0.08)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("wav", "pcm_s16le"), ("wav", "pcm_f32le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("m4a", "aac"), ("aac", "aac"), ("ogg", "libopus"), ("mka", "libopus")]
)
def test_probe_is_what_reading_gives_of_any_sound(tmp_path, suffix, codec):
    path = audio(tmp_path / f"a.{suffix}", tone(1.5), 48000, codec=codec)
    found, read = agree(path)
    assert found["samples"] == pytest.approx(72_000, abs=2400) and found["frames"] is None
    assert torch.equal(read_audio(path)[0], read.audio)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_probe_is_what_reading_gives_of_moving_pictures(tmp_path, suffix):
    first, *rest = (Image.fromarray(p) for p in square(6))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=rest, duration=120, loop=0)
    found, _ = agree(tmp_path / f"a.{suffix}")
    assert found["frames"] == 6 and found["fps"] == pytest.approx(1 / 0.12)


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path):
    whole = clip(tmp_path / "whole.mp4", square(32), 8, sound=tone(4), gop=100)
    trimmed = moved(whole, tmp_path / "trim.mp4", start=2.0)
    found, read = agree(trimmed)
    with av.open(str(trimmed)) as container:
        assert container.streams.video[0].frames == 32, "or nothing is tried here"
    assert found["frames"] == 16 and found["fps"] == 8
    assert torch.equal(read.video, media.read(whole).video[16:])
    assert torch.equal(media.read(trimmed, [0, 15]).video, read.video[[0, 15]])


def test_a_fragmented_file_is_counted(tmp_path):
    path = clip(tmp_path / "a.mp4", square(21), 8, sound=tone(2.6), container={"movflags": "frag_keyframe+empty_moov"}, gop=5)
    found, read = agree(path)
    assert found["frames"] == 21 and found["fps"] == 8 and len(read.video) == 21
    assert read.audio.shape[1] == pytest.approx(2.6 * 48_000, abs=1100)


def test_frames_without_their_key_frame_do_not_count(tmp_path):
    whole = clip(tmp_path / "whole.ts", square(24), 8, gop=8)
    cut = moved(whole, tmp_path / "cut.mkv", skip=3)
    found, read = agree(cut)
    assert found["frames"] < 24 and len(read.video) == found["frames"]


@pytest.mark.parametrize("loud_first", [True, False])
@pytest.mark.parametrize("codec", ["libmp3lame", "aac"])
def test_an_estimated_length_is_not_believed(tmp_path, loud_first, codec):
    loud, quiet = noise(2, 44100), tone(5, 44100, gain=0.05)
    whole = np.concatenate([loud, quiet] if loud_first else [quiet, loud])
    lame = {"options": {"flags": "+qscale", "global_quality": str(4 * 118)}, "container": {"write_xing": "0", "id3v2_version": "0"}}
    path = audio(tmp_path / ("a.mp3" if codec == "libmp3lame" else "a.aac"), whole, 44100, codec=codec, **(lame if codec == "libmp3lame" else {}))
    with av.open(str(path)) as container:
        assert abs(container.duration / av.time_base - 7) > 0.05, "or nothing is tried here"
    found, read = agree(path)
    assert read.audio.shape[1] / 44100 == pytest.approx(7, abs=0.1) and found["seconds"] == pytest.approx(7, abs=0.1)
    assert read_audio(path)[0].shape == read.audio.shape


def test_a_cover_picture_is_no_clip(tmp_path):
    path = audio(tmp_path / "a.mp3", tone(1.0), 48000, codec="libmp3lame", cover=square(1)[0])
    found, read = agree(path)
    assert found["frames"] is None and read.video is None and read.audio.shape[1] == pytest.approx(48_000, abs=2400)


def test_the_length_of_a_sound_is_not_that_of_its_file(tmp_path):
    found, _ = agree(clip(tmp_path / "a.mp4", square(32), 8, sound=tone(1)))
    assert found["seconds"] == pytest.approx(4, abs=0.01) and found["samples"] == pytest.approx(48_000, abs=1024)


# times


def test_a_rate_is_measured_by_time(tmp_path):
    screen = [0.0, 1.0, 2.0] + [2.0 + (i + 1) / 30 for i in range(29)]
    for default_duration in (True, False):
        path = clip(tmp_path / "a.webm", square(32), 1000, vcodec="libvpx", times=screen)
        if not default_duration:
            data = bytearray(path.read_bytes())
            at = data.find(bytes.fromhex("23E383"))
            length = 4 + (data[at + 3] & 0x7F)
            data[at : at + length] = bytes([0xEC, 0x80 | (length - 2)]) + bytes(length - 2)
            path.write_bytes(data)
        found, read = agree(path)
        assert found["fps"] == pytest.approx(32 / 3, rel=0.02) and found["seconds"] == pytest.approx(3, abs=0.05)
        assert read.meta["variable_frame_rate"] == pytest.approx(screen, abs=0.002)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(8), Fraction(60)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_an_even_rate_is_exact_though_timestamps_are_rounded(tmp_path, rate, suffix):
    found, read = agree(clip(tmp_path / f"a.{suffix}", square(16), rate))
    assert found["fps"] == pytest.approx(float(rate), abs=1e-6) and "variable_frame_rate" not in read.meta


def test_ntsc_rates_are_those_they_stand_for():
    assert media.same_rate(24000 / 1001, 24) and media.same_rate(30, 30000 / 1001) and media.same_rate(60000 / 1001, 60)
    assert not media.same_rate(24, 25) and not media.same_rate(29.97, 29.5)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("picture_at", "sound_at"), [(0, 0.5), (0.5, 0), (0, 0), (1.0, 1.0)])
def test_sound_and_picture_are_in_step_from_their_own_starts(tmp_path, suffix, picture_at, sound_at):
    """A flash and a click at the same time, 1.5 s after whichever stream begins first."""
    first = min(picture_at, sound_at)
    heard = np.zeros(round(2.5 * 48000), np.float32)
    at = round((1.5 + first - sound_at) * 48000)
    heard[at : at + 960] = 0.8
    path = clip(tmp_path / f"a.{suffix}", flash(24, round((1.5 + first - picture_at) * 8)), 8, sound=heard, picture_at=picture_at, sound_at=sound_at)
    found, read = agree(path)
    bright = next(i for i, frame in enumerate(read.video) if frame.float().mean() > 128) / read.fps
    click = (read.audio[0].abs() > 0.3).nonzero()[0].item() / read.rate
    assert abs(click - bright) < 0.02
    assert found["offset"] == pytest.approx(sound_at - picture_at, abs=0.025)
    assert torch.equal(read_audio(path)[0], read.audio), "each reader of sound gives the same"


def test_a_pause_in_a_sound_stream_is_silence_and_damage_is_not(tmp_path):
    path = clip(tmp_path / "a.mkv", square(16), 8, sound=tone(2.0), acodec="pcm_s16le", sound_pause=(0.5, 1.0))
    _, read = agree(path)
    assert read.audio[0, 26_000:70_000].abs().max() < 1e-3, "the second part comes a second later"
    assert read.audio.shape[1] == pytest.approx(144_000, abs=100)


def test_a_gif_without_delays_plays_as_browsers_play_it(tmp_path):
    first, *rest = (Image.fromarray(p) for p in square(6))
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=0, loop=0)
    found, read = agree(tmp_path / "a.gif")
    assert found["fps"] == read.fps == pytest.approx(10) and found["seconds"] == pytest.approx(0.6)


# what is shown


TURNS = {  # display matrix (a, b, c, d) -> what is shown of a stored picture (T, H, W, 3)
    (1, 0, 0, 1): lambda v: v,
    (-1, 0, 0, 1): lambda v: v.flip(2),
    (1, 0, 0, -1): lambda v: v.flip(1),
    (-1, 0, 0, -1): lambda v: v.flip(1, 2),
    (0, 1, -1, 0): lambda v: torch.rot90(v, -1, (1, 2)),
    (0, -1, 1, 0): lambda v: torch.rot90(v, 1, (1, 2)),
    (0, 1, 1, 0): lambda v: v.transpose(1, 2),
    (0, -1, -1, 0): lambda v: torch.rot90(v, -1, (1, 2)).flip(1),
}


@pytest.mark.parametrize("matrix", TURNS)
def test_the_whole_display_matrix_is_heeded(tmp_path, matrix):
    path = clip(tmp_path / "a.mp4", square(3, 32, 64, corner=True), 8)
    stored = media.read(path).video
    _, read = agree(with_matrix(path, tmp_path / "turned.mp4", *matrix))
    shown = TURNS[matrix](stored)
    assert torch.equal(read.video, shown)
    assert matrix == (1, 0, 0, 1) or not torch.equal(read.video, stored)


@pytest.mark.parametrize("tag", range(1, 9))
def test_every_exif_orientation_is_heeded(tmp_path, tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    picture = Image.fromarray(square(1, 32, 64, corner=True)[0])
    picture.save(tmp_path / "a.png", exif=exif)
    from PIL import ImageOps

    with Image.open(tmp_path / "a.png") as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    _, read = agree(tmp_path / "a.png")
    assert np.array_equal(read.video[0].numpy(), shown)


@pytest.mark.parametrize(("aspect", "shape"), [("2:1", (64, 128)), ("1:2", (128, 64)), ("1:1", (64, 64)), ("16:15", (60, 68))])
def test_pixels_are_square_after_reading(tmp_path, aspect, shape):
    path = clip(tmp_path / "a.mp4", square(3, 60 if aspect == "16:15" else 64, 64), 8, aspect=aspect)
    found, read = agree(path)
    assert read.video.shape[1:3] == shape
    covered = media.read(path, cover=(32, 32)).video
    assert min(covered.shape[1:3]) == 32 and covered.shape[2] / covered.shape[1] == pytest.approx(shape[1] / shape[0], rel=0.04)


def test_wide_pixels_of_a_turned_video_become_high_ones(tmp_path):
    path = with_matrix(clip(tmp_path / "a.mp4", square(3), 8, aspect="2:1"), tmp_path / "b.mp4", 0, 1, -1, 0)
    found, read = agree(path)
    assert read.video.shape[1:3] == (128, 64)
    assert min(media.read(path, cover=(16, 16)).video.shape[1:3]) == 16


@pytest.mark.parametrize(("height", "width", "hd"), [(544, 1280, True), (720, 960, True), (576, 720, False), (480, 854, False)])
def test_high_definition_that_says_nothing_is_bt709(tmp_path, height, width, hd):
    green = np.zeros((height, width, 3), np.uint8)
    green[..., 1] = 200
    path = clip(tmp_path / "a.mp4", [green] * 2, 8, matrix="ITU709" if hd else "ITU601", tagged=False)
    assert media.read(path).video[0, 8, 8].tolist() == pytest.approx([0, 200, 0], abs=3)


def test_interlaced_frames_are_made_whole_and_none_is_lost(tmp_path):
    """A bar that moves between the two fields of each frame: combed as it is stored, whole after reading."""
    frames = []
    for i in range(8):
        frame = np.full((64, 64, 3), 40, np.uint8)
        frame[0::2, 8 * (i % 6) : 8 * (i % 6) + 8] = 220
        frame[1::2, 8 * (i % 6) + 8 : 8 * (i % 6) + 16] = 220
        frames.append(frame)
    path = clip(tmp_path / "a.mkv", frames, 8, vcodec="ffv1", pix="yuv422p", interlaced=True)
    plain = clip(tmp_path / "b.mkv", frames, 8, vcodec="ffv1", pix="yuv422p")
    found, read = agree(path)
    comb = lambda v: (v[:, 1:-1].float() - (v[:, :-2].float() + v[:, 2:].float()) / 2).abs().mean().item()  # noqa: E731
    assert found["frames"] == 8 and len(read.video) == 8
    assert comb(read.video) < 0.3 * comb(media.read(plain).video)
    assert torch.equal(media.read(path, [2, 5]).video, read.video[[2, 5]])


def test_a_stream_that_pillow_claims_and_ffmpeg_reads(tmp_path):
    path = clip(tmp_path / "a.mpg", square(25), 25, vcodec="mpeg1video", format="mpeg1video")
    assert path.read_bytes()[:4] == b"\0\0\x01\xb3", "or Pillow would not claim it"
    found, _ = agree(path)
    assert found["frames"] == 25 and found["fps"] == 25


# HDR


@pytest.mark.parametrize(
    ("transfer", "signal", "grey"),
    [(16, 0.5807, 255), (18, 0.75, 255), (16, 1.0, 255), (16, 0.4, None), (18, 0.5, None), (14, 0.5, 127.5), (16, 0.0, 0)],
    ids=["PQ 203 cd/m2", "HLG 203 cd/m2", "PQ peak", "PQ grey", "HLG grey", "BT.2020 SDR", "PQ black"],
)  # fmt: skip
def test_hdr_becomes_sdr_by_the_published_formulas(tmp_path, transfer, signal, grey):
    if transfer == 16 and grey is None:
        grey = 255 * (float(color.pq_light(np.array(signal))) / 203) ** (1 / 2.4)
    if transfer == 18 and grey is None:
        grey = 255 * ((signal**2 / 3) ** 1.2 * 1000 / 203) ** (1 / 2.4)
    found = media.read(graded(tmp_path / "a.mkv", luma(signal), transfer, 9, 9)).video[0, 32, 32].tolist()
    assert found == pytest.approx([grey] * 3, abs=1.1)


def test_pq_is_the_published_curve():
    """ITU-R BT.2408-7, table 1: 58 % PQ is the reference white of 203 cd/m2; BT.2100-2: 10,000 cd/m2 at 1."""
    assert color.pq_light(np.array([0.0, 0.5807, 1.0])) == pytest.approx([0, 203, 10_000], rel=1e-3)
    assert color.hlg_scene(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, 1 / 12, 1], abs=1e-6)


def test_bt2020_red_that_bt709_holds_keeps_its_colour(tmp_path):
    """A colour of BT.709 written in BT.2020 comes back."""
    wanted = np.array([0.8, 0.25, 0.15])
    linear = np.linalg.inv(color.TO_709.astype(float)) @ wanted**2.4
    r, g, b = linear ** (1 / 2.4)
    y = 0.2627 * r + 0.6780 * g + 0.0593 * b
    levels = round(64 + 876 * y), round(512 + 896 * (b - y) / 1.8814), round(512 + 896 * (r - y) / 1.4746)
    found = media.read(graded(tmp_path / "a.mkv", levels, 14, 9, 9)).video[0, 32, 32].tolist()
    assert found == pytest.approx((255 * wanted).tolist(), abs=2)


# stills


def test_the_first_picture_of_a_phones_photo(tmp_path):
    photo = Image.fromarray(square(1)[0]).resize((256, 256))
    for name, second in (("gain.jpg", Image.new("RGB", (64, 64), (128, 128, 128))), ("stereo.jpg", photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
        photo.save(tmp_path / name, "MPO", save_all=True, append_images=[second])
        found, read = agree(tmp_path / name)
        assert found["frames"] == 1 and found["codec"] == "jpeg" and read.fps is None
        assert (read.video[0].float() - torch.from_numpy(np.asarray(photo)).float()).abs().mean() < 3


def test_pages_are_no_frames(tmp_path):
    one, other = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    one.save(tmp_path / "a.tiff", save_all=True, append_images=[other])
    found, read = agree(tmp_path / "a.tiff")
    assert found["frames"] == 1 and read.video[0, 0, 0].tolist() == [255, 0, 0]


def test_the_still_of_an_animation_is_no_frame(tmp_path):
    pictures = [Image.fromarray(p) for p in square(4)]
    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.png", save_all=True, append_images=pictures, duration=100, default_image=True)
    found, read = agree(tmp_path / "a.png")
    assert found["frames"] == 4 and read.video[0, 0, 0].tolist() == [40, 90, 160]


RAMP = np.arange(4096).reshape(64, 64)


@pytest.mark.parametrize(
    ("array", "suffix"),
    [((RAMP * 16).astype(np.uint16), "png"), ((RAMP * 16).astype(np.uint16), "tiff"), ((RAMP * 16).astype(np.int32), "tiff"), ((RAMP / 4096).astype(np.float32), "tiff"),
     ((RAMP // 16).astype(np.int32), "tiff"), ((RAMP / 16).astype(np.float32), "tiff"), ((RAMP // 16).astype(np.uint8), "png")],
    ids=["16 bits", "16 bits, TIFF", "32 bits", "float to 1", "32 bits to 255", "float to 255", "8 bits"],
)  # fmt: skip
def test_a_ramp_stays_a_ramp_whatever_its_bits(tmp_path, array, suffix):
    Image.fromarray(array).save(tmp_path / f"a.{suffix}")
    _, read = agree(tmp_path / f"a.{suffix}")
    grey = read.video[0, ..., 0].float()
    assert (grey - torch.from_numpy(RAMP / 4095 * 255)).abs().max() < 2


def test_sixteen_bit_colour_and_transparent_grey(tmp_path):
    frame = av.VideoFrame.from_ndarray(np.stack([RAMP * 16] * 3, -1).astype(np.uint16), "rgb48le").reformat(format="rgb48be")
    with av.open(str(tmp_path / "a.png"), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb48be"
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert (media.read(tmp_path / "a.png").video[0, ..., 1].float() - torch.from_numpy(RAMP / 4095 * 255)).abs().max() < 2
    Image.fromarray((RAMP * 16).astype(np.uint16)).save(tmp_path / "b.png", transparency=0)
    shown = media.read(tmp_path / "b.png").video[0]
    assert shown[0, 0].tolist() == [255, 255, 255] and shown[0, 40].float().mean() < 20


def test_a_wide_gamut_becomes_srgb_and_cmyk_becomes_rgb(tmp_path):
    """The profile of a display whose red is wider than sRGB's: its (200, 60, 60) is redder in sRGB."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    Image.new("RGB", (8, 8), (200, 60, 60)).save(tmp_path / "a.png", icc_profile=wide())
    Image.new("RGB", (8, 8), (200, 60, 60)).save(tmp_path / "b.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    Image.new("RGB", (8, 8), (200, 60, 60)).save(tmp_path / "c.png", icc_profile=b"broken")
    Image.new("RGB", (8, 8), (200, 60, 60)).save(tmp_path / "d.png", icc_profile=lab.tobytes())
    first = {name: media.read(tmp_path / f"{name}.png").video[0, 0, 0].tolist() for name in "abcd"}
    assert first["a"][0] > 210 and first["a"][1] < 60
    assert first["b"] == first["c"] == first["d"] == [200, 60, 60]
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "e.jpg", quality=95)
    red = media.read(tmp_path / "e.jpg").video[0, 0, 0].tolist()
    assert red[0] > 230 and max(red[1:]) < 40


def wide() -> bytes:
    """sRGB's profile with the primaries of Display P3 (D50-adapted, as ICC wants them)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for tag, xyz in ((b"rXYZ", (0.51512, 0.24120, -0.00105)), (b"gXYZ", (0.29198, 0.69225, 0.04189)), (b"bXYZ", (0.15710, 0.06657, 0.78407))):
        at = struct.unpack(">I", data[(place := data.index(tag, 128)) + 4 : place + 8])[0]
        data[at + 8 : at + 20] = struct.pack(">3i", *(round(x * 65536) for x in xyz))
    return bytes(data).replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_pictures_of_every_mode_become_rgb(mode, tmp_path):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (8, 8), "white").convert(mode).save(path)
    assert media.read(path).video.shape == (1, 8, 8, 3) and media.read(path).video.float().mean() > 250


# what is kept of it


def test_what_was_decoded_once_is_kept_and_a_damaged_entry_is_not_believed(tmp_path, monkeypatch):
    path = clip(tmp_path / "a.webm", square(12), 8, vcodec="libvpx")
    found = media.probe(path)
    (kept,) = (tmp_path / "home" / "cache" / "probe").iterdir()
    assert kept.name.endswith(".json")
    kept.write_text(kept.read_text().replace('"frames": 12', '"frames": 11'))
    assert media.probe(path)["frames"] == 11, "the kept answer is used"
    kept.write_text('{"frames": 12')
    assert media.probe(path) == found == media.probe(path.read_bytes())
    assert [entry.name for entry in kept.parent.iterdir()] == [kept.name], "made again, nothing else is left"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file where a folder should be")
    assert media.probe(clip(tmp_path / "a.webm", square(5), 8, vcodec="libvpx"))["frames"] == 5


# written as asked


@pytest.mark.parametrize("fps", [5, 7, 8, 12.5, 24, 29.97, 30, 50, 60, 90, 120, 240])
@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_a_moving_picture_lasts_as_long_as_asked_in_a_browser(tmp_path, fps, suffix):
    made = media.Media(video=torch.from_numpy(np.stack(square(16))), fps=float(fps))
    with Image.open(made.save(tmp_path / f"a.{suffix}")) as image:
        delays = []
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            delays.append(image.info["duration"])
    assert min(delays) >= (20 if suffix == "gif" else 11)
    assert sum(delays) / 1000 == pytest.approx(16 / fps, abs=0.0051 if suffix == "gif" else 0.0011)
    assert "variable_frame_rate" not in media.read(tmp_path / f"a.{suffix}").meta
    assert fps > 50 or len(delays) == 16


@pytest.mark.parametrize(("frames", "fps"), [(1, 30), (1, 240), (2, 1000), (7, 13), (300, 29.97), (100, 0.5)])
def test_no_error_of_a_delay_adds_up(frames, fps):
    chosen = spread(frames, fps, 100, 2)
    ends = np.cumsum([delay for _, delay in chosen])
    assert all(delay >= 2 for _, delay in chosen) and chosen[0][0] == 0
    assert [int(end) for end in ends[:-1]] == [round(100 * frame / fps) for frame, _ in chosen[1:]]


@pytest.mark.parametrize(
    ("suffix", "asked", "said"),
    [(".mp4", {"fps": 0.0}, "frames per second"), (".mp4", {"fps": float("nan")}, "frames per second"), (".gif", {"fps": 0.001}, "frames per second"),
     (".webp", {"width": 16_384}, "16383"), (".gif", {"height": 70_000}, "65535"), (".mp4", {"rate": 12_345}, "AAC cannot hold"), (".mp4", {"width": 20_000}, "16384"),
     (".png", {"frames": 2}, "one frame"), (".tiff", {}, "cannot write")],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_said_before_the_work(suffix, asked, said):
    with pytest.raises(MgzooError, match=said) as error:
        media.can_hold(f"a{suffix}", **asked)
    assert error.value.remedy
    media.can_hold("a.mp4", frames=16, fps=24, height=64, width=64, rate=48_000)


def test_surround_sound_is_mixed_down_as_itu_says(tmp_path):
    """ITU-R BS.775-4, annex 4: the centre and each surround go into a side at -3 dB, the low-frequency channel nowhere."""
    for channel, (left, right) in enumerate([(1, 0), (0, 1), (0.7071, 0.7071), (0, 0), (0.7071, 0), (0, 0.7071)]):
        surround = torch.zeros(6, 100)
        surround[channel] = 0.5
        assert downmix(surround, 2)[:, 7].tolist() == pytest.approx([left / 2, right / 2], abs=1e-4)
    loud = torch.ones(6, 100)
    assert downmix(loud, 2).abs().max() <= 1.0
    video = torch.from_numpy(np.stack(square(8)))
    for name in ("a.mp4", "a.wav"):
        made = media.Media(video=video, fps=8, audio=torch.stack([torch.from_numpy(tone(1))] * 6) * 0.3, rate=48_000).save(tmp_path / name)
        assert media.read(made).audio.shape[0] == 2


@pytest.mark.parametrize("layout, full, values", [
    ("yuv420p10le", False, (64, 502, 940)), ("yuv420p10le", True, (0, 512, 1023)), ("yuv444p12le", False, (256, 2008, 3760)), ("gray16le", True, (0, 32768, 65535)),
])  # fmt: skip
def test_more_than_eight_bits_keep_their_black_and_white(tmp_path, layout, full, values):
    """FFmpeg's scaler gives the white of ten bits as 253 of 255."""
    read = []
    for value in values:
        with av.open(str(tmp_path / "a.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=8)
            stream.width = stream.height = 64
            stream.pix_fmt, stream.codec_context.color_range = layout, 2 if full else 1
            frame = av.VideoFrame(64, 64, layout)
            for number, plane in enumerate(frame.planes):
                bits = frame.format.components[0].bits
                plane.update(np.full(plane.buffer_size // 2, 1 << (bits - 1) if number else value, "<u2").tobytes())
            frame.pts, frame.color_range = 0, stream.codec_context.color_range
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        read.append(media.read(tmp_path / "a.mkv").video[0, 5, 5].tolist())
    assert read[0] == [0, 0, 0] and read[2] == [255, 255, 255] and read[1] in ([127, 127, 127], [128, 128, 128])
