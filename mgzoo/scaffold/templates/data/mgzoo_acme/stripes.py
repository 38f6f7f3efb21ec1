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

from mgzoo.parts import Clip
from mgzoo_acme.configs import StripesConfig

COLOURS = {"red": (230, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 230), "yellow": (240, 220, 60)}
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
SPEEDS = {"slowly": 0.5, "fast": 2.0}
HELD_OUT = 8
VERSION = "stripes 1"  # part of every digest; raise it when the same config comes out as other pixels


class Stripes:
    """The run's micro-batch m goes to rank m % world; where the stream stands is one number, good for any number of ranks."""

    def __init__(self, config: StripesConfig, seed: int = 0, rank: int = 0, world: int = 1):
        self.config, self.seed, self.rank, self.world = config, seed, rank, world
        self.training = [i for i in range(config.clips) if i % HELD_OUT]
        self.taken = 0  # micro-batches that all ranks together have taken

    def batches(self, size: int) -> Iterator[list[Clip]]:
        """Endless batches of ``size`` clips for this rank, every clip once an epoch."""
        while True:
            first = (self.taken + self.rank) * size
            self.taken += self.world
            yield [self._clip(self._drawn(n)) for n in range(first, first + size)]

    def held_out(self) -> list[Clip]:
        """The validation clips, always in the same order."""
        return [self._clip(i) for i in range(0, self.config.clips, HELD_OUT)]

    def state_dict(self) -> dict:
        return {"taken": self.taken}

    def load_state_dict(self, state: dict) -> None:
        self.taken = state["taken"]

    def _drawn(self, n: int) -> int:
        """The clip that is sample n of the run."""
        epoch, place = divmod(n, len(self.training))
        order = torch.randperm(len(self.training), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
        return self.training[int(order[place])]

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
