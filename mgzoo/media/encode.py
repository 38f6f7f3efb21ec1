"""Media -> files, through PyAV and Pillow: whole or not at all. Imports torch only to write."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.video.reformatter import VideoReformatter
from PIL import Image, PngImagePlugin

from mgzoo.media import integrity
from mgzoo.media.frames import threads
from mgzoo.media.timing import spread
from mgzoo.spec import MgzooError
from mgzoo.storage import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

    from mgzoo.media.media import Media

WRITTEN = (".mp4", ".png", ".gif", ".webp", ".wav")
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


LARGEST = {".mp4": 16384, ".webp": 16383, ".gif": 65535}
"""Pixels along a side that a format (H.264 as x264 writes it, WebP, GIF) can hold."""
RATES = {".mp4": (0.01, 1000), ".gif": (0.002, 10_000), ".webp": (0.001, 10_000)}
"""Frames per second. A GIF counts hundredths of a second in 16 bits, a WebP thousandths in 24; above 50 and 90 frames are left out (`spread`)."""
DELAYS = {".gif": (100, 2), ".webp": (1000, 11)}
"""Units per second of the delays of a format, and the least that browsers heed (they play shorter ones as a tenth of a second)."""
CHANNELS = 2
log = logging.getLogger("mgzoo")


def can_hold(
    name: str | Path, *, frames: int | None = None, fps: float | None = None, height: int | None = None, width: int | None = None,
    rate: int | None = None,
) -> None:  # fmt: skip
    """Raises MgzooError where a file of this name cannot hold so many frames, at this rate, of this size, or sound at this rate: to be asked before the
    work. What is None is not asked. More than two channels of sound are no matter: they are mixed down."""
    suffix, origin = Path(name).suffix.lower(), str(name)
    if suffix not in WRITTEN:
        raise MgzooError(f"cannot write {suffix or 'a file without a suffix'}", remedy=f"use one of {', '.join(WRITTEN)}", origin=origin)
    if suffix == ".png" and frames is not None and frames != 1:
        raise MgzooError(f"a .png holds one frame, but this video has {frames}", remedy="use .mp4, .gif or .webp", origin=origin)
    if suffix in RATES and fps is not None and frames != 1:
        least, most = RATES[suffix]
        if not least <= fps <= most:
            raise MgzooError(f"a {suffix} cannot hold {fps:g} frames per second", remedy=f"use {least:g} to {most:g}", origin=origin)
    if (side := LARGEST.get(suffix)) and max(height or 0, width or 0) > side:
        raise MgzooError(f"a {suffix} is at most {side} pixels along a side, not {width} x {height}", remedy="use a smaller size", origin=origin)
    if suffix == ".mp4" and rate is not None and rate not in AAC_RATES:
        raise MgzooError(f"AAC cannot hold {rate} samples per second", remedy="resample to 48000, or write a .wav", origin=origin)


def write(media: Media, path: Path, crf: float) -> Path:
    """`Media.save`."""
    suffix = path.suffix.lower()
    can_hold(path)
    _check(media, path, suffix)
    with atomic_path(path) as aside:
        if suffix == ".wav":
            _write_wav(media, aside)
        elif suffix == ".mp4":
            _write_mp4(media, aside, crf)
        else:
            _write_pictures(media, aside, suffix, path)
        integrity.write_digest(aside, media.metadata())
    return path


def _check(media: Media, path: Path, suffix: str) -> None:
    import torch

    wants = "audio" if suffix == ".wav" else "video"
    if getattr(media, wants) is None:
        other = "a video name such as .mp4" if wants == "audio" else "a sound name such as .wav"
        raise MgzooError(f"no {'sound' if wants == 'audio' else 'video'} to write", remedy=f"use {other}", origin=str(path))
    frames = height = width = None
    if media.video is not None:
        if media.video.dtype != torch.uint8 or media.video.ndim != 4 or media.video.shape[-1] != 3 or not media.video.numel():
            raise MgzooError(f"video must be uint8 (T, H, W, 3), got {_shape(media.video)}", remedy="see mgzoo.media.float_to_uint8", origin=str(path))
        frames, height, width, _ = media.video.shape
        if suffix not in (".png", ".wav") and not media.fps and frames > 1:
            raise MgzooError("a video needs fps", remedy="give Media(fps=…)", origin=str(path))
    rate = None
    if media.audio is not None and suffix in (".wav", ".mp4"):
        if media.audio.ndim != 2 or not media.audio.is_floating_point() or not len(media.audio) or not media.rate:
            raise MgzooError(f"audio must be float (channels, samples) with a rate, got {_shape(media.audio)}", remedy="give Media(rate=…)", origin=str(path))
        rate = media.rate
    can_hold(path, frames=frames if suffix != ".wav" else None, fps=media.fps or None, height=height, width=width, rate=rate)


def _channels(media: Media) -> Tensor:
    """The sound in one or two channels."""
    from mgzoo.media.audio import downmix

    return media.audio if len(media.audio) <= CHANNELS else downmix(media.audio, CHANNELS)


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


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
    audio = _channels(media)
    stream = container.add_stream("aac", rate=media.rate, layout="mono" if len(audio) == 1 else "stereo")
    stream.bit_rate = 192_000
    stream.codec_context.open()
    sound, step = audio.float().clamp(-1, 1).cpu().contiguous().numpy(), stream.codec_context.frame_size
    for start in range(0, sound.shape[1], step):
        frame = av.AudioFrame.from_ndarray(sound[:, start : start + step].copy(), format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = media.rate, start, Fraction(1, media.rate)
        yield start / media.rate, stream.encode(frame)
    yield sound.shape[1] / media.rate, stream.encode(None)


def _write_wav(media: Media, path: Path) -> None:
    audio = _channels(media)
    pcm = (audio.float().clamp(-1, 1) * 32767).round().short().T.reshape(1, -1).cpu().numpy()
    with av.open(str(path), "w", format="wav") as container:
        container.metadata["comment"] = media.embedded()
        stream = container.add_stream("pcm_s16le", rate=media.rate, layout="mono" if len(audio) == 1 else "stereo")
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=stream.layout.name)
        frame.sample_rate = media.rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_pictures(media: Media, path: Path, suffix: str, named: Path) -> None:
    moving, chosen = {}, [0]
    if suffix in DELAYS:
        per_second, least = DELAYS[suffix]
        timed = spread(len(media.video), media.fps or 1, per_second, least)
        chosen = [frame for frame, _ in timed]
        delays = [delay * 1000 // per_second for _, delay in timed]
        moving = {"save_all": True, "duration": delays if len(delays) > 1 else delays[0], "loop": 0}
        if len(chosen) < len(media.video):
            log.warning("%s: a %s shows at most %d frames per second: %d of %d frames are dropped", named, suffix, per_second // least, len(media.video) - len(chosen), len(media.video))
    first, *moving["append_images"] = (Image.fromarray(picture) for picture in media.video[chosen].cpu().numpy())
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
