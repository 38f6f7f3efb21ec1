"""Temporal autoencoder (TAE): Movie Gen, section 3.1.1, in 2.5-D or in full 3-D.

Shape letters: B batch, C channels, T H W time/height/width of the tensor at hand, F frames, Y X pixel height/width,
N = T*H*W positions. Activations stay contiguous as x_BTHWC from the first to the last layer: a spatial convolution reads
them as the channels_last picture (B*T, C, H, W), a temporal one as the channels_last picture (B, C, T, H*W), so that no
layout is ever copied.

A large video is decoded picture by picture (`stream`): every layer takes an iterator of pictures x_B1HWC, keeps the one
before and the one after the picture at hand, and gives an iterator. No layer but the ones in the middle sees further in time,
so the result is that of `forward` to rounding, while memory does not grow with the frames and a picture stays in the cache.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.spec import MgzooError
from mgzoo_autoencoders.configs import TaeConfig

LOGVAR_RANGE = (-30.0, 20.0)
Stride = tuple[int, int]
Pictures = Iterator[Tensor]  # the frames of a video, one after the other, each x_B1HWC
AT_ONCE = {"cpu": 2**20, "cuda": 2**27}  # activations of a layer beyond which a video is decoded picture by picture
HEAD_GAIN = 0.1  # of the network beside a block transform: Adam's first steps on its last layers must not drown the codec
START_LOGVAR = -6.0  # a posterior as wide as the prior would drown the latents in noise for the first thousands of steps


class TemporalConv(nn.Conv2d):
    """Convolution of width 3 over time with symmetric replicate padding; starts as the identity (1 on the centre tap, bias 0).

    stride: ceil(T / stride) frames come out. up: every frame is repeated so often (nearest) before."""

    def __init__(self, channels: int, *, stride: int = 1, up: int = 1):
        super().__init__(channels, channels, (3, 1), stride=(stride, 1))
        self.up = up
        with torch.no_grad():
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)
            self.weight[:, :, 1, 0].fill_diagonal_(1.0)

    def forward(self, x_BTHWC: Tensor, frames: int | None = None) -> Tensor:
        """frames: keep only so many of the repeated frames."""
        (T, H, W), frames = x_BTHWC.shape[1:4], frames or x_BTHWC.shape[1] * self.up
        if T == 1:  # every tap sees the one frame
            return F.linear(x_BTHWC, self.weight.sum(2).squeeze(-1), self.bias).expand(-1, frames, -1, -1, -1)
        x_BCTP = with_neighbours(x_BTHWC, frames, self.up).flatten(2, 3).movedim(-1, 1)
        return super().forward(x_BCTP).movedim(1, -1).unflatten(2, (H, W))

    def stream(self, pictures: Pictures) -> Pictures:
        """As `forward` at stride 1. Repeated frames share taps: two products make one of them, not three."""
        before, now, after = self.weight.squeeze(-1).permute(2, 1, 0).contiguous()
        if self.up == 1:
            return from_neighbours(pictures, lambda a, x, b: self._sum((a, x, b), (before, now, after)))
        earlier, later = (before, now + after), (before + now, after)
        return from_neighbours(pictures, lambda a, x, b: self._sum((a, x), earlier), lambda a, x, b: self._sum((x, b), later))

    def _sum(self, pictures: Sequence[Tensor], taps: Sequence[Tensor]) -> Tensor:
        """Bias and one product for each picture and tap (C, C), added in place."""
        (first, *others), shape = [x.flatten(0, -2) for x in pictures], pictures[0].shape
        out = torch.addmm(self.bias, first, taps[0])
        for x, tap in zip(others, taps[1:], strict=True):
            out.addmm_(x, tap)
        return out.view(shape)


def with_neighbours(x_BTHWC: Tensor, frames: int, up: int) -> Tensor:
    """Frames repeated ``up`` times (nearest), the first ``frames`` of them, and the outer ones once more at either end.

    One gather does it all: cheaper to differentiate than slices put together."""
    source = (torch.arange(-1, frames + 1, device=x_BTHWC.device) // up).clamp(0, x_BTHWC.shape[1] - 1)
    return x_BTHWC.index_select(1, source)


def from_neighbours(pictures: Pictures, *makes: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Pictures:
    """What each of ``makes`` makes of the picture before, a picture and the one after, for all; the outer ones are their own neighbours.

    A picture is let go before the last one made of it is given away: memory is counted in pictures here."""
    window = deque([next(pictures)])
    window.append(window[0])

    def last() -> Tensor:
        made = makes[-1](*window)
        window.popleft()
        return made

    for after in itertools.chain(pictures, [None]):
        window.append(window[-1] if after is None else after)
        del after
        for make in makes[:-1]:
            yield make(*window)
        yield last()


class Conv(nn.Module):
    """A 3x3 spatial convolution (zero padding), then a temporal one, absent from an image model.

    stride, up: (time, space). A spatial stride of 2 pads one zero row and column at the end, as the latent diffusion
    autoencoder does; ``up`` repeats (nearest) before each of the two convolutions.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: Stride = (1, 1), up: Stride = (1, 1), temporal: bool = True):
        super().__init__()
        self.stride, self.up = stride[1], up[1]
        self.spatial = nn.Conv2d(c_in, c_out, 3, stride=stride[1], padding=1 if stride[1] == 1 else 0)
        self.temporal = TemporalConv(c_out, stride=stride[0], up=up[0]) if temporal else None

    def forward(self, x_BTHWC: Tensor, frames: int | None = None) -> Tensor:
        """frames: keep only so many of the upsampled frames."""
        x_NCHW = x_BTHWC.flatten(0, 1).movedim(-1, 1)
        if self.stride > 1:
            x_NCHW = F.pad(x_NCHW, (0, 1, 0, 1))
        if self.up > 1:
            x_NCHW = F.interpolate(x_NCHW, scale_factor=self.up, mode="nearest")
        x_BTHWC = self.spatial(x_NCHW).movedim(1, -1).unflatten(0, x_BTHWC.shape[:2])
        return x_BTHWC if self.temporal is None else self.temporal(x_BTHWC, frames)

    def stream(self, pictures: Pictures) -> Pictures:
        """As `forward` without strides."""
        spatial = self if self.up == 1 else Upsampled(self.spatial)
        pictures = map(spatial.picture, pictures)
        return pictures if self.temporal is None else self.temporal.stream(pictures)

    def picture(self, x_B1HWC: Tensor) -> Tensor:
        """The spatial convolution of one picture."""
        return self.spatial(x_B1HWC.squeeze(1).movedim(-1, 1)).movedim(1, -1).unsqueeze(1)


class Upsampled:
    """Nearest x2 and a 3x3 convolution as one 2x2 convolution for each of the four positions that a position becomes: equal taps
    are added up beforehand, 16 products in place of 36. For inference: the sums are taken once."""

    def __init__(self, spatial: nn.Conv2d):
        weight = spatial.weight
        for axis in (2, 3):  # even positions see (one before, itself), odd ones (itself, one after)
            first, second, third = weight.split(1, dim=axis)
            even, odd = torch.cat([first, second + third], dim=axis), torch.cat([first + second, third], dim=axis)
            weight = torch.cat([even, odd])
        self.weight, self.bias = weight, spatial.bias.repeat(4)

    def picture(self, x_B1HWC: Tensor) -> Tensor:
        B, _, H, W, _ = x_B1HWC.shape
        y = F.conv2d(x_B1HWC.squeeze(1).movedim(-1, 1), self.weight, self.bias, padding=1).movedim(1, -1).unflatten(-1, (2, 2, -1))
        out = y.new_empty(B, 1, H, 2, W, 2, y.shape[-1])
        for column, row in itertools.product((0, 1), (0, 1)):
            out[:, 0, :, row, :, column] = y[:, row : row + H, column : column + W, column, row]
        return out.view(B, 1, 2 * H, 2 * W, -1)


class VolumeConv(nn.Conv3d):
    """A full 3x3x3 convolution in place of `Conv`'s pair: the same padding (zeros in space, replicated frames in time), strides and
    nearest upsampling, here in space and time before the one convolution. Starts as the spatial convolution alone, as the pair does."""

    def __init__(self, c_in: int, c_out: int, *, stride: Stride = (1, 1), up: Stride = (1, 1)):
        super().__init__(c_in, c_out, 3, stride=(stride[0], stride[1], stride[1]), padding=(0, stride[1] % 2, stride[1] % 2))
        self.up = up
        with torch.no_grad():
            spatial = nn.Conv2d(c_in, c_out, 3)
            self.weight.copy_(central(spatial.weight))
            self.bias.copy_(spatial.bias)

    def forward(self, x_BTHWC: Tensor, frames: int | None = None) -> Tensor:
        """frames: keep only so many of the upsampled frames."""
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
        return super().forward(with_neighbours(x_BTHWC, frames, self.up[0]).movedim(-1, 1)).movedim(1, -1)

    def stream(self, pictures: Pictures) -> Pictures:
        """As `forward` without strides."""
        up_time, up = self.up
        if up > 1:
            pictures = (x.repeat_interleave(up, dim=2).repeat_interleave(up, dim=3) for x in pictures)
        if up_time > 1:
            pictures = (x for x in pictures for _ in range(up_time))
        return from_neighbours(pictures, lambda *x: nn.Conv3d.forward(self, torch.cat(x, dim=1).movedim(-1, 1)).movedim(1, -1))


def central(weight: Tensor) -> Tensor:
    """Weights of a spatial convolution (c_out, c_in, 3, 3) -> of a 3x3x3 one that does the same to every frame."""
    return F.pad(weight[:, :, None], (0, 0, 0, 0, 1, 1))


def convolution(c_in: int, c_out: int, config: TaeConfig, *, stride: Stride = (1, 1), up: Stride = (1, 1)) -> Conv | VolumeConv:
    """The convolution that the config's ``temporal`` names."""
    if config.temporal == "3d":
        return VolumeConv(c_in, c_out, stride=stride, up=up)
    return Conv(c_in, c_out, stride=stride, up=up, temporal=config.temporal == "2.5d")


class Norm(nn.Module):
    """Normalisation of every frame on its own (our choice): ``group``, GroupNorm with eps 1e-6 over the frame, or ``rms``, root
    mean square over the channels of each position.

    Statistics over time would make a frame depend on which frames share its tile and would set pictures apart from videos.
    On a CPU, torch's GroupNorm is the faster one where a group has 16 channels or more (ten times slower backward below).
    """

    def __init__(self, channels: int, config: TaeConfig):
        super().__init__()
        self.groups = config.groups if config.norm == "group" else None
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if self.groups else None

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        if self.groups is None:
            return F.rms_norm(x_BTHWC, self.weight.shape, self.weight, 1e-6)
        x_NCHW = F.group_norm(x_BTHWC.flatten(0, 1).movedim(-1, 1), self.groups, self.weight, self.bias, 1e-6)
        return x_NCHW.movedim(1, -1).unflatten(0, x_BTHWC.shape[:2])

    def activate(self, x_BTHWC: Tensor) -> Tensor:
        """SiLU of the normalised, in place, for inference."""
        return F.silu(self(x_BTHWC), inplace=True)


class Block(nn.Module):
    """Residual block: twice norm, SiLU, convolution; a 1x1 projection of the input where the width changes."""

    def __init__(self, c_in: int, c_out: int, config: TaeConfig):
        super().__init__()
        self.norm1 = Norm(c_in, config)
        self.conv1 = convolution(c_in, c_out, config)
        self.norm2 = Norm(c_out, config)
        self.conv2 = convolution(c_out, c_out, config)
        self.project = nn.Linear(c_in, c_out) if c_in != c_out else None

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x_BTHWC)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x_BTHWC if self.project is None else self.project(x_BTHWC))

    def stream(self, pictures: Pictures) -> Pictures:
        pictures, around = fork(pictures, self.project)
        pictures = self.conv1.stream(map(self.norm1.activate, pictures))
        for h in self.conv2.stream(map(self.norm2.activate, pictures)):
            yield h.add_(around.popleft())


def fork(pictures: Pictures, path: Callable[[Tensor], Tensor] | None = None) -> tuple[Pictures, deque[Tensor]]:
    """The same pictures, and what ``path`` makes of those that have passed, to be taken from the left."""
    passed: deque[Tensor] = deque()

    def passing() -> Pictures:
        for x in pictures:
            passed.append(x if path is None else path(x))
            yield x

    return passing(), passed


class Attention(nn.Module):
    """Single-head self-attention with a residual: over the H*W positions of a frame, or over the T frames of a position.

    The temporal one starts with a zero output, so that a new video model is the image model.
    """

    def __init__(self, channels: int, config: TaeConfig, *, over_time: bool):
        super().__init__()
        self.over_time = over_time
        self.norm = Norm(channels, config)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        if over_time:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        B, T, H, W, C = x_BTHWC.shape
        h = self.norm(x_BTHWC).view(B, T, H * W, C)
        if self.over_time:
            h = h.transpose(1, 2)
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        h = self.out(F.scaled_dot_product_attention(q, k, v))
        if self.over_time:
            h = h.transpose(1, 2)
        return x_BTHWC + h.reshape(x_BTHWC.shape)


def to_channels(x_BTHWC: Tensor, time: int, height: int, width: int) -> Tensor:
    """Fold blocks of time x height x width positions into channels, in this order, the old channels fastest; an
    incomplete last block repeats the last frame."""
    if missing := -x_BTHWC.shape[1] % time:
        x_BTHWC = torch.cat([x_BTHWC, x_BTHWC[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1)
    B, T, H, W, C = x_BTHWC.shape
    x = x_BTHWC.reshape(B, T // time, time, H // height, height, W // width, width, C)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)


def from_channels(x_BTHWC: Tensor, time: int, height: int, width: int) -> Tensor:
    """The inverse of `to_channels`."""
    x = x_BTHWC.unflatten(-1, (time, height, width, -1))
    B, T, H, W, _, _, _, C = x.shape
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(B, T * time, H * height, W * width, C)


def spread(x: Tensor, channels: int) -> Tensor:
    """Bring the last axis to ``channels`` without parameters: mean of neighbours, or repetition of all."""
    C = x.shape[-1]
    if C > channels:
        return x.unflatten(-1, (channels, C // channels)).mean(-1)
    return x.repeat(1, 1, 1, 1, channels // C) if C < channels else x


def room(channels: int, more: int, stride: Stride) -> tuple[int, int, int]:
    """(time, height, width) of the blocks that fit when ``channels`` become ``more``: rows first, then columns, then frames,
    as motion is the least of a small block (our choice)."""
    free, kept = max(more // channels, 1), []
    for size in (stride[1], stride[1], stride[0]):
        kept.append(size if free >= size else 1)
        free //= kept[-1]
    return kept[2], kept[0], kept[1]


class Down(nn.Module):
    """Strided convolution; with ``shortcut`` a parameter-free path around it, as in the deep compression autoencoder (Chen
    et al. 2024): positions go into channels as far as there is room, the others are averaged."""

    def __init__(self, c_in: int, c_out: int, stride: Stride, config: TaeConfig):
        super().__init__()
        self.c_out, self.stride, self.shortcut = c_out, stride, config.shortcut
        self.conv = convolution(c_in, c_out, config, stride=stride)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        h = self.conv(x_BTHWC)
        return h + self._around(x_BTHWC) if self.shortcut else h

    def _around(self, x: Tensor) -> Tensor:
        (time, space), (t, height, width) = self.stride, room(x.shape[-1], self.c_out, self.stride)
        if t < time:
            if x.shape[1] % 2:
                x = torch.cat([x, x[:, -1:]], dim=1)
            x = (x[:, ::2] + x[:, 1::2]) / 2
        if width < space:
            x = (x[:, :, :, ::2] + x[:, :, :, 1::2]) / 2
        if height < space:
            x = (x[:, :, ::2] + x[:, :, 1::2]) / 2
        return spread(to_channels(x, t, height, width), self.c_out)


class Up(nn.Module):
    """Nearest x2 and convolution, in space, then in time; with ``shortcut`` a parameter-free path around it, the mirror of
    `Down`'s: channels go into positions as far as there are enough, the others are repeated."""

    def __init__(self, c_in: int, c_out: int, stride: Stride, config: TaeConfig):
        super().__init__()
        self.c_out, self.stride, self.shortcut = c_out, stride, config.shortcut
        self.conv = convolution(c_in, c_out, config, up=stride)

    def forward(self, x_BTHWC: Tensor, frames: int) -> Tensor:
        """frames: how many of the upsampled frames to keep."""
        h = self.conv(x_BTHWC, frames)
        return h + self._around(x_BTHWC)[:, :frames] if self.shortcut else h

    def stream(self, pictures: Pictures) -> Pictures:
        if not self.shortcut:
            yield from self.conv.stream(pictures)
            return
        pictures, around = fork(pictures)
        shortcuts = (y for _ in itertools.count() for y in self._around(around.popleft()).split(1, dim=1))
        for h in self.conv.stream(pictures):
            yield h.add_(next(shortcuts))

    def _around(self, x: Tensor) -> Tensor:
        (time, space), (t, height, width) = self.stride, room(self.c_out, x.shape[-1], self.stride)
        x = from_channels(spread(x, self.c_out * t * height * width), t, height, width)
        if height < space or width < space:
            x_NCHW, scale = x.flatten(0, 1).movedim(-1, 1), (space // height, space // width)
            x = F.interpolate(x_NCHW, scale_factor=scale, mode="nearest").movedim(1, -1).unflatten(0, x.shape[:2])
        return x if t == time else torch.stack([x, x], dim=2).flatten(1, 2)


class BlockTransform(nn.Module):
    """A linear codec of blocks of (time, space, space) pixels, beside the network: `analyse` and `synthesise`.

    It starts as the three-dimensional DCT of luma and two opponent colours, keeping the coefficients that are largest in
    pictures and scaling each to about unit deviation (our choice). With the network's last layers at zero, training
    starts from a working codec and the network learns what a linear one cannot do.
    """

    def __init__(self, channels: int, in_channels: int, time: int, space: int):
        super().__init__()
        self.time, self.space = time, space
        basis, deviation = dct_basis(in_channels, time, space)
        keep = deviation.argsort(descending=True, stable=True)[:channels]
        basis, deviation = basis[keep], deviation[keep, None]
        self.analysis = nn.Linear(basis.shape[1], channels, bias=False)
        self.synthesis = nn.Linear(channels, basis.shape[1], bias=False)
        # Adam moves every weight by about the learning rate: dividing by sqrt(fan-in) keeps its first steps small.
        self.scale = basis.shape[1] ** -0.5
        with torch.no_grad():
            self.analysis.weight.copy_(basis / deviation)
            self.synthesis.weight.copy_((basis * deviation).T / self.scale)

    @torch.no_grad()
    def fit(self, media: Iterable[Tensor]) -> None:
        """Start from the principal components of real blocks instead: the best linear codec there is for them.

        media: batches (B, F, Y, X, 3). Components are taken about zero, each scaled to unit power."""
        size, count = self.analysis.in_features, 0
        moments = torch.zeros(size, size, dtype=torch.float64)
        for batch in media:
            blocks = to_channels(batch.float(), self.time, self.space, self.space).reshape(-1, size)
            moments += (blocks.T @ blocks).double().cpu()
            count += len(blocks)
        power, vectors = torch.linalg.eigh(moments / count)
        largest = slice(-self.analysis.out_features, None)  # eigenvalues come in ascending order
        power, vectors = power[largest].flip(0).clamp_min(1e-6), vectors[:, largest].flip(1)
        self.analysis.weight.copy_((vectors / power.sqrt()).T / self.scale)
        self.synthesis.weight.copy_(vectors * power.sqrt())

    def analyse(self, pixels_BTHWC: Tensor) -> Tensor:
        """Pixels (B, F, Y, X, 3) -> raw latents (B, T, H, W, C)."""
        return self.analysis(to_channels(pixels_BTHWC, self.time, self.space, self.space) * self.scale)

    def synthesise(self, z_BTHWC: Tensor) -> Tensor:
        """The inverse of `analyse`, but for the coefficients that were not kept."""
        return from_channels(self.synthesis(z_BTHWC), self.time, self.space, self.space)


def dct_basis(in_channels: int, time: int, space: int) -> tuple[Tensor, Tensor]:
    """Orthonormal rows (n, n) over (t, y, x, channel) and the deviation (n,) their coefficients have in typical pictures.

    The deviations follow a power law fitted by eye to animated clips; they only choose and scale coefficients."""
    colours = torch.eye(in_channels)
    strength = torch.ones(in_channels)
    if in_channels == 3:
        colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])
        colours, strength = colours / colours.norm(dim=1, keepdim=True), torch.tensor([1.0, 0.5, 0.2])
    basis, deviation = colours, strength
    for n, falloff in ((space, 1.6), (space, 1.6), (time, 2.5)):
        basis = torch.kron(dct_matrix(n), basis)
        deviation = torch.kron(torch.arange(1, n + 1) ** -falloff, deviation)
    return basis, deviation


def dct_matrix(n: int) -> Tensor:
    """Orthonormal DCT-II (n, n), one row per frequency."""
    k = torch.arange(n, dtype=torch.float64)
    rows = torch.cos(torch.pi / n * (k + 0.5) * k[:, None]) * (2 / n) ** 0.5
    rows[0] /= 2**0.5
    return rows.float()


class Encoder(nn.Module):
    """Media positions (B, T, H, W, 3 p p) -> moments (B, t, h, w, 2 C)."""

    def __init__(self, config: TaeConfig):
        super().__init__()
        widths = config.widths
        self.stem = convolution(config.in_channels * config.patch**2, widths[0], config)
        self.stages = nn.ModuleList()
        width = widths[0]
        for level, c in enumerate(widths):
            for _ in range(config.encoder_blocks[level]):
                self.stages.append(Block(width, c, config))
                width = c
            if level + 1 < len(widths):
                c_out = widths[level + 1] if config.widens(config.encoder_blocks, level + 1) else c
                self.stages.append(Down(width, c_out, (config.time_strides[level], config.space_strides[level]), config))
                width = c_out
        self.stages.extend(middle(widths[-1], config))
        self.norm = Norm(widths[-1], config)
        self.head = convolution(widths[-1], 2 * config.channels, config)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        x = self.stem(x_BTHWC)
        for stage in self.stages:
            x = stage(x)
        return self.head(F.silu(self.norm(x)))


class Decoder(nn.Module):
    """Latents (B, t, h, w, C) -> media positions (B, T, H, W, 3 p p)."""

    def __init__(self, config: TaeConfig):
        super().__init__()
        widths = config.widths
        self.stem = convolution(config.channels, widths[-1], config)
        self.stages = nn.ModuleList(middle(widths[-1], config))
        self.middle = len(self.stages)
        width = widths[-1]
        for level in reversed(range(len(widths))):
            c = widths[level]
            for _ in range(config.decoder_blocks[level]):
                self.stages.append(Block(width, c, config))
                width = c
            if level:
                c_out = widths[level - 1] if config.widens(config.decoder_blocks, level - 1) else c
                self.stages.append(Up(width, c_out, (config.time_strides[level - 1], config.space_strides[level - 1]), config))
                width = c_out
        self.time_stride = math.prod(config.time_strides)
        self.norm = Norm(widths[0], config)
        self.head = convolution(widths[0], config.in_channels * config.patch**2, config)

    def forward(self, z_BTHWC: Tensor, frames: int) -> Tensor:
        """frames: of the result. Spurious ones are dropped at every level, the mirror of the encoder's ceil(T / 2), so that a
        picture costs what the image autoencoder's costs."""
        x = self.stem(z_BTHWC)
        for stage, kept in self._stages(z_BTHWC.shape[1], frames):
            x = stage(x) if kept is None else stage(x, kept)
        return self.head(F.silu(self.norm(x)))

    def stream(self, z_BTHWC: Tensor, frames: int) -> Pictures:
        """The pictures of `forward`, for inference: what is small, and the middle, at once, the rest picture by picture."""
        x, stages = self.stem(z_BTHWC), list(self._stages(z_BTHWC.shape[1], frames))
        limit = AT_ONCE["cuda" if x.is_cuda else "cpu"]
        for done, (stage, kept) in enumerate(stages):
            growth = math.prod((stage.stride[0], stage.stride[1] ** 2, stage.c_out)) / x.shape[-1] if isinstance(stage, Up) else 1
            if done >= self.middle and x.numel() * growth > limit:
                break
            x = stage(x) if kept is None else stage(x, kept)
        else:
            return iter(self.head(self.norm.activate(x)).split(1, dim=1))
        pictures = iter(x.split(1, dim=1))
        for stage, kept in stages[done:]:
            pictures = itertools.islice(stage.stream(pictures), kept)
        return self.head.stream(map(self.norm.activate, pictures))

    def _stages(self, T: int, frames: int) -> Iterator[tuple[nn.Module, int | None]]:
        """Each stage, and where it upsamples how many frames to keep of its ``T``."""
        stride = self.time_stride
        for stage in self.stages:
            if isinstance(stage, Up):
                stride //= stage.stride[0]
                T = min(math.ceil(frames / stride), T * stage.stride[0])
                yield stage, T
            else:
                yield stage, None


def middle(width: int, config: TaeConfig) -> list[nn.Module]:
    """Block, spatial attention, temporal attention, block; an image model keeps the empty place of the temporal one."""
    attention = []
    if config.attention:
        temporal = Attention(width, config, over_time=True) if config.temporal != "2d" else nn.Identity()
        attention = [Attention(width, config, over_time=False), temporal]
    return [Block(width, width, config), *attention, Block(width, width, config)]


class Tae(nn.Module):
    """Movie Gen's temporal autoencoder: media float (B, 3, F, Y, X) in [-1, 1] <-> normalised latents (B, C, T, H, W).

    Any number of frames and any size: T = ceil(F / stride), and the decoder's spurious frames and pixels are dropped. A
    picture is a one-frame video. The statistics that normalise the latents are buffers, set by `calibrate` and saved with
    the weights.
    """

    def __init__(self, config: TaeConfig):
        super().__init__()
        self.config = config
        self.spec = config.latent()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.blocks = None
        if config.linear:
            self.blocks = BlockTransform(config.channels, config.in_channels, self.spec.stride[0], self.spec.stride[1])
            for head in (self.encoder.head, self.decoder.head):
                last = head.spatial if isinstance(head, Conv) else head
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        self.register_buffer("latent_mean", torch.zeros(config.channels))
        self.register_buffer("latent_std", torch.ones(config.channels))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.encoder.stem.parameters()).dtype

    def posterior(self, media: Tensor) -> tuple[Tensor, Tensor]:
        """Media (B, 3, F, Y, X) in [-1, 1] -> raw (not normalised) mean and log-variance (B, C, T, H, W), float32, untiled."""
        p, s = self.config.patch, self.spec.stride[1]
        Y, X = media.shape[-2:]
        media = media.to(self.dtype)
        if Y % s or X % s:
            media = F.pad(media.flatten(1, 2), (0, -X % s, 0, -Y % s), mode="replicate").unflatten(1, media.shape[1:3])
        pixels_BTHWC = media.permute(0, 2, 3, 4, 1).contiguous()
        mean, logvar = self.encoder(to_channels(pixels_BTHWC, 1, p, p)).movedim(-1, 1).float().chunk(2, dim=1)
        if self.blocks is not None:
            mean = HEAD_GAIN * mean + self.blocks.analyse(pixels_BTHWC).movedim(-1, 1)
        return mean, (logvar + START_LOGVAR).clamp(*LOGVAR_RANGE)

    def pixels(self, raw: Tensor, frames: int | None = None) -> Tensor:
        """Raw latents (B, C, T, H, W) -> the first ``frames`` (default all) of the media they stand for, (B, 3, F, Y, X)
        float32, untiled, not cropped in space."""
        frames = frames or raw.shape[2] * self.spec.stride[0]
        z_BTHWC, p = raw.to(self.dtype).movedim(1, -1).contiguous(), self.config.patch
        linear = self.blocks.synthesise(z_BTHWC)[:, :frames] if self.blocks is not None else None
        # Weights that ZeRO stage 3 has split among the ranks are empty, and whole only while their own layer's forward runs.
        if torch.is_grad_enabled() or not all(p.numel() for p in self.decoder.parameters()):
            pixels_BTHWC = from_channels(self.decoder(z_BTHWC, frames), 1, p, p)
            return (pixels_BTHWC if linear is None else HEAD_GAIN * pixels_BTHWC + linear).movedim(-1, 1).float()
        B, _, H, W = (s * stride for s, stride in zip(z_BTHWC.shape, (1, *self.spec.stride)))
        out = z_BTHWC.new_empty(B, self.config.in_channels, frames, H, W, dtype=torch.float32)
        for f, picture in enumerate(self.decoder.stream(z_BTHWC, frames)):
            picture = from_channels(picture, 1, p, p)
            out[:, :, f : f + 1] = (picture if linear is None else HEAD_GAIN * picture + linear[:, f : f + 1]).movedim(-1, 1)
        return out

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw latents -> zero mean and unit deviation per channel."""
        return (raw - per_channel(self.latent_mean)) / per_channel(self.latent_std)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return latents.float() * per_channel(self.latent_std) + per_channel(self.latent_mean)

    def encode(self, media: Tensor) -> Tensor:
        """Media float (B, 3, F, Y, X) in [-1, 1] -> normalised latents (B, C, T, H, W) float32: the posterior mean.

        Longer than `tile_frames`, a video is cut into tiles without overlap (Movie Gen, section 3.1.1); larger than `tile_height` or
        `tile_width`, each of them into tiles whose latents are blended."""
        stride, (H, W) = self.spec.stride[1], self.spec.axes(*media.shape[2:])[1:]

        def means(part: Tensor) -> Tensor:
            return self._in_tiles(H, W, 1, lambda y, x: self.posterior(part[..., scaled(y, stride), scaled(x, stride)])[0])

        return torch.cat([self.normalise(means(part)) for part in media.split(self.config.tile_frames, dim=2)], dim=2)

    def decode(self, latents: Tensor, like: Sequence[int]) -> Tensor:
        """Normalised latents -> media float32 of size ``like`` = (F, Y, X); frames and pixels beyond it are dropped.

        More latents than a tile holds are decoded in overlapping tiles, one after the other into the result, the overlap
        blended linearly (Movie Gen, section 3.1.1): memory beyond the result does not grow with the number of frames. So do
        `tile_height` and `tile_width` in space (see `seams`)."""
        frames, height, width = like
        stride, T = self.spec.stride[0], latents.shape[2]
        tile, overlap = self.config.tile_frames // stride, self.config.tile_overlap // stride
        raw = self.denormalise(latents)

        def media(part: Tensor, frames: int) -> Tensor:
            H, W, scale = *part.shape[-2:], self.spec.stride[1]
            return self._in_tiles(H, W, scale, lambda y, x: self.pixels(part[..., y, x], frames))[..., :height, :width]

        if T <= tile:
            return media(raw, frames)
        out = raw.new_zeros(len(raw), self.config.in_channels, frames, height, width)
        blend = overlap * stride
        rise = ((torch.arange(blend, device=raw.device) + 0.5) / max(blend, 1))[:, None, None]
        for start in range(0, T - overlap, tile - overlap):
            first = start * stride
            part = media(raw[:, :, start : start + tile], min(frames - first, tile * stride))
            if start:
                part[:, :, :blend] *= rise[: part.shape[2]]
            if start + tile < T:
                part[:, :, part.shape[2] - blend :] *= 1 - rise
            out[:, :, first : first + part.shape[2]] += part
        return out

    def _in_tiles(self, H: int, W: int, scale: int, part: Callable[[slice, slice], Tensor]) -> Tensor:
        """Blend ``part(rows, columns)`` over the tiles of (H, W) latents; each (..., rows * scale, columns * scale)."""
        c, stride = self.config, self.spec.stride[1]
        overlap = c.tile_space_overlap // stride
        rows, columns = tiles(H, c.tile_height // stride, overlap), tiles(W, c.tile_width // stride, overlap)
        if len(rows) == len(columns) == 1:
            return part(*rows, *columns)
        out = None
        for y, down in zip(rows, seams(rows, overlap, scale)):
            for x, across in zip(columns, seams(columns, overlap, scale)):
                tile = part(y, x)
                tile = tile * (down[:, None] * across).to(tile.device)
                if out is None:
                    out = tile.new_zeros(*tile.shape[:-2], H * scale, W * scale)
                out[..., scaled(y, scale), scaled(x, scale)] += tile
        return out

    def fit(self, media: Iterable[Tensor]) -> None:
        """Start the linear path, where there is one, from the principal components of batches (B, 3, F, Y, X)."""
        if self.blocks is not None:
            self.blocks.fit(batch.permute(0, 2, 3, 4, 1) for batch in media)

    @torch.no_grad()
    def calibrate(self, raw: Iterable[Tensor]) -> None:
        """Set the normalisation from batches of raw latents (B, C, T, H, W): mean and deviation of each channel."""
        count, total, square = 0, 0.0, 0.0
        for batch in raw:
            x = batch.double().movedim(1, 0).flatten(1)
            count, total, square = count + x.shape[1], total + x.sum(1), square + x.square().sum(1)
        assert count, "no latents to calibrate with"
        mean = total / count
        self.latent_mean.copy_(mean)
        self.latent_std.copy_((square / count - mean.square()).clamp_min(1e-12).sqrt())


def tiles(length: int, tile: int, overlap: int) -> list[slice]:
    """Spread as few tiles as overlap by at least ``overlap`` evenly over ``length``; one of all where it fits or ``tile`` is 0."""
    if not tile or length <= tile:
        return [slice(0, length)]
    last = math.ceil((length - overlap) / (tile - overlap)) - 1
    starts = [i * (length - tile) // last for i in range(last + 1)]
    return [slice(start, start + tile) for start in starts]


def seams(spans: Sequence[slice], overlap: int, scale: int) -> list[Tensor]:
    """What each tile counts for at its positions, ``scale`` for each of the span's; the weights of a position add up to 1.

    Neighbours are blended linearly over half of ``overlap`` in the middle of where they meet; what is nearer to a tile's edge than
    a quarter of it has seen the zeros that pad a convolution and is dropped (our choice)."""
    weights = [torch.ones((span.stop - span.start) * scale) for span in spans]
    reach = overlap * scale // 4
    for left, right, falling, rising in zip(spans, spans[1:], weights, weights[1:]):
        seam = (left.stop + right.start) * scale / 2
        for span, weight, sign in ((left, falling, -1), (right, rising, 1)):
            distance = torch.arange(span.start * scale, span.stop * scale) + 0.5 - seam
            weight *= (0.5 + sign * distance / max(2 * reach, 1e-3)).clamp(0, 1)
    return weights


def scaled(span: slice, scale: int) -> slice:
    return slice(span.start * scale, span.stop * scale)


def per_channel(x_C: Tensor) -> Tensor:
    """(C,) -> float32 (C, 1, 1, 1), to go with latents."""
    return x_C.float()[:, None, None, None]


@torch.no_grad()
def inflate(image: Tae, config: TaeConfig) -> Tae:
    """A temporal autoencoder that starts as the image autoencoder it grows from (Movie Gen, section 3.1.1).

    image: built with ``temporal="2d"``. config: the same network with ``temporal`` "2.5d" or "3d" and any temporal strides. On one
    frame both give the same latents and the same picture; without `shortcut` and `linear`, latent i of a video is the
    picture latent of frame ``i * stride``, and each decoded picture is repeated ``stride`` times. Raises MgzooError where
    the two do not match, or where `shortcut` would turn channels into frames, which no picture model has.
    """
    ours, theirs = (dataclasses.asdict(c) for c in (config, image.config))
    free = {"temporal", "time_strides", "space"} | {name for name in ours if name.startswith("tile_")}
    if differ := sorted(name for name in ours if name not in free and ours[name] != theirs[name]):
        what = f"cannot inflate: {', '.join(differ)} differ from the image autoencoder's"
        raise MgzooError(what, remedy="take these fields from its config")
    levels = zip(config.widths, config.widths[1:], config.time_strides, config.space_strides)
    if config.shortcut and any(time > 1 and room(fine, coarse, (time, space))[0] > 1 for fine, coarse, time, space in levels):
        what = "cannot inflate: a shortcut turns channels into frames"
        raise MgzooError(what, remedy="set shortcut: false, or the time stride to 1 where the width doubles")
    video = Tae(config)
    weights = image.state_dict()
    if config.linear:
        time, scales = video.spec.stride[0], (image.blocks.scale, video.blocks.scale)
        weights["blocks.analysis.weight"] = weights["blocks.analysis.weight"].repeat(1, time) * (scales[0] / scales[1] / time)
        weights["blocks.synthesis.weight"] = weights["blocks.synthesis.weight"].repeat(time, 1)
    if config.temporal == "3d":
        pairs = {name.removesuffix(".spatial"): module for name, module in image.named_modules() if name.endswith(".spatial")}
        for name, spatial in pairs.items():
            weights[f"{name}.weight"] = central(weights.pop(f"{name}.spatial.weight"))
            weights[f"{name}.bias"] = weights.pop(f"{name}.spatial.bias")
    left = video.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys, left.unexpected_keys
    return video.to(image.dtype)
