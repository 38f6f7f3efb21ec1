"""What reading a file will give, found out as cheaply as can be trusted. Never imports torch."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import av
from blake3 import blake3
from PIL import Image

from mgzoo import storage
from mgzoo.media import pictures, truncation
from mgzoo.media.decode import frames_of, open_media
from mgzoo.media.frames import squared, turn_of
from mgzoo.media.tracks import PictureTrack, SoundTrack, family, streams_of
from mgzoo.spec import MgzooError

FACTS = ("frames", "height", "width", "fps", "seconds", "codec", "channels", "rate", "samples", "offset")
VERSION = 2  # part of the name of what is kept; raise it when the same bytes are read otherwise
TOLD_BY_PACKETS = {"mov": ("h264", "hevc", "mpeg4", "vp9", "av1", "mjpeg", "prores", "png"), "matroska": ("h264", "hevc", "vp9", "av1", "mjpeg", "ffv1")}
"""Containers and codecs in which each packet that is not discarded is one frame, at the packet's time."""
SOUND_TOLD_BY_PACKETS = ("aac", "alac", "flac")
"""Codecs of sound (and all of PCM) whose packets say how long they are once decoded, where timestamps are as fine as samples."""
log = logging.getLogger("mgzoo")


def probe(path: str | Path | bytes, name: str = "", *, decode: bool = False, sound: bool = True) -> dict[str, Any]:
    """What `read` will give: frames, height and width (as shown: upright, square pixels), fps, seconds, codec, channels, rate, samples (of the sound,
    from the first frame on), offset (seconds by which the sound begins after the picture). Keys of what is not there are None.

    Headers are not believed. Packets are, where they tell (`TOLD_BY_PACKETS`); other files are decoded once, and the answer is kept by the digest of
    their bytes in the cache folder. decode: every frame is decoded all the same, so that damage is found. sound: whether the sound of a clip is asked
    about; without it, damaged sound is no matter.
    Raises MgzooError where it is no such file, and with `decode` where a frame cannot be decoded that is there, or where the file ends before its
    container does (`mgzoo.media.truncation`). Sound that breaks off is told by `read`.
    """
    name = name or ("bytes" if isinstance(path, bytes) else str(path))
    with open_media(path, name) as thing:
        if isinstance(thing, Image.Image):
            return _of_pictures(thing, decode)
        if decode and (short := truncation.told(path)):
            raise MgzooError(short, remedy="copy the file again or remove it", origin=name)
        if (told := _by_packets(thing, name, sound)) is not None and not decode:
            return told
    if told is not None:
        with open_media(path, name) as thing:
            _check_frames(thing, told["frames"], name)
        return told
    kept = _kept(path, sound)
    if not decode and (found := _recall(kept)) is not None:
        return found
    with open_media(path, name) as thing:
        found = _by_decoding(thing, name, sound)
    _keep(kept, found)
    return found


def _check_frames(container, told: int | None, name: str) -> None:
    """Decode the picture. Raises MgzooError where it does not hold the frames that its packets promise: decoders pass over damaged ones."""
    video, _ = streams_of(container, name)
    found = sum(1 for _ in frames_of(container, PictureTrack(stream=video, kind=family(container)), None)) if video else None
    if found != told:
        raise MgzooError(f"only {found} of its {told} frames can be decoded", remedy="copy the file again or remove it", origin=name)


def _of_pictures(image: Image.Image, decode: bool) -> dict[str, Any]:
    found = pictures.described(image)
    for number in found.numbers if decode else ():
        image.seek(number)
        image.load()
    frames, fps = len(found.numbers), found.fps
    codec = {"mpo": "jpeg"}.get(image.format.lower(), image.format.lower())
    return {**dict.fromkeys(FACTS), "frames": frames, "height": found.height, "width": found.width, "fps": fps, "seconds": frames / fps if fps else None, "codec": codec}


def _asked(container, name: str, with_sound: bool) -> tuple:
    """(video, audio) streams that are asked about; of a file without pictures, the sound always."""
    video, audio = streams_of(container, name)
    return video, audio if with_sound or video is None else None


def _by_packets(container, name: str, with_sound: bool) -> dict[str, Any] | None:
    """The facts from the packets alone, and from the first frame of each stream; None where only decoding tells."""
    video, audio = _asked(container, name, with_sound)
    kind, first = family(container), None
    picture = PictureTrack(stream=video, kind=kind) if video else None
    sound = SoundTrack(stream=audio, kind=kind, name=name, pieces=None) if audio else None
    if (video and video.codec_context.name not in TOLD_BY_PACKETS.get(kind, ())) or (audio and not _sound_is_told(audio, kind)):
        return None
    stamps, key = [], None
    for packet in container.demux([stream for stream in (video, audio) if stream]):
        if audio and packet.stream.index == audio.index:
            sound.packet(packet)
            if not sound.rate:
                for frame in packet.decode():
                    sound.frame(frame)
            continue
        picture.packet(packet)
        if first is None:
            first = next(iter(packet.decode()), None)
        if not packet.size:
            continue
        if packet.pts is None or packet.is_corrupt or (not stamps and key is None and not packet.is_keyframe):
            return None
        key = packet.pts if key is None else key
        if packet.pts < key:  # shown before the frame that the decoder can begin with: it may be lost
            return None
        if not packet.is_discard:
            stamps.append(packet.pts)
    if video and (first is None or not stamps or first.interlaced_frame or min(stamps) != first.pts or len(set(stamps)) < len(stamps)):
        return None
    for pts in sorted(stamps):
        picture.shown(pts)
    if audio and not (sound.rate and sound.ends):
        return None
    if audio:
        sound.samples = round((sound.ends - sound.start) * sound.rate)
    return _facts(picture, first, sound, name)


def _sound_is_told(audio, kind: str) -> bool:
    codec, fine = audio.codec_context.name, audio.time_base * audio.rate <= 1 if audio.rate else False
    return fine and (codec in SOUND_TOLD_BY_PACKETS or codec.startswith("pcm_")) and kind in ("mov", "wav", "aac", "flac", "aiff", "w64", "caf")


def _by_decoding(container, name: str, with_sound: bool) -> dict[str, Any]:
    video, audio = _asked(container, name, with_sound)
    kind, first = family(container), None
    picture = PictureTrack(stream=video, kind=kind) if video else None
    sound = SoundTrack(stream=audio, kind=kind, name=name, pieces=None) if audio else None
    for frame in frames_of(container, picture, sound):
        first = first or frame
    if video and first is None:
        raise MgzooError("the video stream has no frames", remedy="create the file again or remove it", origin=name)
    return _facts(picture, first, sound, name)


def _facts(picture: PictureTrack | None, first: av.VideoFrame | None, sound: SoundTrack | None, name: str) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(FACTS)
    lengths = []
    if picture is not None:
        height, width = turn_of(first).size(*squared(first.height, first.width, picture.stream.sample_aspect_ratio))
        timing, codec = picture.timing(), picture.stream.codec_context.name
        found |= {"frames": len(picture.stamps), "height": height, "width": width, "fps": timing.fps, "codec": codec}
        lengths.append(timing.duration)
    if sound is not None and sound.rate:
        start = picture.start if picture else None
        offset = sound.offset(start)
        samples = max(0, sound.length() + offset)
        codec = found["codec"] or sound.stream.codec_context.name
        found |= {"channels": sound.channels, "rate": sound.rate, "samples": samples, "codec": codec, "offset": offset / sound.rate if picture else None}
        lengths.append(samples / sound.rate)
    found["seconds"] = max((length for length in lengths if length), default=None)
    return found


# what was decoded once


def _kept(source: str | Path | bytes, with_sound: bool) -> Path:
    """Where the facts of these bytes are kept, all of them or those of the picture."""
    taken = blake3()
    if isinstance(source, bytes):
        taken.update(source)
    else:
        taken.update_mmap(str(source))
    home = os.environ.get("MGZOO_HOME")
    root = Path(home) / "cache" if home else Path.home() / ".cache" / "mgzoo"
    return root / "probe" / f"{VERSION}-{taken.hexdigest()}{'' if with_sound else '-picture'}.json"


def _recall(kept: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(kept.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and tuple(found) == FACTS else None


def _keep(kept: Path, found: dict[str, Any]) -> None:
    """A cache that cannot be written is none; nobody waits for it."""
    try:
        storage.atomic_write(kept, json.dumps(found), durable=False)
    except OSError as error:
        log.debug("the inspection result of a file is not cached: %s", error)
