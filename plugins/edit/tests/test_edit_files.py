"""What people really have: turned, transparent, deep, uneven and odd files as sources; and SDEdit, the baseline that needs no training."""

import io
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from mgzoo import media
from mgzoo.media import Media, uint8_to_float
from mgzoo.spec import MgzooError
from mgzoo_edit.configs import SdeditConfig
from mgzoo_edit.sdedit import Sdedit, edit_from_noised_source

sys.path.insert(0, str(Path(__file__).parent))
import edit_micro as micro  # noqa: E402

PLAIN = micro.RECIPE.replace("guidance_scales: {source: 1.5, text: 3.0}", "guidance: 1.0").replace("edit.instruct.v1", "edit.sdedit.v1").replace(", dim: 16", "")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return micro.model(tmp_path_factory.mktemp("editor"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A text-to-video model, with SDEdit as its task."""
    return micro.model(tmp_path_factory.mktemp("plain"), PLAIN)


def written(path: Path, frames, pix_fmt: str, codec: str, pts=None) -> Path:
    """A file in a format that `Media.save` does not write; frames uint8 (F, Y, X, 3 or 4), pts in ms."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, "rgba" if picture.shape[-1] == 4 else "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = pts[i] if pts else i * 125, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shades(frames=6, height=16, width=24, channels=3):
    return np.random.default_rng(0).integers(0, 255, (frames, height, width, channels), dtype=np.uint8)


def test_a_turned_phone_video_comes_back_upright(model, tmp_path):
    path = Media(video=torch.from_numpy(shades()), fps=8, audio=torch.zeros(1, 24000), rate=48000).save(tmp_path / "phone.mp4")
    data = bytearray(path.read_bytes())
    matrix = data.index(struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000), data.index(b"tkhd"))
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    made = model.generate("make it red", source=path)
    assert made.video.shape == (6, 24, 16, 3) and made.fps == 8 and made.rate == 48000
    again = media.read(made.save(tmp_path / "red.mp4"))
    assert again.video.shape == made.video.shape and again.fps == 8 and again.audio.shape[0] == 1


@pytest.mark.parametrize("name, frames, pix_fmt, codec", [
    ("alpha.mov", shades(channels=4), "rgba", "png"), ("deep.mkv", shades(), "yuv444p10le", "ffv1"), ("odd.mkv", shades(3, 17, 13), "yuv444p", "ffv1"),
    ("two.mkv", shades(2), "yuv444p", "ffv1"),
])  # fmt: skip
def test_files_of_any_kind_keep_their_size_and_length(model, tmp_path, name, frames, pix_fmt, codec):
    made = model.generate("make it red", source=written(tmp_path / name, frames, pix_fmt, codec))
    assert made.video.shape == (*frames.shape[:3], 3) and made.fps == pytest.approx(8)


def test_an_uneven_clip_keeps_its_frames_and_its_seconds(model, tmp_path):
    path = written(tmp_path / "uneven.mkv", shades(), "yuv444p", "ffv1", pts=[0, 40, 80, 500, 540, 1000])
    made = model.generate("make it red", source=path)
    assert len(made.video) == 6 and made.fps == pytest.approx(media.read(path).fps)


def test_a_transparent_picture_is_a_picture_on_white(model, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(shades(1, 9, 7, 4)[0]).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    assert model.generate("make it red", picture=str(tmp_path / "a.png")).video.shape == (1, 9, 7, 3)
    with pytest.raises(MgzooError, match="--source expects a clip; this file is a single image"):
        model.generate("make it red", source=str(tmp_path / "a.png"))


# ------------------------------------------------------------------------------------------------- SDEdit


def test_sdedit_at_little_strength_is_the_source_and_at_full_strength_plain_sampling(plain):
    source = torch.stack([plain.autoencoder.encode(uint8_to_float(micro.shaded(0.7, frames=16, moving=True))[None])[0]])
    told = plain.encode_conditions({"text": ["FPS-8 a red clip"]})
    with torch.no_grad():
        near, far = (edit_from_noised_source(plain, source, told, strength, seed=3, steps=4) for strength in (0.02, 1.0))
        noise = torch.randn(source.shape[1:], generator=torch.Generator().manual_seed(3))[None]
        sampled = type(plain.sampler)(type(plain.sampler.config)(steps=4, guidance=1.0)).sample(
            plain.denoiser(told), source.shape, torch.Generator(), conditions=("text",), noise=noise
        )
    assert (near - source).norm() < 0.1 * source.norm()
    torch.testing.assert_close(far, sampled, rtol=1e-3, atol=1e-3)


def test_sdedit_goes_the_true_way_back(plain):
    """With the true velocity of one clip, every strength ends at that clip: the time is bent rightly."""
    source, target = torch.zeros(1, 16, 2, 2, 2), torch.randn(1, 16, 2, 2, 2)

    def denoiser(conditions, concat=None):
        return lambda x, t, branches: [(target - x) / (1 - t).clamp_min(1e-6).view(-1, 1, 1, 1, 1) for _ in branches]

    own, plain.denoiser = plain.denoiser, denoiser
    try:
        for strength in (0.3, 0.8):
            torch.testing.assert_close(edit_from_noised_source(plain, source, {}, strength, steps=5), target, rtol=1e-3, atol=1e-3)
    finally:
        del plain.denoiser
    assert plain.denoiser == own


def test_sdedit_keeps_size_length_and_sound_and_says_its_strength(plain):
    source = Media(video=torch.from_numpy(shades(21, 30, 18)), fps=12.0, audio=torch.rand(1, 500), rate=8000)
    made = plain.generate("a red clip", source=source, strength=0.5)
    assert made.video.shape == source.video.shape and made.fps == 12.0 and torch.equal(made.audio, source.audio) and made.meta["strength"] == 0.5


@pytest.mark.parametrize("strength", [0.0, 1.5, -1])
def test_a_strength_out_of_range_is_said(plain, strength):
    with pytest.raises(MgzooError, match="not in .0, 1."):
        plain.generate("a red clip", source=Media(video=torch.from_numpy(shades()), fps=8.0), strength=strength)


def test_an_editor_needs_no_sdedit(model):
    with pytest.raises(MgzooError, match="is an editing model"):
        Sdedit(SdeditConfig(frames=16, height=16, width=16)).generate(model, prompt="a red clip", source=Media(video=torch.from_numpy(shades()), fps=8.0))
