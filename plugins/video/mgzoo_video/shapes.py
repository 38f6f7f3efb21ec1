"""`video.shapes.v1`: moving shapes with captions, drawn as they are needed: training data that is nowhere on disk.

Letters: F frames, Y X pixel height/width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

import torch
from blake3 import blake3
from torch import Tensor

from mgzoo.data.sampler import EpochOrder, Stream
from mgzoo.parts import Clip
from mgzoo.spec import spread
from mgzoo_video.configs import ShapesConfig

COLOURS = {"red": (220, 50, 47), "green": (60, 170, 80), "blue": (38, 110, 210), "yellow": (235, 200, 60)}
SHAPES = ("disc", "square", "ring")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
HELD_OUT = 8
DRAWING = "shapes 1"  # part of every digest; raise it when the same config comes out as other pixels


class Shapes(Stream):
    """An endless stream, every trained clip once an epoch (`mgzoo.data.sampler`)."""

    def __init__(self, config: ShapesConfig, seed: int = 0, rank: int = 0, world: int = 1):
        super().__init__(rank, world)
        self.config, self.seed = config, seed
        self.training = [i for i in range(config.clips) if i % HELD_OUT]
        self._order = EpochOrder(self.training, lambda epoch: spread(self.seed) * 1_000_003 + epoch)

    def micro_batches(self, size: int, start: int) -> Iterator[list[tuple[int, int]]]:
        """(clip, epoch) pairs."""
        return self._order.micro_batches(size, start)

    def clips(self, drawn: list[tuple[int, int]]) -> list[Clip]:
        """Those clips."""
        return [self.clip(i) for i, _ in drawn]

    def epoch_length(self) -> int:
        """Clips that are trained on."""
        return len(self.training)

    def held_out(self) -> list[Clip]:
        """Every eighth clip, in order."""
        return [self.clip(i) for i in range(0, self.config.clips, HELD_OUT)]

    def load_state_dict(self, state: dict) -> None:
        """Stand where `state` was taken. One of an older version counts samples alone."""
        super().load_state_dict(state if "position" in state else {"position": state["samples"], "size": 1})

    def clip(self, i: int) -> Clip:
        """Clip i: a colour, a shape, a direction, and a place to start from that depends on i alone."""
        c = self.config
        colour, shape, direction = list(COLOURS)[i % 4], SHAPES[i // 4 % 3], list(DIRECTIONS)[i // 12 % 4]
        return Clip(
            key=f"shapes-{i:05d}", digest=blake3(f"{DRAWING} {i} {sorted(dataclasses.asdict(c).items())}".encode()).hexdigest(),
            caption=f"a {colour} {shape} moving {direction}", frames=c.frames, height=c.height, width=c.width, fps=c.fps,
            load=partial(self._draw, i, colour, shape, direction),
        )  # fmt: skip

    def _draw(self, i: int, colour: str, shape: str, direction: str) -> Tensor:
        """uint8 (F, Y, X, 3): the shape on white, half the picture's smaller side across, moving ``speed`` of it each frame, around the edges."""
        c = self.config
        side, (down, right) = min(c.height, c.width), DIRECTIONS[direction]
        y0, x0 = torch.rand(2, generator=torch.Generator().manual_seed(i)).tolist()
        t_F11 = torch.arange(c.frames)[:, None, None] * side * c.speed
        y_FYX = around(torch.arange(c.height)[:, None] - y0 * c.height - down * t_F11, c.height)
        x_FYX = around(torch.arange(c.width) - x0 * c.width - right * t_F11, c.width)
        far_FYX = torch.maximum(y_FYX.abs(), x_FYX.abs()) if shape == "square" else (y_FYX.square() + x_FYX.square()).sqrt()
        inside_FYX = far_FYX < side / 4
        if shape == "ring":
            inside_FYX = inside_FYX & (far_FYX > side / 8)
        white, ink = torch.tensor((255, 255, 255)), torch.tensor(COLOURS[colour])
        return torch.where(inside_FYX[..., None], ink, white).to(torch.uint8)


def around(distance: Tensor, size: int) -> Tensor:
    """A distance in pixels on a circle of ``size``: from -size / 2 to below size / 2."""
    return (distance + size / 2) % size - size / 2
