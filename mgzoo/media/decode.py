"""Files -> Media, through PyAV and Pillow. Reading imports torch; `meta` and `intact` do not, so that showing a file stays quick.

What a file holds is what decoding it gives, at the times that its timestamps say: headers count, measure and time only what they once meant to hold.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy
from PIL import Image, UnidentifiedImageError

from mgzoo.media import integrity, pictures, truncation
from mgzoo.media.frames import ToRGB, deinterlaced, threads
from mgzoo.media.media import Media
from mgzoo.media.timing import evenly
from mgzoo.media.tracks import UNTIMED, PictureTrack, SoundTrack, decoder_of, family, streams_of
from mgzoo.spec import MgzooError

if TYPE_CHECKING:
    from torch import Tensor

VIDEO, IMAGES = (".mp4", ".mov", ".mkv", ".webm", ".avi"), (".png", ".jpg", ".jpeg", ".webp", ".gif")

log = logging.getLogger("mgzoo")
LISTS = ("concat", "hls", "dash", "imf", "sdp", "applehttp")
"""What FFmpeg opens as if it were a file, and that leads to others."""


@contextmanager
def open_media(source: str | Path | bytes, name: str):
    """A PyAV container or a Pillow image, chosen by what the bytes are; every way of being damaged becomes one MgzooError."""
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise MgzooError("no such file", remedy="check the path", origin=name)
    try:
        try:
            thing = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=pictures.FORMATS)
        except UnidentifiedImageError:
            thing = av.open(io.BytesIO(source) if isinstance(source, bytes) else f"file:{source}", metadata_errors="replace")  # 12:30.mp4 is no protocol
        with thing:
            if not isinstance(thing, Image.Image) and family(thing) in LISTS:
                raise MgzooError("this is a list of other files, not a media file", remedy="give one of the listed files", origin=name)
            yield thing
    except (av.FFmpegError, OSError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MgzooError(f"not a readable video, image or sound file, or damaged ({reason})", remedy="open it in a player; create it again or remove it", origin=name) from None


def read(path: str | Path, frames: Sequence[int] | None = None, cover: Sequence[int] | None = None, even: bool = False) -> Media:
    """Decode a file, as it is meant to be seen and heard (docs/media.md has the table): upright and in square pixels, transparency on white, more than
    8 bits as 8, HDR as SDR, interlaced frames made whole. Sound begins with the first frame: a late one after silence, of an early one the rest.

    frames: indices to keep, ascending (others are dropped, and decoding stops after the last); default all. A file whose frames
    are not equally spaced keeps them as they are, with their mean rate as fps, and says in ``meta["variable_frame_rate"]`` when, in seconds
    after the first.
    cover: (height, width) that a video's frames are scaled to cover as they are decoded, which is much cheaper than scaling
    them afterwards; `fit` then cuts. Pictures, and frames with transparency, keep their size.
    even: frames of a file whose frames are not equally spaced are repeated and left out, so that they are.
    Raises MgzooError where there is no such file, it is damaged, or it holds neither frames nor sound. Of a file that ends before its container does,
    what there is is read, with a warning.
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
        if wanted is None and not isinstance(thing, Image.Image) and (short := truncation.told(source)):
            log.warning("%s: %s; reading the available part", name, short)
        media = _read_pictures(thing, wanted) if isinstance(thing, Image.Image) else _read_container(thing, name, wanted, cover)
    if wanted is not None and (media.video is None or len(media.video) != len(wanted)):
        have = 0 if media.video is None else len(media.video)
        raise MgzooError(f"only {have} of {len(wanted)} frames could be decoded (requested frame: {wanted[-1]})", remedy="the file is shorter than declared: remove it", origin=name)
    return media


def _read_pictures(image: Image.Image, wanted: Sequence[int] | None) -> Media:
    import torch

    meta, numbers = _meta(image), pictures.numbers_of(image)
    kept = numbers if wanted is None else [numbers[i] for i in wanted if i < len(numbers)]
    shown, delays = pictures.decoded(image, kept)
    timed = pictures.Pictures.of(image, kept, delays if len(numbers) > 1 else ())
    if timed.uneven:
        meta = {**meta, "variable_frame_rate": timed.uneven}
    video = torch.from_numpy(numpy.stack(shown)) if shown else None
    return Media(video=video, fps=timed.fps, caption=meta.get("caption", ""), meta=meta)


def _read_container(container, name: str, wanted: Sequence[int] | None, cover: Sequence[int] | None) -> Media:
    import torch

    video, audio = streams_of(container, name)
    audio = audio if wanted is None else None
    meta, kind = _meta(container), family(container)
    picture = PictureTrack(stream=video, kind=kind) if video else None
    sound = SoundTrack(stream=audio, kind=kind, name=name) if audio else None
    kept, shown, convert, last = None if wanted is None else set(wanted), [], None, max(wanted, default=-1) if wanted is not None else None
    for index, frame in enumerate(deinterlaced(frames_of(container, picture, sound), video.time_base) if video else frames_of(container, None, sound)):
        if kept is None or index in kept:
            convert = convert or ToRGB(frame, video.sample_aspect_ratio, cover)
            shown.append(convert(frame))
        if last is not None and index >= last:
            break
    if video and not shown and wanted is None:
        raise MgzooError("the video stream has no frames", remedy="create the file again or remove it", origin=name)
    heard = sound.whole(picture.start if picture else None) if sound and sound.samples else None
    timing = picture.timing() if shown else None
    if timing and (timing.times or not (timing.known or kind in UNTIMED)):
        meta = {**meta, "variable_frame_rate": list(timing.times) if timing.times else True}
    return Media(
        video=torch.from_numpy(numpy.stack(shown)) if shown else None, fps=timing.fps if timing else None,
        audio=torch.from_numpy(heard) if heard is not None and heard.shape[1] else None, rate=sound.rate if heard is not None and heard.shape[1] else None,
        caption=meta.get("caption", ""), meta=meta,
    )  # fmt: skip


def frames_of(container, picture: PictureTrack | None, sound: SoundTrack | None) -> Iterator[av.VideoFrame]:
    """The frames of the video stream in the order in which they are shown; both tracks learn from what is decoded. Sound is decoded on the way."""
    streams = [track.stream for track in (picture, sound) if track is not None]
    if picture is not None:
        decoder = decoder_of(picture.stream)
        decoder.thread_count = threads(picture.stream.height, picture.stream.width)
        decoder.thread_type = "AUTO"
    for packet in container.demux(streams):
        if picture is not None and packet.stream.index == picture.stream.index:
            picture.packet(packet)
            for frame in decoder.decode(packet):
                picture.shown(frame.pts)
                yield frame
        else:
            sound.packet(packet)
            for frame in packet.decode():
                sound.frame(frame)


def read_sound(path: str | Path) -> tuple[numpy.ndarray, int]:
    """The whole sound of a file as (float32 (K, S), samples per second), its first sample at the time of the first frame where there are frames, which
    are not decoded. Raises MgzooError as `mgzoo.media.decode.read_audio` says."""
    name = str(path)
    with open_media(path, name) as container:
        video, audio = streams_of(container, name)
        if audio is None:
            raise MgzooError("the file has no sound", remedy="give a file with a sound track", origin=name)
        if short := truncation.told(path):
            raise MgzooError(short, remedy="copy it again or remove it", origin=name)
        kind, starts = family(container), []
        sound = SoundTrack(stream=audio, kind=kind, name=name)
        for packet in container.demux([stream for stream in (video, audio) if stream]):
            if packet.stream.index != audio.index:
                if packet.pts is not None and packet.size and not packet.is_discard:
                    starts.append(packet.pts * packet.time_base)
                continue
            sound.packet(packet)
            for frame in packet.decode():
                sound.frame(frame)
        heard = sound.whole(min(starts, default=None) if kind not in UNTIMED else None) if sound.samples else numpy.zeros((1, 0), numpy.float32)
    if not heard.shape[1]:
        raise MgzooError("the sound track is empty", remedy="create the file again or remove it", origin=name)
    return heard, sound.rate


def read_audio(path: str | Path) -> tuple[Tensor, int]:
    """The whole sound track of a file as (float32 (K, S), samples per second); pictures are not decoded.

    Raises MgzooError where there is no such file, no sound track, or one that is damaged: packets that do not decode, samples missing in
    the middle or (more than a tenth of a second of them) at the end. Of a clip, the first sample is at the time of the first frame, as in `mgzoo.media.read`."""
    import torch

    audio, rate = read_sound(path)
    return torch.from_numpy(audio), rate


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
