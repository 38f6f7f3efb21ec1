"""Decoded pictures -> RGB as they are meant to be seen: upright, square pixels, SDR; and videos -> the size, or the range of
values, that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy
from av.sidedata.sidedata import Type
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from mgzoo.media import color
from mgzoo.spec import MgzooError

if TYPE_CHECKING:
    from torch import Tensor

CUBIC = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP  # antialiased, colour at full width
RESIZED_AT_ONCE = 64
"""Frames that are float at the same time: they take four times their bytes, and again as much scaled."""
WIDEST_PIXEL = 8
"""Pixels further from square than this are a damaged header."""


def threads(height: int, width: int) -> int:
    """Threads for frames of this size, 0 for as many as there are processors: to start them costs more than small frames take."""
    return 1 if height * width < 320 * 240 else 0


def covering(height: int, width: int, size: Sequence[int]) -> tuple[int, int]:
    """The smallest (height, width) of a picture's shape that covers `size`."""
    scale = max(size[0] / height, size[1] / width)
    return max(size[0], round(height * scale)), max(size[1], round(width * scale))


def squared(height: int, width: int, aspect: float | Fraction | None) -> tuple[int, int]:
    """(height, width) of a picture in square pixels, whose own are `aspect` times as wide as high. The smaller side grows, so that nothing is lost,
    to an even size, which every player takes. None, 0 and what no camera writes count as 1."""
    if not aspect or aspect == 1 or not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
        return height, width
    if aspect > 1:
        return height, max(2, 2 * round(width * aspect / 2))
    return max(2, 2 * round(height / aspect / 2)), width


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One of the eight ways to hold a picture: rows and columns are exchanged (transpose), then columns and rows are reversed (mirror, flip)."""

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    def __call__(self, picture: numpy.ndarray) -> numpy.ndarray:
        """(H, W, 3) as it is stored -> as it is shown."""
        if self == UPRIGHT:
            return picture
        turned = picture.swapaxes(0, 1) if self.transpose else picture
        return numpy.ascontiguousarray(turned[:: -1 if self.flip else 1, :: -1 if self.mirror else 1])

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after turning; its own inverse."""
        return (width, height) if self.transpose else (height, width)


UPRIGHT = Turn()
EXIF = {2: Turn(mirror=True), 3: Turn(mirror=True, flip=True), 4: Turn(flip=True), 5: Turn(transpose=True), 6: Turn(transpose=True, mirror=True),
        7: Turn(transpose=True, mirror=True, flip=True), 8: Turn(transpose=True, flip=True)}  # fmt: skip
"""Turns by the Exif tag Orientation (Exif 2.32, 4.6.4 A)."""


def turn_of(frame: av.VideoFrame) -> Turn:
    """What the display matrix of a frame says (ISO/IEC 14496-12, 6.2.2), to the nearest quarter turn."""
    if Type.DISPLAYMATRIX not in frame.side_data:
        return UPRIGHT
    a, b, _, c, d = numpy.frombuffer(bytes(frame.side_data[Type.DISPLAYMATRIX]), "=i4")[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(mirror=a < 0, flip=d < 0)
    return Turn(transpose=True, mirror=c < 0, flip=b < 0)


class ToRGB:
    """Decoded frames of one stream -> uint8 (H, W, 3): upright, in square pixels, SDR of BT.709, transparency laid on white.

    What the first frame is like decides for all, so that they are of one size. aspect: width of a pixel in its heights. cover: (height, width) that
    frames are scaled to cover (`covering`); frames with transparency are not scaled to it, since colours that cannot be seen would bleed in.
    """

    def __init__(self, first: av.VideoFrame, aspect: Fraction | None = None, cover: Sequence[int] | None = None):
        self.turn, self.scaler = turn_of(first), VideoReformatter()  # making one scaler costs more than it does to a small frame
        self.stored = first.height, first.width
        self.alpha = any(component.is_alpha for component in first.format.components)
        self.transfer, self.primaries = first.color_trc, first.color_primaries
        self.mapped = not self.alpha and color.needs_mapping(self.transfer, self.primaries)
        self.deep = not self.alpha and first.format.components[0].bits > 8  # as RGB of 8 bits the scaler would give their white as 253
        self.top = color.full_scale(first) if self.mapped or self.deep else 0
        inner = squared(*self.stored, aspect)
        self.shown = self.turn.size(*inner)
        if cover is not None and not self.alpha:
            inner = self.turn.size(*covering(*self.shown, cover))
        self.inner = inner
        # High definition that does not say its colour space means BT.709; the scaler would take it for BT.601.
        untagged = first.colorspace == 2 and (first.width >= 1280 or first.height > 576) and not self.mapped
        self.settings = {"threads": threads(*self.stored), **({"src_colorspace": "ITU709"} if untagged else {})}
        if self.mapped and first.colorspace == 2:
            self.settings["src_colorspace"] = color.BT2020
        self.kind = "rgba" if self.alpha else "rgb48le" if self.mapped or self.deep else "rgb24"

    def __call__(self, frame: av.VideoFrame) -> numpy.ndarray:
        settings = self.settings
        if not self.alpha and (frame.height, frame.width) != self.inner:
            settings = {**settings, "height": self.inner[0], "width": self.inner[1], "interpolation": CUBIC}
        rgb = self.scaler.reformat(frame, format=self.kind, **settings).to_ndarray()
        if self.mapped:
            rgb = color.to_sdr(rgb, self.transfer, self.primaries, self.top)
        elif self.deep:
            rgb = color.to_8_bits(rgb, self.top)
        elif self.alpha:
            rgba = rgb.astype(numpy.uint16)
            alpha = rgba[..., 3:]
            rgb = ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(numpy.uint8)  # at most 65,152: uint16 holds it
            if rgb.shape[:2] != self.inner:
                rgb = numpy.asarray(Image.fromarray(rgb).resize(self.inner[::-1], Image.Resampling.BICUBIC))
        return self.turn(rgb)


def deinterlaced(frames: Iterator[av.VideoFrame], time_base: Fraction) -> Iterator[av.VideoFrame]:
    """As many frames, those that are flagged as interlaced made whole (FFmpeg's bwdif); from the first of them on all go through the filter."""
    graph = None
    for frame in frames:
        if graph is None and frame.interlaced_frame:
            graph = av.filter.Graph()
            steps = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base),
                     graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"), graph.add("buffersink")]  # fmt: skip
            graph.link_nodes(*steps).configure()
        if graph is None:
            yield frame
            continue
        graph.push(frame)
        yield from _pulled(graph)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph)


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


def resize(video: Tensor, height: int, width: int) -> Tensor:
    """uint8 (T, H, W, 3) -> uint8 (T, height, width, 3), antialiased bicubic, so that a smaller picture does not shimmer; the same tensor
    where the size is the same."""
    import torch
    from torch.nn.functional import interpolate

    if tuple(video.shape[1:3]) == (height, width):
        return video

    def scale(part: Tensor) -> Tensor:
        scaled = interpolate(part.permute(0, 3, 1, 2).float(), size=(height, width), mode="bicubic", antialias=True)
        return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    return torch.cat([scale(part) for part in video.split(RESIZED_AT_ONCE)])


def fit(video: Tensor, height: int, width: int) -> Tensor:
    """uint8 (T, H, W, 3) -> uint8 (T, height, width, 3): resized until it covers the size, then cut from the centre."""
    size = covering(*video.shape[1:3], (height, width))
    video = resize(video, *size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return video[:, top : top + height, left : left + width].contiguous()


def uint8_to_float(video: Tensor) -> Tensor:
    """uint8 (F, Y, X, 3) -> float32 (3, F, Y, X) in [-1, 1], as autoencoders take it."""
    return (video.float() / 127.5 - 1).permute(3, 0, 1, 2).contiguous()


def float_to_uint8(media: Tensor) -> Tensor:
    """float (3, F, Y, X) in [-1, 1] -> uint8 (F, Y, X, 3), clipped and rounded. Raises MgzooError where a value is not finite."""
    import torch

    if not torch.isfinite(media).all():
        raise MgzooError("the model output has non-finite values", remedy="reduce the guidance scale, or check the weights with `mgzoo verify`")
    return ((media.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).cpu().contiguous()
