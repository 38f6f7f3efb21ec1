"""Convolutions of the temporal autoencoder (Movie Gen, section 3.1.1): a spatial one inflated by a temporal one (2.5-D), or a full 3-D one.

Activations stay contiguous as x_BTHWC from the first to the last layer: a spatial convolution reads them as the channels_last
image (B*T, C, H, W), a temporal one as the channels_last image (B, C, T, H*W), so that no layout is ever copied.

`stream` computes what `forward` does, to rounding, frame by frame: it takes an iterator of frames and returns one, and holds only the
frames before and after the current one.

Shape letters: B batch, C channels, T H W time/height/width of the tensor at hand, N = B*T frames, P = H*W positions of a frame.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo_autoencoders.configs import TaeConfig

Stride = tuple[int, int]  # (time, space)
FrameStream = Iterator[Tensor]  # the frames of a video one after another, each x_B1HWC


class Conv(nn.Module):
    """2.5-D convolution: 3x3 in space (zero padding), then 3 in time. An image model has no temporal one.

    stride, up: (time, space). A spatial stride of 2 pads one zero row and column at the end, as the latent diffusion
    autoencoder does; ``up`` repeats (nearest) before each of the two convolutions.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: Stride = (1, 1), up: Stride = (1, 1), temporal: bool = True):
        super().__init__()
        self.stride, self.up = stride[1], up[1]
        self.spatial = nn.Conv2d(c_in, c_out, 3, stride=stride[1], padding=1 if stride[1] == 1 else 0)
        self.temporal = TemporalConv(c_out, stride=stride[0], up=up[0]) if temporal else None

    def forward(self, x_BTHWC: Tensor, frames: int | None = None) -> Tensor:
        """frames: number of upsampled frames to keep (default all)."""
        x_NCHW = x_BTHWC.flatten(0, 1).movedim(-1, 1)
        if self.stride > 1:
            x_NCHW = F.pad(x_NCHW, (0, 1, 0, 1))
        if self.up > 1:
            x_NCHW = F.interpolate(x_NCHW, scale_factor=self.up, mode="nearest")
        x_BTHWC = self.spatial(x_NCHW).movedim(1, -1).unflatten(0, x_BTHWC.shape[:2])
        return x_BTHWC if self.temporal is None else self.temporal(x_BTHWC, frames)

    def stream(self, frames: FrameStream) -> FrameStream:
        """`forward` without strides, frame by frame."""
        spatial = self if self.up == 1 else UpsampledConv(self.spatial)
        frames = map(spatial.convolve_frame, frames)
        return frames if self.temporal is None else self.temporal.stream(frames)

    def convolve_frame(self, x_B1HWC: Tensor) -> Tensor:
        """The spatial convolution of one frame."""
        return self.spatial(x_B1HWC.squeeze(1).movedim(-1, 1)).movedim(1, -1).unsqueeze(1)


class TemporalConv(nn.Conv2d):
    """Convolution of width 3 over time, with symmetric replicate padding. Starts as the identity: 1 on the centre tap, bias 0.

    stride: the output has ceil(T / stride) frames. up: each input frame is first repeated this many times (nearest)."""

    def __init__(self, channels: int, *, stride: int = 1, up: int = 1):
        super().__init__(channels, channels, (3, 1), stride=(stride, 1))
        self.up = up
        with torch.no_grad():
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)
            self.weight[:, :, 1, 0].fill_diagonal_(1.0)

    def forward(self, x_BTHWC: Tensor, frames: int | None = None) -> Tensor:
        """frames: number of repeated frames to keep (default all)."""
        (T, H, W), frames = x_BTHWC.shape[1:4], frames or x_BTHWC.shape[1] * self.up
        if T == 1:  # every tap sees the one frame
            return F.linear(x_BTHWC, self.weight.sum(2).squeeze(-1), self.bias).expand(-1, frames, -1, -1, -1)
        x_BCTP = pad_time(x_BTHWC, frames, self.up).flatten(2, 3).movedim(-1, 1)
        return super().forward(x_BCTP).movedim(1, -1).unflatten(2, (H, W))

    def stream(self, frames: FrameStream) -> FrameStream:
        """`forward` at stride 1, frame by frame. Repeated frames share taps, so each needs two products, not three."""
        before, now, after = self.weight.squeeze(-1).permute(2, 1, 0).contiguous()
        if self.up == 1:
            return over_neighbours(frames, lambda a, x, b: self._sum((a, x, b), (before, now, after)))
        earlier, later = (before, now + after), (before + now, after)
        return over_neighbours(frames, lambda a, x, b: self._sum((a, x), earlier), lambda a, x, b: self._sum((x, b), later))

    def _sum(self, frames: Sequence[Tensor], taps: Sequence[Tensor]) -> Tensor:
        """Bias plus one product per frame and tap (C, C), accumulated in place."""
        (first, *others), shape = [x.flatten(0, -2) for x in frames], frames[0].shape
        out = torch.addmm(self.bias, first, taps[0])
        for x, tap in zip(others, taps[1:], strict=True):
            out.addmm_(x, tap)
        return out.view(shape)


class VolumeConv(nn.Conv3d):
    """A full 3x3x3 convolution instead of `Conv`'s pair, with the same padding (zeros in space, replicated frames in time) and strides.

    Nearest upsampling in space and time comes before it. Starts as a spatial convolution alone, as the pair does."""

    def __init__(self, c_in: int, c_out: int, *, stride: Stride = (1, 1), up: Stride = (1, 1)):
        super().__init__(c_in, c_out, 3, stride=(stride[0], stride[1], stride[1]), padding=(0, stride[1] % 2, stride[1] % 2))
        self.up = up
        with torch.no_grad():
            spatial = nn.Conv2d(c_in, c_out, 3)
            self.weight.copy_(inflate_weight(spatial.weight))
            self.bias.copy_(spatial.bias)

    def forward(self, x_BTHWC: Tensor, frames: int | None = None) -> Tensor:
        """frames: number of upsampled frames to keep (default all)."""
        B, T = x_BTHWC.shape[:2]
        frames = frames or T * self.up[0]
        x_NCHW = x_BTHWC.flatten(0, 1).movedim(-1, 1)
        if self.stride[1] > 1:
            x_NCHW = F.pad(x_NCHW, (0, 1, 0, 1))
        if self.up[1] > 1:
            x_NCHW = F.interpolate(x_NCHW, scale_factor=self.up[1], mode="nearest")
        if T == 1:  # every tap sees the one frame
            x_NCHW = F.conv2d(x_NCHW, self.weight.sum(2), self.bias, self.stride[1:], self.padding[1:])
            return x_NCHW.movedim(1, -1).unsqueeze(1).expand(-1, frames, -1, -1, -1)
        x_BTHWC = x_NCHW.movedim(1, -1).unflatten(0, (B, T))
        return super().forward(pad_time(x_BTHWC, frames, self.up[0]).movedim(-1, 1)).movedim(1, -1)

    def stream(self, frames: FrameStream) -> FrameStream:
        """`forward` without strides, frame by frame."""
        up_time, up = self.up
        if up > 1:
            frames = (x.repeat_interleave(up, dim=2).repeat_interleave(up, dim=3) for x in frames)
        if up_time > 1:
            frames = (x for x in frames for _ in range(up_time))
        return over_neighbours(frames, lambda *x: nn.Conv3d.forward(self, torch.cat(x, dim=1).movedim(-1, 1)).movedim(1, -1))


def convolution(c_in: int, c_out: int, config: TaeConfig, *, stride: Stride = (1, 1), up: Stride = (1, 1)) -> Conv | VolumeConv:
    """The convolution that the config's ``temporal`` names."""
    if config.temporal == "3d":
        return VolumeConv(c_in, c_out, stride=stride, up=up)
    return Conv(c_in, c_out, stride=stride, up=up, temporal=config.temporal == "2.5d")


def pad_time(x_BTHWC: Tensor, frames: int, up: int) -> Tensor:
    """Repeat each frame ``up`` times (nearest), keep the first ``frames`` of them, and replicate the outer ones once at either end.

    One gather does all three: cheaper to differentiate than concatenated slices."""
    source = (torch.arange(-1, frames + 1, device=x_BTHWC.device) // up).clamp(0, x_BTHWC.shape[1] - 1)
    return x_BTHWC.index_select(1, source)


def over_neighbours(frames: FrameStream, *functions: Callable[[Tensor, Tensor, Tensor], Tensor]) -> FrameStream:
    """Apply each function to (previous, current, next) of every frame; the outer frames are their own neighbours.

    A frame is released before its last result is yielded: memory is counted in frames here."""
    window = deque([next(frames)])
    window.append(window[0])

    def last() -> Tensor:
        result = functions[-1](*window)
        window.popleft()
        return result

    for after in itertools.chain(frames, [None]):
        window.append(window[-1] if after is None else after)
        del after
        for function in functions[:-1]:
            yield function(*window)
        yield last()


def inflate_weight(weight: Tensor) -> Tensor:
    """Weights of a spatial convolution (c_out, c_in, 3, 3) -> of a 3x3x3 one that computes the same: zero except at the centre."""
    return F.pad(weight[:, :, None], (0, 0, 0, 0, 1, 1))


class UpsampledConv:
    """Nearest x2 upsampling followed by a 3x3 convolution, for inference: four 2x2 convolutions, one per output position.

    Taps that read the same input are summed once, so that an input position costs 16 products, not 36."""

    def __init__(self, spatial: nn.Conv2d):
        weight = spatial.weight
        for axis in (2, 3):  # even positions see (one before, itself), odd ones (itself, one after)
            first, second, third = weight.split(1, dim=axis)
            even, odd = torch.cat([first, second + third], dim=axis), torch.cat([first + second, third], dim=axis)
            weight = torch.cat([even, odd])
        self.weight, self.bias = weight, spatial.bias.repeat(4)

    def convolve_frame(self, x_B1HWC: Tensor) -> Tensor:
        B, _, H, W, _ = x_B1HWC.shape
        y = F.conv2d(x_B1HWC.squeeze(1).movedim(-1, 1), self.weight, self.bias, padding=1).movedim(1, -1).unflatten(-1, (2, 2, -1))
        out = y.new_empty(B, 1, H, 2, W, 2, y.shape[-1])
        for column, row in itertools.product((0, 1), (0, 1)):
            out[:, 0, :, row, :, column] = y[:, row : row + H, column : column + W, column, row]
        return out.view(B, 1, 2 * H, 2 * W, -1)
