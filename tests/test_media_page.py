"""docs/media.md against what is measured: its table is made here, from files as they are found in the wild.

``python tests/test_media_page.py`` writes the page anew.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "media.md"
sys.path.insert(0, str(Path(__file__).parent))

from wild import audio, clip, flash, graded, luma, moved, noise, square, tone, veiled, with_matrix  # noqa: E402

from mgzoo import media  # noqa: E402

TEXT = """# Media files: reading and writing

`media.read(path)` returns the frames and sound of a file as a player shows them; `media.probe(path)` returns their sizes and lengths in advance. Headers are not trusted: frames
are counted and timed by their timestamps, and lengths are those of the decoded media. Results that need decoding are cached by the digest of the file in
`$MGZOO_HOME/cache/probe` (without `MGZOO_HOME`, in `~/.cache/mgzoo`).

## Unusual files

`python tests/test_media_page.py` makes each file, measures `read as` and writes this table; a test compares the table with the measurements.

{table}

## Rules

- **Rate.** The rate of a clip is its number of frames divided by its duration. The header's rate is used if all timestamps agree with it. Rates within
  half a per cent are equal (`media.same_rate`). Unequally spaced frames are kept, with their times in `meta["variable_frame_rate"]`;
  `read(path, even=True)` resamples them to equal spacing. AVI and raw streams have no timestamps: the header's rate is used.
- **Sound and picture.** The first sample is at the time of the first frame. A pause in the container is silence; missing samples without a pause are
  damage, an error.
- **HDR.** PQ and HLG (ITU-R BT.2100) become SDR of BT.709: 203 cd/m2 (BT.2408) is white, BT.2020 primaries become BT.709's (BT.2087), colours brighter than white keep
  their hue at full level, and light becomes values by the inverse of a display gamma of 2.4 (BT.1886). Formulas: `mgzoo/media/color.py`.
- **Stills.** Colour profiles are converted to sRGB. 16-bit integers are divided by 257. Only the first page of a TIFF and the first picture of a JPEG are read.
- **Damage.** A truncated file is read up to its end, with a warning that gives the missing part; as a sample of a data set, and for its sound alone, it is an error
  (`mgzoo.media.truncation`: mp4, mov, mkv, webm, avi, wav, aiff, mp3). Checksums of FLAC, AC-3 and FFV1 are verified. Damaged sound is ignored if only frames are read, as in
  `video.clips.v1`. Playlists (ffconcat, HLS, DASH) are not media files.
- **Writing.** Frame times are hundredths of a second in `.gif` and thousandths in `.webp`. Each frame boundary is rounded separately, so that the total duration is
  right. Frames that would be shorter than browsers display, 0.02 s and 0.011 s, are dropped with a warning. More than two channels of sound are mixed down to two (ITU-R BS.775).
  Limits of a format are checked before generation (`media.can_hold`).
"""


def wild_files(folder: Path):
    """(what is found, what mgzoo does, the file) of every row."""
    whole = clip(folder / "whole.mp4", square(32), 8, sound=tone(4), gop=100)
    yield "a clip cut without encoding: its header counts 32 frames, its edit list shows 16", "the frames that are shown", moved(whole, folder / "trim.mp4", start=2.0)
    yield "an AVI whose header counts a frame too many", "frames are counted by decoding", clip(folder / "a.avi", square(21), 8, vcodec="mpeg4")
    screen = [0.0, 1.0, 2.0] + [2.0 + (i + 1) / 30 for i in range(29)]
    yield "a browser's recording, header: 1000 frames a second", "the mean rate by time", clip(folder / "a.webm", square(32), 1000, vcodec="libvpx", times=screen)
    late = clip(folder / "late.mp4", flash(32, 12), 8, sound=tone(3.5), sound_at=0.5)
    yield "sound that begins 0.5 s after the picture", "silence before it", late
    yield "a picture that begins 0.5 s after the sound", "the sound is cut to begin with it", clip(folder / "b.mp4", square(32), 8, sound=tone(4.5), picture_at=0.5)
    yield "a clip whose sound is shorter than its picture", "`samples` are of the sound", clip(folder / "short.mp4", square(32), 8, sound=tone(1.0))
    mp3 = {"options": {"flags": "+qscale", "global_quality": "472"}, "container": {"write_xing": "0", "id3v2_version": "0"}}
    uneven = np.concatenate([noise(2, 44100), tone(5, 44100, gain=0.05)])
    yield "an MP3 of 7 s whose length is an estimate", "all that is decoded", audio(folder / "a.mp3", uneven, codec="libmp3lame", **mp3)
    yield "a sound with a cover picture", "a sound", audio(folder / "b.mp3", tone(1.0, 44100), codec="libmp3lame", cover=square(1)[0])
    first, *rest = (Image.fromarray(p) for p in square(6))
    first.save(folder / "a.gif", save_all=True, append_images=rest, duration=0, loop=0)
    yield "a GIF without delays", "10 frames a second, as browsers play it", folder / "a.gif"
    yield "a display matrix that turns a clip of 64 x 32 and mirrors it", "the whole matrix is heeded", with_matrix(clip(folder / "c.mp4", square(8, 32, 64), 8), folder / "d.mp4", 0, 1, 1, 0)
    yield "pixels twice as wide as high", "scaled to square pixels", clip(folder / "e.mp4", square(8), 8, aspect="2:1")
    yield "interlaced frames", "made whole by FFmpeg's bwdif, as many as before", clip(folder / "f.mkv", square(8), 8, vcodec="ffv1", pix="yuv422p", interlaced=True)
    yield "white paper in HDR (PQ, 203 cd/m2)", "SDR white", graded(folder / "hdr.mkv", luma(0.5807), 16, 9, 9)
    yield "the same in HLG", "SDR white", graded(folder / "hlg.mkv", luma(0.75), 18, 9, 9)
    yield "an MPEG-1 stream", "read by FFmpeg", clip(folder / "a.mpg", square(25), 25, vcodec="mpeg1video", format="mpeg1video")
    photo = first.resize((256, 128))
    photo.save(folder / "phone.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))])
    yield "a phone's JPEG with a gain map, or with the other eye's picture", "the first picture", folder / "phone.jpg"
    Image.fromarray((np.arange(4096).reshape(64, 64) * 16).astype(np.uint16)).save(folder / "grey.png")
    yield "a grey ramp of 16 bits", "scaled to 8 bits", folder / "grey.png"
    first.save(folder / "paper.tiff", save_all=True, append_images=rest)
    yield "a TIFF of six pages", "the first page", folder / "paper.tiff"
    Image.new("RGB", (64, 64), "white").save(folder / "moving.png", save_all=True, append_images=[first, *rest], duration=100, default_image=True)
    yield "an APNG with a still for viewers that do not move", "the still is no frame", folder / "moving.png"
    first.save(folder / "moving.avif", save_all=True, append_images=rest, duration=50)
    yield "an AVIF that moves", "all frames", folder / "moving.avif"
    yield "a WebM of which a part is clear", "white where it is clear", veiled(folder / "veiled.webm", "libvpx-vp9")
    flipped = Image.Exif()
    flipped[0x0112] = 6
    first.resize((64, 32)).save(folder / "turned.tiff", exif=flipped)
    yield "a photo of 64 x 32 that Exif turns, as JPEG, PNG, WebP or TIFF", "upright", folder / "turned.tiff"


def measured(path: Path) -> str:
    """What reading a file gave, which is what `probe` says."""
    found, read = media.probe(path), media.read(path)
    words = []
    if read.video is not None:
        frames, height, width, _ = read.video.shape
        assert (frames, height, width, read.fps) == tuple(found[name] for name in ("frames", "height", "width", "fps"))
        words.append(f"{width} x {height}, " + ("one picture" if read.fps is None else f"{frames} frames, {read.fps:.4g} a second"))
        if frames == 1:
            words.append(f"mean {read.video.float().mean():.0f}")
    if read.audio is not None:
        assert found["samples"] == read.audio.shape[1]
        loud = (read.audio[0].abs() > 0.05).nonzero()
        words.append(f"{read.audio.shape[1] / read.rate:.1f} s of sound" + (f", heard from {loud[0].item() / read.rate:.1f} s on" if found["offset"] else ""))
    return "; ".join(words)


def page(folder: Path) -> str:
    rows = [f"| {found} | {does} | {measured(path)} |" for found, does, path in wild_files(folder)]
    return TEXT.format(table="\n".join(["| file | what mgzoo does | read as |", "|---|---|---|", *rows]))


def test_the_page_says_what_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path / "home"))
    assert PAGE.read_text() == page(tmp_path), "python tests/test_media_page.py writes it anew"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        PAGE.write_text(page(Path(made)))
