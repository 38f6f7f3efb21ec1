"""The two streams of a container, picture and sound, as they are shown: which, from when, how long. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy
from av.stream import Disposition

from mgzoo.media.timing import Timing, timing
from mgzoo.spec import MgzooError

MISSING = Fraction(1, 50)
"""Seconds: sound that breaks off for longer has a hole."""
ENDS_EARLY = Fraction(1, 10)
"""Seconds of sound that may be missing at the end of a file."""

TIMED = ("mov", "matroska", "mpegts", "flv")
"""Containers that give each packet a time of its own, so that a stream may pause."""
UNTIMED = ("avi", "mpegvideo", "h264", "hevc", "m4v")
"""Containers without timestamps: their rate is their clock, and what FFmpeg makes of the place of a packet is not asked."""

DECODE_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Codecs whose transparency FFmpeg's own decoder leaves out, and the decoder that reads it."""
CHECKSUMS = ("flac", "ac3", "eac3", "ffv1", "tta", "wavpack")
"""Codecs whose packets carry checksums, which FFmpeg passes over unless it is asked to heed them."""


def streams_of(container, name: str) -> tuple:
    """(video, audio): the first stream of each kind that is shown, or None. A cover picture is none, unless there is nothing else."""
    if not hasattr(container, "streams"):
        return None, None
    videos = list(container.streams.video)
    moving = [stream for stream in videos if not stream.disposition & Disposition.attached_pic]
    audio = next(iter(container.streams.audio), None)
    video = moving[0] if moving else videos[0] if videos and audio is None else None
    if video is None and audio is None or any(stream.codec_context is None for stream in (video, audio) if stream):
        raise MgzooError("no decodable video or sound stream", remedy="convert it to H.264, or remove it", origin=name)
    for stream in (video, audio):
        if stream and stream.codec_context.name in CHECKSUMS:
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
    return video, audio


def family(container) -> str:
    """One short word for the container's format."""
    names = container.format.name.split(",")
    return "mov" if "mov" in names else names[0]


def is_still(kind: str) -> bool:
    """Whether a container of this kind holds a picture (TGA, EXR, ICO and others that Pillow is not asked for)."""
    return kind.endswith("_pipe") or kind in ("ico", "image2")


def decoder_of(stream):
    """The decoder of a video stream, with transparency where it has one."""
    wanted = DECODE_ALPHA.get(stream.codec_context.name)
    if wanted in av.codecs_available and stream.metadata.get("alpha_mode") == "1":
        return av.CodecContext.create(wanted, "r")
    return stream.codec_context


@dataclass(kw_only=True)
class PictureTrack:
    """What is learnt of a video stream from its packets and frames, in the order in which they come."""

    stream: object
    kind: str
    stamps: list[Fraction | None] = field(default_factory=list)
    last: Fraction = Fraction(0)
    _durations: dict[int, int] = field(default_factory=dict)

    def packet(self, packet) -> None:
        """Note how long the frame of this packet is shown."""
        if packet.pts is not None and packet.duration:
            self._durations[packet.pts] = packet.duration

    def shown(self, pts: int | None) -> None:
        """Note a frame that is shown."""
        self.stamps.append(None if pts is None else pts * self.stream.time_base)
        self.last = self._durations.get(pts, 0) * self.stream.time_base

    @property
    def start(self) -> Fraction | None:
        """Seconds at which the first frame is shown."""
        return self.stamps[0] if self.stamps and self.kind not in UNTIMED else None

    def timing(self) -> Timing:
        """How fast the frames are, and when."""
        stream, base = self.stream, self.stream.time_base
        if is_still(self.kind) and len(self.stamps) == 1:
            return Timing(fps=None, times=None, known=True, duration=None)
        stamps = [None if stamp is None or self.kind in UNTIMED else float(stamp) for stamp in self.stamps]
        tick = float(base) if self.kind != "mov" else min(float(base), 1e-3)
        rates = [float(rate) for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
        return timing(stamps, float(self.last), tick, rates)


@dataclass(kw_only=True)
class SoundTrack:
    """A sound stream as it is decoded: float32 (channels, samples), pauses filled with silence.

    start: seconds of its first sample. ends: of its last one, by its packets."""

    stream: object
    kind: str
    name: str
    start: Fraction | None = None
    ends: Fraction | None = None
    rate: int = 0
    channels: int = 0
    samples: int = 0
    pieces: list[numpy.ndarray] | None = field(default_factory=list)
    _silent: int = 0  # packets since the last frame
    _plain: object = None

    def packet(self, packet) -> None:
        """Note where the sound of this packet ends."""
        if packet.pts is None or not packet.size or packet.is_discard:
            return
        self._silent += 1
        ends = (packet.pts + (packet.duration or 0)) * packet.time_base
        self.ends = ends if self.ends is None else max(self.ends, ends)

    def frame(self, frame) -> None:
        """Add what a packet decoded to. Raises MgzooError where samples before it are missing."""
        begins = frame.pts * frame.time_base if frame.pts is not None and frame.time_base else None
        if not self.rate:
            self.rate, self.channels = frame.sample_rate, len(frame.layout.channels)
            self.start = begins or Fraction(0)
        elif (frame.sample_rate, len(frame.layout.channels)) != (self.rate, self.channels):
            raise MgzooError("the sound changes its rate or channels within the file", remedy="convert it to WAV", origin=self.name)
        if begins is not None and self.kind not in UNTIMED:
            self._fill(begins - self.start - Fraction(self.samples, self.rate), begins)
        self.samples, self._silent = self.samples + frame.samples, 0
        if self.pieces is not None:
            if frame.format.name == "fltp":
                self.pieces.append(frame.to_ndarray())
            else:
                self._plain = self._plain or av.AudioResampler(format="fltp", layout=frame.layout, rate=self.rate)
                self.pieces += [piece.to_ndarray() for piece in self._plain.resample(frame)]

    def _fill(self, gap: Fraction, begins: Fraction) -> None:
        """Silence for a pause that the container knows of: every packet was decoded, and the next one comes later. All else is damage."""
        if abs(gap) <= MISSING:
            return
        if gap < 0 or self._silent > 1 or self.kind not in TIMED:
            what = f"{float(gap):.3f} s are missing at {float(begins - gap):.3f} s" if gap > 0 else f"it goes back by {float(-gap):.3f} s at {float(begins):.3f} s"
            raise MgzooError(f"the sound track is damaged: {what}", remedy="copy it again or remove it", origin=self.name)
        silent = round(gap * self.rate)
        self.samples += silent
        if self.pieces is not None:
            self.pieces.append(numpy.zeros((self.channels, silent), numpy.float32))

    def length(self) -> int:
        """Samples of the stream: those decoded, less the padding that the codec added at the end."""
        if not self.rate:
            return 0
        fine = self.stream.time_base <= Fraction(1001, 1000 * self.rate)  # or packets are too coarse a measure
        return min(self.samples, round((self.ends - self.start) * self.rate)) if fine and self.ends is not None else self.samples

    def _declared(self) -> Fraction | None:
        """Seconds that the header gives, where it can know: others are estimated from the bit rate."""
        exact = self.kind in ("mov", "flac", "wav", "w64", "aiff", "caf")
        return self.stream.duration * self.stream.time_base if exact and self.stream.duration else None

    def offset(self, picture: Fraction | None) -> int:
        """Samples by which the sound begins after the picture; rounded timestamps are no difference."""
        if picture is None or self.start is None:
            return 0
        rounded = Fraction(2, 1000) if self.kind == "matroska" else Fraction(1, self.rate)
        late = self.start - picture
        return round(late * self.rate) if abs(late) > rounded else 0

    def whole(self, picture: Fraction | None) -> numpy.ndarray:
        """float32 (channels, samples), its first sample at the time of the first frame: silence before a late sound, an early one cut.
        Raises MgzooError where the file ends early."""
        length, said = self.length(), self._declared()
        if said is not None and length < (said - ENDS_EARLY) * self.rate:
            what = f"the sound track declares {float(said):.2f} s but has {length / self.rate:.2f} s"
            raise MgzooError(what, remedy="copy it again or remove it", origin=self.name)
        sound = numpy.concatenate(self.pieces, 1)[:, :length]
        offset = self.offset(picture)
        return numpy.pad(sound, ((0, 0), (offset, 0))) if offset > 0 else sound[:, -offset:]


