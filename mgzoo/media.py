"""Video, image and sound files <-> tensors, through PyAV and Pillow.

Video is uint8 (T, H, W, 3) in RGB, sound float32 (channels, samples) in [-1, 1], as in `mgzoo.parts`. Reading and writing
import torch; `meta` and `probe` do not, so that showing a file stays quick.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin, UnidentifiedImageError

from mgzoo import seal
from mgzoo.frames import ORIENTATION, evenly, fit, picture, threads, upright
from mgzoo.spec import MgzooError

if TYPE_CHECKING:
    from torch import Tensor

VIDEO, IMAGES = (".mp4", ".mov", ".mkv", ".webm", ".avi"), (".png", ".jpg", ".jpeg", ".webp", ".gif")
WRITTEN = (".mp4", ".png", ".gif", ".webp", ".wav")
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
TITLE = 0x010E  # the Exif tag ImageDescription, where WebP keeps our JSON


@dataclass(frozen=True, kw_only=True)
class Media:
    """One clip, picture or sound.

    video: uint8 (T, H, W, 3) RGB, or None. fps: frames per second, None for a picture. audio: float32 (channels, samples)
    in [-1, 1], or None. rate: its samples per second. caption: what is shown. meta: whatever belongs to the file, as JSON
    holds it; written into the file by `save`.
    """

    video: Tensor | None = None
    fps: float | None = None
    audio: Tensor | None = None
    rate: int | None = None
    caption: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path, *, crf: float = 12) -> Path:
        """Write .mp4 (H.264, AAC), .png (one frame), .gif, .webp (moving picture) or .wav, whole or not at all.

        crf: quantiser of H.264, 0-51; 12 is visually lossless. Odd sizes are written as yuv444p, since yuv420p cannot hold them.
        Raises MgzooError where this media has nothing that such a file could hold.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in WRITTEN:
            raise MgzooError(f"cannot write {suffix or 'a file without a suffix'}", remedy=f"name the file {', '.join(WRITTEN)}", origin=str(path))
        self._check(path, suffix)
        with _aside(path) as aside:
            if suffix == ".wav":
                _write_wav(self, aside)
            elif suffix == ".mp4":
                _write_mp4(self, aside, crf)
            else:
                _write_pictures(self, aside, suffix)
            seal.close(aside, self._said())
        return path

    def embedded(self) -> str:
        """The JSON that `save` writes into the file and `meta` reads, with room for the digest that `seal.close` puts there."""
        said = self._said()
        return json.dumps({seal.KEY: seal.blank(said), **said})  # ASCII, since Exif text is not UTF-8

    def _said(self) -> dict[str, Any]:
        return {key: value for key, value in {"caption": self.caption, **self.meta}.items() if key != seal.KEY}

    def _check(self, path: Path, suffix: str) -> None:
        import torch

        wants = "audio" if suffix == ".wav" else "video"
        if getattr(self, wants) is None:
            other = "a video name such as .mp4" if wants == "audio" else "a sound name such as .wav"
            raise MgzooError(f"there is no {'sound' if wants == 'audio' else 'picture'} to write", remedy=f"use {other}", origin=str(path))
        if self.video is not None:
            if self.video.dtype != torch.uint8 or self.video.ndim != 4 or self.video.shape[-1] != 3 or not self.video.numel():
                raise MgzooError(f"video must be uint8 (T, H, W, 3), got {_shape(self.video)}", remedy="see mgzoo.model.to_frames", origin=str(path))
            if suffix == ".png" and len(self.video) != 1:
                raise MgzooError(f"a .png holds one frame, this video has {len(self.video)}", remedy="use .mp4, .gif or .webp", origin=str(path))
            if suffix not in (".png", ".wav") and not self.fps and len(self.video) > 1:
                raise MgzooError("a video needs fps", remedy="give Media(fps=…)", origin=str(path))
        if self.audio is not None and suffix in (".wav", ".mp4"):
            if self.audio.ndim != 2 or not self.audio.is_floating_point() or len(self.audio) not in (1, 2) or not self.rate:
                raise MgzooError(f"audio must be float (1 or 2 channels, samples) with a rate, got {_shape(self.audio)}", remedy="give Media(rate=…)", origin=str(path))
            if suffix == ".mp4" and self.rate not in AAC_RATES:
                raise MgzooError(f"AAC cannot hold {self.rate} samples per second", remedy="resample to 48000, or write a .wav", origin=str(path))


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


@contextmanager
def _aside(path: Path):
    """A name to write to; what was written there takes the place of `path` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
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
        exif[TITLE] = media.embedded().encode()
        first.save(path, "WEBP", quality=90, method=4, exif=exif, **moving)


@contextmanager
def _opened(source: str | Path | bytes, name: str):
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
    with _opened(source, name) as thing:
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
    with _opened(path, name) as thing:
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
    with _opened(path, str(path)) as thing:
        return _meta(thing)


def intact(path: str | Path) -> bool | None:
    """Whether a file that `Media.save` wrote has not changed by a byte since; None where it carries no digest."""
    with _opened(path, str(path)) as thing:
        said = _embedded(thing)
    return seal.intact(Path(path), said)


def _meta(thing) -> dict[str, Any]:
    return {key: value for key, value in _embedded(thing).items() if key != seal.KEY}


def _embedded(thing) -> dict[str, Any]:
    if isinstance(thing, Image.Image):
        text = thing.info.get("mgzoo") or thing.info.get("comment") or thing.getexif().get(TITLE) or ""
    else:
        text = thing.metadata.get("comment", "")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # a comment that somebody else wrote
        return {}
    return found if isinstance(found, dict) else {}


def contact_sheet(rows: Sequence[tuple[str, Tensor]], path: str | Path, columns: int = 8, cell: int = 96) -> Path:
    """A PNG with one row per (caption, uint8 video (T, H, W, 3)): the caption above ``columns`` frames spread over the clip.

    cell: height of a shown frame in pixels at least; small frames are enlarged by whole factors.
    """
    import torch

    if not rows:
        raise MgzooError("a contact sheet needs at least one row", remedy="give (caption, video) pairs", origin=str(path))
    font, line, gap, strips = ImageFont.load_default(size=16), 24, 4, []
    for caption, video in rows:
        enlarged = max(1, math.ceil(cell / video.shape[1]))
        chosen = torch.linspace(0, len(video) - 1, min(columns, len(video))).round().long()
        frames = [Image.fromarray(video[i].cpu().numpy()).resize((video.shape[2] * enlarged, video.shape[1] * enlarged), Image.Resampling.BICUBIC) for i in chosen]
        strips.append((caption, frames))
    width = gap + max(max(sum(f.width + gap for f in frames), math.ceil(font.getlength(caption)) + gap) for caption, frames in strips)
    height = gap + sum(line + frames[0].height + 2 * gap for _, frames in strips)
    sheet = Image.new("RGB", (width, height), "white")
    pen, y = ImageDraw.Draw(sheet), gap
    for caption, frames in strips:
        pen.text((gap, y), caption, fill="black", font=font)
        for i, frame in enumerate(frames):
            sheet.paste(frame, (gap + i * (frame.width + gap), y + line))
        y += line + frames[0].height + 2 * gap
    with _aside(Path(path)) as aside:
        sheet.save(aside, "PNG")
    return Path(path)
