"""Moving stripes as a resumable stream of captioned clips, drawn as they are needed.

Letters: F frames, Y X pixel height/width.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from mgzoo.data.sampler import EpochOrder, Stream, derived_seed
from mgzoo.parts import Clip
from mgzoo_frozen.data.configs import StripesConfig

COLOURS = {"red": (230, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 230), "yellow": (240, 220, 60)}
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
SPEEDS = {"slowly": 0.5, "fast": 2.0}
HELD_OUT = 8
VERSION = "stripes 1"  # part of every digest; raise it when the same config comes out as other pixels


class Stripes(Stream):
    """A resumable stream for any number of ranks: `Stream` has `batches`, `state_dict` and `load_state_dict`, `EpochOrder` the order.

    For files there is more in `mgzoo.data`: `scan_data` reads folders, tables and shards, `look_at` decodes them before the first step.
    """

    def __init__(self, config: StripesConfig, seed: int = 0, rank: int = 0, world: int = 1):
        super().__init__(rank, world)
        self.config = config
        training = [i for i in range(config.clips) if i % HELD_OUT]
        self.order = EpochOrder(training, lambda epoch: derived_seed(f"stripes {seed} {epoch}"))

    def micro_batches(self, size: int, start: int) -> Iterator[list[tuple[int, int]]]:
        """What the run's micro-batches hold, from number `start` on: (clip, epoch) pairs, every clip once an epoch."""
        return self.order.micro_batches(size, start)

    def clips(self, drawn: list[tuple[int, int]]) -> list[Clip]:
        """The clips of one micro-batch, which are drawn when they are loaded."""
        return [self._clip(i) for i, _ in drawn]

    def held_out(self) -> list[Clip]:
        """The validation clips, always in the same order."""
        return [self._clip(i) for i in range(0, self.config.clips, HELD_OUT)]

    def _clip(self, i: int) -> Clip:
        c = self.config
        colour, direction, speed = (list(table)[index] for table, index in zip((COLOURS, DIRECTIONS, SPEEDS), (i % 4, i // 4 % 4, i // 16 % 2)))
        told = f"{VERSION} {i} {dataclasses.asdict(c)}"
        return Clip(
            key=f"stripes-{i:05d}", digest=hashlib.sha256(told.encode()).hexdigest(), caption=f"{colour} stripes moving {direction} {speed}",
            frames=c.frames, height=c.height, width=c.width, fps=c.fps, load=partial(self._draw, i, colour, direction, speed),
        )  # fmt: skip

    def _draw(self, i: int, colour: str, direction: str, speed: str) -> Tensor:
        """uint8 (F, Y, X, 3): a sine across the picture, pushed along by the speed, in the colour and its dark."""
        c, (down, right) = self.config, DIRECTIONS[direction]
        t_F11, y_Y1, x_X = torch.arange(c.frames)[:, None, None], torch.arange(c.height)[:, None], torch.arange(c.width)
        along = y_Y1 * down + x_X * right - SPEEDS[speed] * t_F11 + i
        light_FYX = 0.5 + 0.5 * torch.sin(2 * math.pi * along / 8).expand(c.frames, c.height, c.width)
        return (light_FYX[..., None] * torch.tensor(COLOURS[colour])).round().to(torch.uint8)
