"""Media -> files, through PyAV and Pillow: whole or not at all. Imports torch only to write."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.video.reformatter import VideoReformatter
from PIL import Image, PngImagePlugin

from mgzoo.media import integrity
from mgzoo.media.frames import threads
from mgzoo.spec import MgzooError

if TYPE_CHECKING:
    from mgzoo.media.media import Media
    from torch import Tensor

WRITTEN = (".mp4", ".png", ".gif", ".webp", ".wav")
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


def write(media: Media, path: Path, crf: float) -> Path:
    """`Media.save`."""
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise MgzooError(f"cannot write {suffix or 'a file without a suffix'}", remedy=f"name the file {', '.join(WRITTEN)}", origin=str(path))
    _check(media, path, suffix)
    with atomic_path(path) as aside:
        if suffix == ".wav":
            _write_wav(media, aside)
        elif suffix == ".mp4":
            _write_mp4(media, aside, crf)
        else:
            _write_pictures(media, aside, suffix)
        integrity.write_digest(aside, media.metadata())
    return path


def _check(media: Media, path: Path, suffix: str) -> None:
    import torch

    wants = "audio" if suffix == ".wav" else "video"
    if getattr(media, wants) is None:
        other = "a video name such as .mp4" if wants == "audio" else "a sound name such as .wav"
        raise MgzooError(f"there is no {'sound' if wants == 'audio' else 'picture'} to write", remedy=f"use {other}", origin=str(path))
    if media.video is not None:
        if media.video.dtype != torch.uint8 or media.video.ndim != 4 or media.video.shape[-1] != 3 or not media.video.numel():
            raise MgzooError(f"video must be uint8 (T, H, W, 3), got {_shape(media.video)}", remedy="see mgzoo.model.to_frames", origin=str(path))
        if suffix == ".png" and len(media.video) != 1:
            raise MgzooError(f"a .png holds one frame, this video has {len(media.video)}", remedy="use .mp4, .gif or .webp", origin=str(path))
        if suffix not in (".png", ".wav") and not media.fps and len(media.video) > 1:
            raise MgzooError("a video needs fps", remedy="give Media(fps=…)", origin=str(path))
    if media.audio is not None and suffix in (".wav", ".mp4"):
        if media.audio.ndim != 2 or not media.audio.is_floating_point() or len(media.audio) not in (1, 2) or not media.rate:
            raise MgzooError(f"audio must be float (1 or 2 channels, samples) with a rate, got {_shape(media.audio)}", remedy="give Media(rate=…)", origin=str(path))
        if suffix == ".mp4" and media.rate not in AAC_RATES:
            raise MgzooError(f"AAC cannot hold {media.rate} samples per second", remedy="resample to 48000, or write a .wav", origin=str(path))


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A name to write to; what was written there takes the place of `path` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:  # named after what was asked for
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        aside.unlink(missing_ok=True)


def _write_mp4(media: Media, path: Path, crf: float) -> None:
    frames, height, width, _ = media.video.shape
    fps = Fraction(media.fps or 1).limit_denominator(100_000)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = media.embedded()
        container.metadata["title"] = media.caption
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf)})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        context = stream.codec_context  # BT.709 in limited range, said in the file so that no player guesses
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        scaler, workers = VideoReformatter(), threads(height, width)
        packets = iter(()) if media.audio is None else _sound_packets(media, container)
        ahead = next(packets, None)
        for index, shown in enumerate(media.video.cpu().numpy()):
            frame = av.VideoFrame.from_ndarray(shown, "rgb24")
            frame = scaler.reformat(frame, format=stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG", threads=workers)
            container.mux(stream.encode(frame))
            while ahead is not None and ahead[0] <= (index + 1) / fps:
                container.mux(ahead[1])
                ahead = next(packets, None)
        container.mux(stream.encode())
        while ahead is not None:
            container.mux(ahead[1])
            ahead = next(packets, None)


def _sound_packets(media: Media, container) -> Iterator[tuple[float, list]]:
    """(seconds, packets) of a sound stream added to the file, so that picture and sound can be written side by side."""
    stream = container.add_stream("aac", rate=media.rate, layout="mono" if len(media.audio) == 1 else "stereo")
    stream.bit_rate = 192_000
    stream.codec_context.open()
    sound, step = media.audio.float().clamp(-1, 1).cpu().contiguous().numpy(), stream.codec_context.frame_size
    for start in range(0, sound.shape[1], step):
        frame = av.AudioFrame.from_ndarray(sound[:, start : start + step].copy(), format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = media.rate, start, Fraction(1, media.rate)
        yield start / media.rate, stream.encode(frame)
    yield sound.shape[1] / media.rate, stream.encode(None)


def _write_wav(media: Media, path: Path) -> None:
    pcm = (media.audio.float().clamp(-1, 1) * 32767).round().short().T.reshape(1, -1).cpu().numpy()
    with av.open(str(path), "w", format="wav") as container:
        container.metadata["comment"] = media.embedded()
        stream = container.add_stream("pcm_s16le", rate=media.rate, layout="mono" if len(media.audio) == 1 else "stereo")
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=stream.layout.name)
        frame.sample_rate = media.rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_pictures(media: Media, path: Path, suffix: str) -> None:
    first, *rest = (Image.fromarray(picture) for picture in media.video.cpu().numpy())
    moving = {"save_all": True, "append_images": rest, "duration": round(1000 / (media.fps or 1)), "loop": 0}
    if suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("mgzoo", media.embedded())
        first.save(path, "PNG", pnginfo=info)
    elif suffix == ".gif":
        first.save(path, "GIF", comment=media.embedded().encode(), **moving)
    else:
        exif = Image.Exif()
        exif[integrity.TITLE] = media.embedded().encode()
        first.save(path, "WEBP", quality=90, method=4, exif=exif, **moving)
