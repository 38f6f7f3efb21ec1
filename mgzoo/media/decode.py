"""Files -> Media, through PyAV and Pillow. Reading imports torch; `meta` and `probe` do not, so that showing a file stays quick."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy
from av.video.reformatter import VideoReformatter
from PIL import Image, UnidentifiedImageError

from mgzoo.media import integrity
from mgzoo.media.frames import ORIENTATION, evenly, picture, threads, upright
from mgzoo.media.media import Media
from mgzoo.spec import MgzooError

VIDEO, IMAGES = (".mp4", ".mov", ".mkv", ".webm", ".avi"), (".png", ".jpg", ".jpeg", ".webp", ".gif")


@contextmanager
def open_media(source: str | Path | bytes, name: str):
    """A PyAV container or a Pillow image, chosen by what the bytes are; every way of being damaged becomes one MgzooError."""
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise MgzooError("there is no such file", remedy="check the path", origin=name)
    try:
        try:
            thing = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        except UnidentifiedImageError:
            thing = av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), metadata_errors="replace")
        with thing:
            yield thing
    except (av.FFmpegError, OSError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MgzooError(f"this is not a readable video, image or sound, or it is damaged ({reason})", remedy="open it in a player, and make it again or leave it out", origin=name) from None


def read(path: str | Path, frames: Sequence[int] | None = None, cover: Sequence[int] | None = None, even: bool = False) -> Media:
    """Decode a file. Turned videos are set upright, transparency is laid on white, more than 8 bits become 8.

    frames: indices to keep, ascending (others are dropped, and decoding stops after the last); default all. A file whose frames
    are not equally spaced keeps them as they are, with their mean rate as fps, and says in ``meta["variable_frame_rate"]`` when, in seconds.
    cover: (height, width) that a video's frames are scaled to cover as they are decoded, which is much cheaper than scaling
    them afterwards; `fit` then cuts. Pictures, and frames with transparency, keep their size.
    Raises MgzooError where there is no such file, it is damaged, or it holds neither frames nor sound.
    """
    found = _read(path, str(path), frames, cover)
    times = found.meta.get("variable_frame_rate")
    if not even or frames is not None or not isinstance(times, list):
        return found
    meta = {key: value for key, value in found.meta.items() if key != "variable_frame_rate"}
    return replace(found, video=found.video[evenly(times)], meta=meta)


def read_bytes(data: bytes, name: str = "bytes", frames: Sequence[int] | None = None, cover: Sequence[int] | None = None) -> Media:
    """`read` for a file in memory; ``name`` is what errors call it."""
    return _read(data, name, frames, cover)


def _read(source: str | Path | bytes, name: str, wanted: Sequence[int] | None, cover: Sequence[int] | None) -> Media:
    with open_media(source, name) as thing:
        media = _read_pictures(thing, wanted) if isinstance(thing, Image.Image) else _read_container(thing, name, wanted, cover)
    if wanted is not None and (media.video is None or len(media.video) != len(wanted)):
        have = 0 if media.video is None else len(media.video)
        raise MgzooError(f"only {have} of {len(wanted)} frames could be decoded (frame {wanted[-1]} was asked for)", remedy="the file is shorter than it says: leave it out", origin=name)
    return media


def _read_pictures(image: Image.Image, wanted: Sequence[int] | None) -> Media:
    import torch

    meta, count, pictures, durations = _meta(image), getattr(image, "n_frames", 1), [], []
    turned = image.getexif().get(ORIENTATION, 1) != 1
    for index in range(count) if wanted is None else [i for i in wanted if i < count]:
        image.seek(index)
        pictures.append(numpy.asarray(upright(image, turned)))
        durations.append(image.info.get("duration", 0))  # known once it is decoded
    if len(set(durations)) > 1:
        meta = {**meta, "variable_frame_rate": [sum(durations[:i]) / 1000 for i in range(len(durations))]}
    fps = len(durations) * 1000 / sum(durations) if count > 1 and sum(durations) else None
    video = torch.from_numpy(numpy.stack(pictures)) if pictures else None
    return Media(video=video, fps=fps, caption=meta.get("caption", ""), meta=meta)


def _image_rate(image: Image.Image) -> float | None:
    total = 0
    for index in range(image.n_frames):
        image.seek(index)
        image.load()
        total += image.info.get("duration", 0)
    return image.n_frames * 1000 / total if total else None


def _read_container(container, name: str, wanted: Sequence[int] | None, cover: Sequence[int] | None) -> Media:
    import torch

    facts, meta = _facts(container, name), _meta(container)
    pictures, times, sounds, scaler = [], [], [], VideoReformatter()
    streams = [*container.streams.video[:1], *(container.streams.audio[:1] if wanted is None else ())]
    for stream in container.streams.video[:1]:
        stream.codec_context.thread_count = threads(stream.height, stream.width)
        stream.thread_type = "AUTO"
    for frame in container.decode(streams):
        if isinstance(frame, av.AudioFrame):
            sounds.append(av.AudioResampler(format="fltp").resample(frame)[0].to_ndarray())
            continue
        if wanted is None or len(times) in wanted:
            pictures.append(picture(frame, scaler, cover))
        times.append(frame.pts)
        if wanted is not None and len(times) > max(wanted):
            break
    if container.streams.video and not pictures and wanted is None:
        raise MgzooError("the video stream holds no frame", remedy="make the file again or leave it out", origin=name)
    video = torch.from_numpy(numpy.stack(pictures)) if pictures else None
    audio = torch.from_numpy(numpy.concatenate(sounds, 1))[:, : facts["samples"] or None] if sounds else None
    if audio is not None and audio.shape[1] < facts["samples"] - facts["rate"] / 10:  # damaged packets are skipped by some decoders
        what = f"its sound track says {facts['samples'] / facts['rate']:.2f} s and holds {audio.shape[1] / facts['rate']:.2f} s"
        raise MgzooError(what, remedy="copy the file again or leave it out", origin=name)
    if len(gaps := {b - a for a, b in zip(times, times[1:]) if a is not None and b is not None}) > 1 and max(gaps) - min(gaps) > 1 + 0.01 * max(gaps):
        seconds = [float(a * container.streams.video[0].time_base) for a in times if a is not None]
        meta = {**meta, "variable_frame_rate": seconds if len(seconds) == len(times) else True}
    fps, rate = facts["fps"] if video is not None else None, facts["rate"] if audio is not None else None
    return Media(video=video, fps=fps, audio=audio, rate=rate, caption=meta.get("caption", ""), meta=meta)


def _facts(container, name: str) -> dict[str, Any]:
    """What the headers say: frames (0: unknown), fps, rate, samples (0: unknown)."""
    video, audio = next(iter(container.streams.video), None), next(iter(container.streams.audio), None)
    if video is None and audio is None or any(stream.codec_context is None for stream in (video, audio) if stream):
        raise MgzooError("there is no video or sound stream in it that can be decoded", remedy="convert it to H.264, or leave it out", origin=name)
    fps = video and (video.average_rate or video.guessed_rate)
    samples = round(audio.duration * audio.time_base * audio.rate) if audio and audio.duration else 0
    return {"frames": video.frames if video else 0, "fps": float(fps) if fps else None, "rate": audio.rate if audio else None, "samples": samples}


def probe(path: str | Path | bytes, name: str = "") -> dict[str, Any]:
    """What a file holds, without decoding it: frames, height, width (upright), fps, seconds, codec, channels, rate.

    frames is counted from the packets where the header does not say. Keys of streams that are not there are None.
    """
    none = dict.fromkeys(("frames", "height", "width", "fps", "seconds", "codec", "channels", "rate"))
    name = name or ("bytes" if isinstance(path, bytes) else str(path))
    with open_media(path, name) as thing:
        if isinstance(thing, Image.Image):
            turned, frames = thing.getexif().get(ORIENTATION, 1) > 4, getattr(thing, "n_frames", 1)
            width, height = thing.size[::-1] if turned else thing.size
            fps = _image_rate(thing) if frames > 1 else None
            return {**none, "frames": frames, "height": height, "width": width, "fps": fps, "seconds": frames / fps if fps else None, "codec": thing.format.lower()}
        facts, found = _facts(thing, name), dict(none)
        if thing.streams.video:
            stream = thing.streams.video[0]
            first = next(thing.decode(stream), None)
            if first is None:
                raise MgzooError("the video stream holds no frame", remedy="make the file again or leave it out", origin=name)
            height, width = (first.width, first.height) if round(getattr(first, "rotation", 0) / 90) % 2 else (first.height, first.width)
            frames = facts["frames"]
            if not frames:
                thing.seek(0)
                frames = sum(1 for packet in thing.demux(stream) if packet.size)
            found |= {"frames": frames, "height": height, "width": width, "fps": facts["fps"], "codec": stream.codec_context.name}
        if thing.streams.audio:
            stream = thing.streams.audio[0]
            found |= {"channels": stream.channels, "rate": stream.rate, "codec": found["codec"] or stream.codec_context.name}
        found["seconds"] = thing.duration / av.time_base if thing.duration else None
        return found


def meta(path: str | Path) -> dict[str, Any]:
    """The JSON that `Media.save` wrote into a file; empty where there is none."""
    with open_media(path, str(path)) as thing:
        return _meta(thing)


def intact(path: str | Path) -> bool | None:
    """Whether a file that `Media.save` wrote has not changed by a byte since; None where it carries no digest."""
    with open_media(path, str(path)) as thing:
        said = integrity.embedded(thing)
    return integrity.is_intact(Path(path), said)


def _meta(thing) -> dict[str, Any]:
    return {key: value for key, value in integrity.embedded(thing).items() if key != integrity.KEY}
