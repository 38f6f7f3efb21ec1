"""One decoded picture -> RGB, and videos -> the size that is asked for."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from torch import Tensor

ORIENTATION = 0x0112
CUBIC = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP  # antialiased, colour at full width


def threads(height: int, width: int) -> int:
    """Threads for frames of this size, 0 for as many as there are processors: to start them costs more than small frames take."""
    return 1 if height * width < 320 * 240 else 0


def covering(height: int, width: int, size: Sequence[int]) -> tuple[int, int]:
    """The smallest (height, width) of a picture's shape that covers `size`."""
    scale = max(size[0] / height, size[1] / width)
    return max(size[0], round(height * scale)), max(size[1], round(width * scale))


def picture(frame, scaler: VideoReformatter, cover: Sequence[int] | None = None):
    """A decoded video frame -> uint8 (H, W, 3), upright, transparency laid on white.

    scaler: one for all frames of a file, since making one costs more than it does. cover: (height, width) that the picture is
    scaled to cover (`covering`); a frame with transparency keeps its size, since colours that cannot be seen would bleed in.
    """
    # Files of high definition that do not say their colour space mean BT.709; the scaler would take them for BT.601.
    settings = {"src_colorspace": "ITU709"} if frame.colorspace == 2 and frame.height >= 720 else {}
    settings["threads"] = threads(frame.height, frame.width)
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    if any(component.is_alpha for component in frame.format.components):
        rgba = scaler.reformat(frame, format="rgba", **settings).to_ndarray().astype(numpy.uint16)
        alpha = rgba[..., 3:]
        rgb = ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(numpy.uint8)  # at most 65,152: uint16 holds it
    else:
        if cover is not None:
            height, width = covering(frame.height, frame.width, cover[::-1] if turns % 2 else cover)
            if (height, width) != (frame.height, frame.width):
                settings |= {"height": height, "width": width, "interpolation": CUBIC}
        rgb = scaler.reformat(frame, format="rgb24", **settings).to_ndarray()
    return numpy.ascontiguousarray(numpy.rot90(rgb, turns)) if turns else rgb


def upright(image: Image.Image, turned: bool) -> Image.Image:
    """RGB, transparency laid on white; turned: as its Exif says."""
    if turned:
        image = ImageOps.exif_transpose(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    if image.getextrema()[3][0] == 255:
        return image.convert("RGB")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return paper.convert("RGB")


def fit(video: Tensor, height: int, width: int) -> Tensor:
    """uint8 (T, H, W, 3) -> uint8 (T, height, width, 3): scaled until it covers the size, then cut from the centre.

    Scaling is antialiased bicubic, so that a smaller picture does not shimmer.
    """
    import torch
    from torch.nn.functional import interpolate

    size = covering(*video.shape[1:3], (height, width))
    if size != tuple(video.shape[1:3]):
        scaled = interpolate(video.permute(0, 3, 1, 2).float(), size=size, mode="bicubic", antialias=True)
        video = scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return video[:, top : top + height, left : left + width].contiguous()


def evenly(times: Sequence[float]) -> list[int]:
    """Frames shown at these times, ascending -> as many indices of frames, equally spaced in time: at each, what was on screen."""
    step = (times[-1] - times[0]) / max(1, len(times) - 1)
    return [bisect.bisect_right(times, times[0] + i * step + 1e-6) - 1 for i in range(len(times))]
