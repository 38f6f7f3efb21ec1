"""Clips at a glance: rows of frames under their captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from mgzoo.spec import MgzooError
from mgzoo.storage import atomic_path

if TYPE_CHECKING:
    from torch import Tensor


def contact_sheet(rows: Sequence[tuple[str, Tensor]], path: str | Path, columns: int = 8, cell: int = 96) -> Path:
    """A PNG with one row per (caption, uint8 video (T, H, W, 3)): the caption above ``columns`` frames spread over the clip.

    cell: height of a shown frame in pixels at least; small frames are enlarged by whole factors.
    """
    import torch

    if not rows:
        raise MgzooError("a contact sheet needs at least one row", remedy="give (caption, video) pairs", origin=str(path))
    font, line, gap, strips = ImageFont.load_default(size=16), 24, 4, []
    for caption, video in rows:
        enlarged = max(1, math.ceil(cell / video.shape[1]))
        chosen = torch.linspace(0, len(video) - 1, min(columns, len(video))).round().long()
        frames = [Image.fromarray(video[i].cpu().numpy()).resize((video.shape[2] * enlarged, video.shape[1] * enlarged), Image.Resampling.BICUBIC) for i in chosen]
        strips.append((caption, frames))
    width = gap + max(max(sum(f.width + gap for f in frames), math.ceil(font.getlength(caption)) + gap) for caption, frames in strips)
    height = gap + sum(line + frames[0].height + 2 * gap for _, frames in strips)
    sheet = Image.new("RGB", (width, height), "white")
    pen, y = ImageDraw.Draw(sheet), gap
    for caption, frames in strips:
        pen.text((gap, y), caption, fill="black", font=font)
        for i, frame in enumerate(frames):
            sheet.paste(frame, (gap + i * (frame.width + gap), y + line))
        y += line + frames[0].height + 2 * gap
    with atomic_path(Path(path)) as aside:
        sheet.save(aside, "PNG")
    return Path(path)
