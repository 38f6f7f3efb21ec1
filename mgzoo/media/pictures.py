"""Picture files -> RGB, through Pillow: stills, and GIF, WebP, APNG and AVIF that move. Never imports torch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy
from PIL import Image

from mgzoo.media.frames import EXIF, UPRIGHT, Turn, squared
from mgzoo.media.timing import played

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", *(("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()))
"""What Pillow is asked to open. It claims more than it reads (MPEG-1), and others run programs (EPS) or are read by FFmpeg as well."""
MOVING = ("GIF", "WEBP", "PNG", "AVIF")
"""Formats whose further pictures are frames. Elsewhere they are other pictures: a gain map, the other eye (MPO), pages (TIFF)."""
ORIENTATION = 0x0112
UNIT = 0.0101  # seconds; delays that differ by no more are rounded, a GIF counts hundredths


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What a picture file shows. height, width: upright, in square pixels. numbers: of its pictures that are shown. delays: seconds of each, as
    browsers play them; empty for a still."""

    height: int
    width: int
    numbers: Sequence[int]
    delays: tuple[float, ...] = ()

    @classmethod
    def of(cls, image: Image.Image, numbers: Sequence[int], delays: Sequence[float]) -> Pictures:
        """Of an open file, whose pictures of these numbers have these delays."""
        height, width = turn_of(image).size(*squared(image.height, image.width, aspect_of(image)))
        return cls(height=height, width=width, numbers=numbers, delays=tuple(played(delays)))

    @property
    def fps(self) -> float | None:
        """Mean frames per second; None for a still."""
        return len(self.delays) / sum(self.delays) if self.delays else None

    @property
    def uneven(self) -> list[float] | None:
        """Seconds at which frames are shown, where they are not equally spaced."""
        if not self.delays or max(self.delays) - min(self.delays) <= UNIT + 0.01 * max(self.delays):
            return None
        return [sum(self.delays[:i]) for i in range(len(self.delays))]


def numbers_of(image: Image.Image) -> range:
    """The pictures of a file that are shown: all of a moving one, less the still that an APNG keeps for viewers that do not move."""
    count = getattr(image, "n_frames", 1) if image.format in MOVING else 1
    first = 1 if image.format == "PNG" and count > 1 and image.info.get("default_image") else 0
    return range(first, count)


def described(image: Image.Image) -> Pictures:
    """What the file shows; the pictures of a moving one are gone through, since delays stand in each."""
    numbers, delays = numbers_of(image), []
    for number in numbers if len(numbers) > 1 else ():
        image.seek(number)
        if image.format in ("WEBP", "AVIF"):
            image.load()  # their delays are known once they are decoded
        delays.append(delay_of(image))
    return Pictures.of(image, numbers, delays)


def delay_of(image: Image.Image) -> float:
    """Seconds that the picture which was decoded last is shown for, as the file has it."""
    return (image.info.get("duration") or 0) / 1000


def turn_of(image: Image.Image) -> Turn:
    """What Exif says of how the camera was held; Pillow turns a TIFF by itself, its size as well."""
    return UPRIGHT if image.format == "TIFF" else EXIF.get(image.getexif().get(ORIENTATION, 1), UPRIGHT)


def aspect_of(image: Image.Image) -> float:
    """Width of a pixel in its heights, where a PNG gives it as such and not as a resolution of paper (PNG 11.3.4.3). JPEG's field is left out: its
    readers do not agree which way round it is."""
    across, down = image.info.get("aspect", (1, 1)) if image.format == "PNG" else (1, 1)
    return down / across if across and down else 1.0


def decoded(image: Image.Image, numbers: Sequence[int]) -> tuple[list[numpy.ndarray], list[float]]:
    """(uint8 (H, W, 3) of each of these pictures, upright, in square pixels, as sRGB on white; seconds that each is shown, as the file has them)."""
    turn, aspect, shown, delays = turn_of(image), aspect_of(image), [], []
    for number in numbers:
        if image.tell() != number:
            image.seek(number)
        rgb = to_rgb(image)
        if (size := squared(image.height, image.width, aspect)) != (image.height, image.width):
            rgb = rgb.resize(size[::-1], Image.Resampling.BICUBIC)
        shown.append(turn(numpy.asarray(rgb)))
        delays.append(delay_of(image))
    return shown, delays


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB of 8 bits: more bits are scaled, a colour profile becomes sRGB, transparency is laid on white."""
    image = _eight_bits(image)
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            paper = Image.new("RGBA", image.size, "white")
            paper.alpha_composite(_in_srgb(image, "RGBA"))
            return paper.convert("RGB")
    return _in_srgb(image, "RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floats, as 8 bits; all else as it is. Whole numbers of 32 bits count to 65535, or to 255 where none is above;
    floats to 1, or to 255 where one is above (files do not say)."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = numpy.asarray(image).astype(numpy.float64)
    values = numpy.nan_to_num(values, posinf=255.0, neginf=0.0)
    top = values.max(initial=0)
    full = (255 if top > 1 else 1) if image.mode == "F" else 255 if image.mode == "I" and top <= 255 else 65535
    grey = Image.fromarray(numpy.round(values.clip(0, full) * (255 / full)).astype(numpy.uint8))
    if isinstance(clear := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(numpy.where(values == clear, 0, 255).astype(numpy.uint8)))
    else:
        grey.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return grey


def _in_srgb(image: Image.Image, mode: str) -> Image.Image:
    """In `mode`, its colours taken from the profile that the file carries to sRGB. A damaged profile counts as none, as in browsers."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "L", "P", "CMYK"):
        return image.convert(mode)
    try:
        from PIL import ImageCms
    except ImportError:  # Pillow was built without it
        return image.convert(mode)
    image = image.convert(mode) if image.mode == "P" else image
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image.convert(mode)
        return ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (OSError, ValueError, ImageCms.PyCMSError):
        return image.convert(mode)
