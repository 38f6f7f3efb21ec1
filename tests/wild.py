"""Files as cameras, browsers and other programs write them, drawn here. Pictures are lists of uint8 (H, W, 3), sound float32 (samples,)."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FORMATS = {"mkv": "matroska", "mka": "matroska", "mpg": "mpeg", "ts": "mpegts", "aac": "adts", "m4a": "mp4"}


def square(n=32, height=64, width=64, corner=False):
    """An orange square on blue that goes from left to right; corner: with one corner bright, so that no two ways to hold it are alike."""
    shown = []
    for i in range(n):
        picture = np.full((height, width, 3), (40, 90, 160), np.uint8)
        x = int((width - 16) * i / max(1, n - 1))
        picture[height // 2 - 8 : height // 2 + 8, x : x + 16] = (230, 60, 30)
        if corner:
            picture[: height // 3, : width // 4] = (250, 250, 90)
        shown.append(picture)
    return shown


def flash(n, at, height=64, width=64):
    """Black frames, white in frame `at` and the next."""
    shown = [np.zeros((height, width, 3), np.uint8) for _ in range(n)]
    for i in (at, at + 1):
        shown[i][:] = 255
    return shown


def tone(seconds, rate=48000, hz=440.0, gain=0.3):
    return (gain * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds, rate=48000):
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def clip(path: Path, shown, fps=8, *, sound=None, rate=48000, vcodec="libx264", acodec="aac", pix="", picture_at=0.0, sound_at=0.0, aspect=None, gop=None,
         times=None, interlaced=False, matrix=None, tagged=True, container=None, format=None, sound_pause=None) -> Path:  # fmt: skip
    """A clip. picture_at, sound_at: seconds at which the streams begin. times: seconds of each frame. sound_pause: (at, for) seconds."""
    suffix = path.suffix[1:]
    with av.open(str(path), "w", format=format or FORMATS.get(suffix, suffix), options=container or {}) as out:
        options = {"crf": "12"} if vcodec == "libx264" else {"x265-params": "log-level=error"} if vcodec == "libx265" else {"deadline": "realtime"} if "vpx" in vcodec else {}
        stream = out.add_stream(vcodec, rate=fps, options=options | ({"aspect": aspect} if aspect else {}) | ({"g": str(gop)} if gop else {}))
        stream.height, stream.width = shown[0].shape[:2]
        stream.pix_fmt = pix = pix or ("yuv422p10le" if "prores" in vcodec else "yuv420p")
        heard = None
        if sound is not None:
            heard = out.add_stream(acodec, rate=rate, layout="mono")
            heard.codec_context.open()
        unit = Fraction(1, 1000) if times else Fraction(1) / Fraction(fps)
        sounds = _sounds(heard, sound, rate, sound_at, sound_pause) if heard is not None else iter(())
        ahead = next(sounds, None)
        for i, picture in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix, **({"dst_colorspace": matrix} if matrix else {}))
            if not tagged:
                frame.colorspace = 2
            if interlaced:
                frame = _interlaced(frame)
            frame.pts, frame.time_base = (round(times[i] * 1000) if times else i + round(picture_at * fps)), unit
            out.mux(stream.encode(frame))
            while ahead is not None and ahead[0] <= (frame.pts + 1) * unit:
                out.mux(ahead[1])
                ahead = next(sounds, None)
        out.mux(stream.encode())
        while ahead is not None:
            out.mux(ahead[1])
            ahead = next(sounds, None)
    return path


def _sounds(stream, sound, rate, begins, pause):
    step, kind = stream.codec_context.frame_size or 1024, stream.codec_context.format.name
    plain = av.AudioResampler(format=kind, layout="mono", rate=rate)
    for start in range(0, len(sound), step):
        at = start + round(begins * rate)
        if pause and start >= pause[0] * rate:
            at += round(pause[1] * rate)
        frame = av.AudioFrame.from_ndarray(sound[None, start : start + step].copy(), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        for piece in [frame] if kind == "fltp" else plain.resample(frame):
            yield at / rate, stream.encode(piece)
    yield float("inf"), stream.encode(None)


def _interlaced(frame):
    """The frame flagged as interlaced, as a capture card would, through FFmpeg's filter."""
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 8)), graph.add("setfield", "tff"), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    graph.push(frame)
    return graph.pull()


def audio(path: Path, sound, rate=44100, *, codec, options=None, container=None, cover=None) -> Path:
    """A sound file; cover: a picture attached to it."""
    suffix = path.suffix[1:]
    with av.open(str(path), "w", format=FORMATS.get(suffix, suffix), options=container or {}) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono", options=options or {})
        stream.codec_context.open()
        picture = None
        if cover is not None:
            picture = out.add_stream("png", rate=1)
            picture.height, picture.width, picture.pix_fmt = *cover.shape[:2], "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
            packets = picture.encode(av.VideoFrame.from_ndarray(cover, "rgb24"))
            out.mux([*packets, *picture.encode()])
        for _, packets in _sounds(stream, sound, rate, 0.0, None):
            out.mux(packets)
    return path


def moved(source: Path, path: Path, start=0.0, skip=0) -> Path:
    """The packets of a file in another, without encoding: all times `start` seconds earlier (an mp4 hides what is then before 0), the first `skip`
    packets of the picture left out."""
    with av.open(str(source)) as given, av.open(str(path), "w", format=FORMATS.get(path.suffix[1:], path.suffix[1:])) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in (*given.streams.video, *given.streams.audio)}
        left = skip
        for packet in given.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video" and left:
                left -= 1
                continue
            shift = round(start / packet.time_base)
            if packet.stream.type == "audio" and packet.pts < shift:
                continue
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    return path


def with_matrix(source: Path, path: Path, a, b, c, d) -> Path:
    """An mp4 with this display matrix in the header of its first track."""
    data, one = bytearray(source.read_bytes()), 0x10000
    at = data.index(struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 0x40000000), data.index(b"tkhd"))
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    return path


def graded(path, levels, transfer, primaries, matrix):
    """A clip of 10 bits whose 64 x 64 frames are of one (Y, Cb, Cr)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = primaries, transfer, matrix, 1
        frame = av.VideoFrame(64, 64, "yuv420p10le")
        for plane, level in zip(frame.planes, levels):
            plane.update(np.full(plane.buffer_size // 2, level, "<u2").tobytes())
        frame.pts = 0
        frame.color_range = 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def luma(signal):
    return round(64 + 876 * signal), 512, 512


def veiled(path: Path, codec: str) -> Path:
    """A WebM of 4 frames of 64 x 64, red above and clear below, where red is hidden."""
    red = np.zeros((64, 64, 4), np.uint8)
    red[:, :, 0], red[:32, :, 3] = 200, 255
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=8, options={"deadline": "realtime", "auto-alt-ref": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuva420p"
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(red, "rgba").reformat(format="yuva420p")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path
