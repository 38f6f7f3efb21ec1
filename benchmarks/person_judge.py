"""The persons of data/emoji64 and data/persons64 as benchmarks/personalize.py uses them, and the recogniser that judges who is shown.

The recogniser is a small network that tells gender and skin tone. It learns on stills in Google's style, which no reference and no clip is drawn
in, and on nothing else; what it gives real clips in the style of the targets is the ceiling that is printed beside every figure.
"""

from __future__ import annotations

import io
import json
import tarfile
from functools import cache
from pathlib import Path

import clip_judge
import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mgzoo_personalize.foreground import crop_subject, foreground

FOLDER = Path("data/persons64")
TONES = (None, "light", "medium-light", "medium", "medium-dark", "dark")
PERSONS = ("man", "woman", "person")
STEPS, BATCH, RATE = 900, 64, 1e-3


@cache
def listed() -> dict[str, dict]:
    """references.jsonl by key."""
    return {row["key"]: row for row in map(json.loads, (FOLDER / "references.jsonl").read_text().splitlines())}


@cache
def stills(style: str) -> dict[str, Tensor]:
    """Masked crops of a style by key, uint8 (64, 64, 3)."""
    with tarfile.open(FOLDER / f"{style}.tar") as tar:
        return {m.name.removesuffix(".png"): torch.from_numpy(numpy.asarray(Image.open(io.BytesIO(tar.extractfile(m).read())).convert("RGB")).copy()) for m in tar}


@cache
def rows_by_key() -> dict[str, int]:
    """Row of `clip_judge.clips` by key: they are in the order of their keys."""
    keys = []
    for shard in sorted(Path("data/emoji64").glob("*.tar")):
        with tarfile.open(shard) as tar:
            keys += [name.removesuffix(".mp4") for name in tar.getnames() if name.endswith(".mp4")]
    assert len(keys) == len(clip_judge.clips().captions)
    return {key: i for i, key in enumerate(sorted(keys))}


def traits(row: int) -> tuple[int, int]:
    """(skin tone, gender) of a clip, as numbers."""
    facts = clip_judge.clips().facts[row]
    return TONES.index(facts["skintone"]), PERSONS.index(facts["person"])


class Recogniser(nn.Module):
    """Crops float (B, 3, 64, 64) in [-1, 1] -> logits (B, 9): six skin tones, three genders."""

    def __init__(self):
        super().__init__()
        widths = (3, 32, 64, 128, 128)
        self.stem = nn.Sequential(*(layer for i, (a, b) in enumerate(zip(widths, widths[1:]))
                                    for layer in (nn.Conv2d(a, b, 3, stride=2 if i < 3 else 1, padding=1), nn.BatchNorm2d(b), nn.ReLU())))  # fmt: skip
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(widths[-1], len(TONES) + len(PERSONS)))

    def forward(self, crops: Tensor) -> Tensor:
        return self.head(self.stem(crops))


def shaken(x: Tensor, draw: torch.Generator) -> Tensor:
    """Crops turned, zoomed, moved, tinted and blurred, so that the style matters less."""
    batch = len(x)

    def uniform(least: float, most: float, *shape: int) -> Tensor:
        return least + (most - least) * torch.rand(*shape, generator=draw)

    place, zoom = torch.zeros(batch, 2, 3), uniform(0.8, 1.5, batch)
    place[:, 0, 0], place[:, 1, 1] = zoom * torch.where(torch.rand(batch, generator=draw) < 0.5, -1, 1), zoom
    place[:, :, 2] = uniform(-0.3, 0.3, batch, 2)
    x = F.grid_sample(x - 1, F.affine_grid(place, list(x.shape), align_corners=False), align_corners=False) + 1  # what comes in is white
    x = (x * uniform(0.85, 1.1, batch, 1, 1, 1) + uniform(-0.08, 0.08, batch, 1, 1, 1)).clamp(-1, 1)
    if torch.rand((), generator=draw) < 0.5:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x + 0.05 * torch.randn(x.shape, generator=draw)


def recogniser(seed: int = 0) -> Recogniser:
    """Trained on Google's stills, about half a minute."""
    google, rows, draw = stills("google"), rows_by_key(), torch.Generator().manual_seed(seed)
    keys = sorted(google.keys() & listed().keys())
    x = floats(torch.stack([google[key] for key in keys]))
    tones, persons = torch.tensor([traits(rows[key]) for key in keys]).T
    with torch.random.fork_rng(), torch.enable_grad(), torch.inference_mode(False):
        torch.manual_seed(seed)
        net = Recogniser().train()
        optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.05)
        for step in range(STEPS):
            at = torch.randint(len(keys), (BATCH,), generator=draw)
            logits = net(shaken(x[at], draw))
            loss = F.cross_entropy(logits[:, : len(TONES)], tones[at]) + F.cross_entropy(logits[:, len(TONES) :], persons[at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - (step + 1) / STEPS)
    return net.eval()


def floats(pictures: Tensor) -> Tensor:
    """uint8 (B, Y, X, 3) -> float (B, 3, Y, X) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(video: Tensor) -> Tensor:
    """Middle frame of each clip, its subject cut out as a reference's is: uint8 (B, 64, 64, 3)."""
    middle = video[:, video.shape[1] // 2]
    found = [foreground(picture) for picture in middle]
    return torch.stack([crop_subject(picture, one, 64) if one else picture for picture, one in zip(middle, found)])


@torch.inference_mode()
def who(net: Recogniser, video: Tensor) -> Tensor:
    """Log-probabilities (B, 9) of skin tone and gender, mean over four frames of uint8 (B, F, Y, X, 3)."""
    total = 0
    for frame in range(2, video.shape[1], 4):
        logits = net(floats(crops(video[:, [frame]])))
        total = total + torch.cat([logits[:, : len(TONES)].log_softmax(1), logits[:, len(TONES) :].log_softmax(1)], 1)
    return total / len(range(2, video.shape[1], 4))
