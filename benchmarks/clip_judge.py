"""The clips of data/emoji64 as the benchmarks use them: the splits that the committed lists fix, and how a generated clip is scored.

The judge is no network. A clip is described by its pixels, averaged over 2 frames x 2 x 2 pixels; the distance of two clips is
the mean squared difference. It was fixed before the first score was taken and has learnt nothing, so no model can have been fitted to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

import mgzoo

LISTS = {"concepts": "held_out_concepts.txt", "combinations": "held_out_combinations.txt"}


@dataclass(frozen=True, kw_only=True)
class Clips:
    """video: uint8 (N, 16, 64, 64, 3). captions: one each, all distinct. facts: ``concept``, ``skintone`` and ``person`` of each.
    split: row numbers of ``trained``, ``combinations`` and ``concepts``."""

    video: Tensor
    captions: list[str]
    facts: list[dict]
    split: dict[str, list[int]]

    def media(self, rows: Sequence[int]) -> Tensor:
        """Float (B, 3, F, Y, X) in [-1, 1]."""
        return (self.video[rows].float() / 127.5 - 1).permute(0, 4, 1, 2, 3)

    def others(self, row: int, differ: str) -> list[int]:
        """The clips that show the same but for one fact (``skintone`` or ``person``), this one among them."""
        same = {"concept", "skintone", "person"} - {differ}
        return [i for i, facts in enumerate(self.facts) if all(facts[key] == self.facts[row][key] for key in same)]


@cache
def clips() -> Clips:
    """All 2,109 clips, decoded once (about 20 s)."""
    from mgzoo.discovery import discover

    config = mgzoo.compose("tiny/emoji_t2v", ["data.config.held_out=[]"]).data
    stream = discover().build_class(config.component.id)(config.config)
    taken = sorted(next(stream.batches(len(stream))), key=lambda clip: clip.key)
    apart = {name: set((stream.root / file).read_text().split()) for name, file in LISTS.items()}
    split = {name: [i for i, clip in enumerate(taken) if clip.key in keys] for name, keys in apart.items()}
    held = {i for rows in split.values() for i in rows}
    split["trained"] = [i for i in range(len(taken)) if i not in held]
    return Clips(
        video=torch.stack([clip.load() for clip in taken]), captions=[clip.caption for clip in taken],
        facts=[{key: clip.extra[key] for key in ("concept", "skintone", "person")} for clip in taken], split=split,
    )


def describe(video: Tensor) -> Tensor:
    """uint8 (B, F, Y, X, 3) -> float32 (B, N): pixels in [0, 1], averaged over 2 x 2 x 2."""
    return torch.cat([F.avg_pool3d(v.permute(0, 4, 1, 2, 3).float() / 255, 2).flatten(1) for v in video.split(64)])


def evenly(rows: Sequence[int], count: int) -> list[int]:
    """So many of these rows, spread evenly over their order; all where there are fewer."""
    return [rows[i * len(rows) // count] for i in range(count)] if count < len(rows) else list(rows)


@cache
def described() -> Tensor:
    """`describe` of every real clip (2109, 24576)."""
    return describe(clips().video)


def distances(video: Tensor) -> Tensor:
    """Mean squared difference of each generated clip to every real one, (B, 2109)."""
    x, real = describe(video), described()
    return (x.square().sum(1)[:, None] + real.square().sum(1) - 2 * x @ real.T) / x.shape[1]


def ranks(distance: Tensor, rows: Sequence[int]) -> Tensor:
    """How many real clips are nearer than the one that was asked for, (B,): 0 is a hit."""
    own = distance.gather(1, torch.tensor(rows)[:, None])
    return (distance < own).sum(1)


def variant(distance: Tensor, rows: Sequence[int], differ: str) -> tuple[float, float, int]:
    """Share of clips whose nearest real clip, among those that differ in one fact alone, has the right one -> (share, chance, clips asked)."""
    right, chance = [], []
    for line, row in zip(distance, rows, strict=True):
        among = clips().others(row, differ)
        if clips().facts[row][differ] is None or len(among) < 2:
            continue
        right.append(among[int(line[among].argmin())] == row)
        chance.append(1 / len(among))
    count = len(right)
    return (sum(right) / count, sum(chance) / count, count) if count else (float("nan"), float("nan"), 0)


def motion(video: Tensor) -> Tensor:
    """Motion energy (B,): mean squared difference of neighbouring frames, pixels in [0, 1]."""
    return torch.cat([(v.float() / 255).diff(dim=1).square().flatten(1).mean(1) for v in video.split(64)])


def score(video: Tensor, rows: Sequence[int]) -> dict[str, float]:
    """The figures of generated clips, one for each prompted row."""
    distance = distances(video)
    rank, real = ranks(distance, rows), clips().video[list(rows)]
    tone, person = variant(distance, rows, "skintone"), variant(distance, rows, "person")
    ours, theirs = motion(video), motion(real)
    return {
        "clips": len(rows), "r1": (rank < 1).float().mean().item(), "r10": (rank < 10).float().mean().item(),
        "median_rank": rank.float().median().item() + 1,
        "skin_tone": tone[0], "skin_tone_chance": tone[1], "gender": person[0], "gender_chance": person[1],
        "motion_ratio": (ours.mean() / theirs.mean()).item(), "motion_correlation": torch.corrcoef(torch.stack([ours, theirs]).log())[0, 1].item(),
    }


def generate(model, rows: Sequence[int], *, seed: int = 0, batch: int = 64, **request) -> Tensor:
    """One clip for each row's caption, uint8 (B, F, Y, X, 3); clip i starts from the noise of seed + i."""
    made = []
    for start in range(0, len(rows), batch):
        captions = [clips().captions[i] for i in rows[start : start + batch]]
        made += [media.video for media in model.generate(captions, seed=seed + start, **request)]
    return torch.stack(made)
