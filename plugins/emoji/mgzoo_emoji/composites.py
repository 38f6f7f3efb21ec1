"""Scenes as pixels: silhouettes cut from white, backgrounds, small things in corners, recoloured subjects, marks and looks.

Shape letters: F frames, Y X pixel height and width. Pictures are float32 in [0, 1] inside, uint8 outside.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from mgzoo_emoji.instruction_templates import COLOURS, MARKS, PATTERNS
from mgzoo_emoji.scenes import Scene

RENDER_VERSION = "scenes 1"  # part of every digest; raise it when the same scene comes out as other pixels
WHITE = 244  # a pixel whose darkest channel is lighter is paper; the coded clips' paper stays above it
THING = 0.42  # the longer side of a small thing, of the picture's
MARGIN = 2  # pixels between a thing and the border
CHANGED = 12  # a channel differs by more than this where an edit is seen
LUMA = torch.tensor([0.299, 0.587, 0.114])
WITHIN_FRAMES = np.pad(ndimage.generate_binary_structure(2, 1)[None], ((1, 1), (0, 0), (0, 0)))
"""Neighbours above, below and beside a pixel, none in the frames before and after."""


def silhouette(video: Tensor, white: int = WHITE) -> Tensor:
    """bool (F, Y, X): all but the white that is connected with the border (4-neighbours). video: uint8 (F, Y, X, 3)."""
    paper = np.pad((video.amin(-1) > white).numpy(), ((0, 0), (1, 1), (1, 1)), constant_values=True)  # a ring joins all that reaches the border
    pieces, _ = ndimage.label(paper, structure=WITHIN_FRAMES)
    return torch.from_numpy((pieces != pieces[:, :1, :1])[:, 1:-1, 1:-1].copy())


def extract_matte(video: Tensor) -> tuple[Tensor, Tensor]:
    """A clip on white -> colours float (F, Y, X, 3) with the paper taken out of the rim, and coverage float (F, Y, X) in [0, 1].

    A rim pixel is a mix of paper and of what lies beside it inside: its coverage is how far its least channel is from white, over the
    furthest in the 3 x 3 pixels around it (our choice).
    """
    inside = silhouette(video)
    pixels = video.float() / 255
    dark = 1 - pixels.amin(-1)
    around = F.max_pool2d((dark * inside)[:, None], 3, 1, 1)[:, 0]
    outside = F.max_pool2d((~inside).float()[:, None], 3, 1, 1)[:, 0] > 0
    covered = torch.where(outside, (dark / around.clamp_min(1e-3)).clamp(0, 1), torch.ones(())) * inside
    colours = ((pixels - (1 - covered[..., None])) / covered[..., None].clamp_min(0.05)).clamp(0, 1)
    return torch.where(inside[..., None], colours, pixels), covered


def background(name: str, height: int, width: int) -> Tensor:
    """float (Y, X, 3) of a name in `mgzoo_emoji.instruction_templates.BACKGROUNDS`; patterns repeat every eighth of the picture."""
    colour, _, pattern = name.partition(" ")
    ink, paper = _rgb(COLOURS[colour]), torch.ones(3)
    if not pattern:
        return ink.expand(height, width, 3).clone()
    y, x = torch.meshgrid(torch.arange(height) * 64 // height, torch.arange(width) * 64 // width, indexing="ij")
    inked = {
        PATTERNS[0]: (x // 8) % 2 == 0,
        PATTERNS[1]: (x // 8 + y // 8) % 2 == 0,
        PATTERNS[2]: (x % 16 - 7.5).square() + (y % 16 - 7.5).square() < 22,
    }[pattern]
    return torch.where(inked[..., None], ink, paper)


def _rgb(colour: tuple[int, int, int]) -> Tensor:
    return torch.tensor(colour, dtype=torch.float32) / 255


def apply_texture(colours: Tensor, texture: str) -> Tensor:
    """A subject's colours float (F, Y, X, 3) in another texture: every shade kept, the hue that of the name; or darkened stripes or dots."""
    if texture in ("striped", "dotted"):
        ink = background(f"black {'stripes' if texture == 'striped' else 'dots'}", *colours.shape[1:3])
        return colours * (0.25 + 0.75 * ink[..., :1].clamp(0, 1))
    shade, ink = (colours @ LUMA)[..., None], _rgb(COLOURS[texture])
    middle = 0.55
    dark, light = shade / middle, (shade - middle) / (1 - middle)
    return torch.where(shade < middle, ink * (0.15 + 0.85 * dark), ink + (1 - ink) * 0.75 * light).clamp(0, 1)


def apply_look(video: Tensor, look: str) -> Tensor:
    """A clip float (F, Y, X, 3) in one of `mgzoo_emoji.instruction_templates.LOOKS`, each frame by itself."""
    grey = (video @ LUMA)[..., None]
    if look == "monochrome":
        return grey.expand_as(video).clone()
    if look == "sepia":
        return (0.06 + 0.86 * grey * torch.tensor([1.0, 0.84, 0.62])).clamp(0, 1)
    if look == "negative":
        return 1 - video
    if look == "poster":
        return (video * 2).round() / 2
    if look == "pixels":
        block = max(video.shape[1] // 16, 1)
        small = F.avg_pool2d(video.permute(0, 3, 1, 2), block)
        return F.interpolate(small, size=video.shape[1:3], mode="nearest").permute(0, 2, 3, 1)
    assert look == "pencil", look
    plane = F.pad(grey.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    steep = (plane[..., 1:-1, 2:] - plane[..., 1:-1, :-2]).abs() + (plane[..., 2:, 1:-1] - plane[..., :-2, 1:-1]).abs()
    return (1 - (2.2 * steep).clamp(0, 0.9)).permute(0, 2, 3, 1).expand_as(video).clone()


def small_object(colours: Tensor, covered: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The first frame of a cut-out, cropped to what it shows and scaled so that its longer side is `THING` of the picture.

    Returns colours float (y, x, 3) and coverage (y, x).
    """
    ys, xs = torch.nonzero(covered[0].amax(1) > 0.1).flatten(), torch.nonzero(covered[0].amax(0) > 0.1).flatten()
    box = np.s_[int(ys[0]) : int(ys[-1]) + 1, int(xs[0]) : int(xs[-1]) + 1] if len(ys) and len(xs) else np.s_[:, :]
    picture, mask = colours[0][box], covered[0][box]
    scale = THING * min(height, width) / max(mask.shape)
    size = [max(1, round(n * scale)) for n in mask.shape]
    planes = torch.cat([picture * mask[..., None], mask[..., None]], -1).permute(2, 0, 1)[None]
    scaled = F.interpolate(planes, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    mask = scaled[..., 3].clamp(0, 1)
    return (scaled[..., :3] / mask[..., None].clamp_min(1e-3)).clamp(0, 1), mask


def corner_position(place: str, size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """(top, left) of a thing of this size at a place."""
    down, right = place.split(" ")
    return MARGIN if down == "top" else height - MARGIN - size[0], MARGIN if right == "left" else width - MARGIN - size[1]


def render_scene(scene: Scene, cut: dict[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    """A scene -> float (F, Y, X, 3), and what shows of each clip in it: key -> bool (F, Y, X). cut: `extract_matte` of each clip it shows."""
    colours, covered = cut[scene.subject]
    frames, height, width = covered.shape
    if scene.texture:
        colours = apply_texture(colours, scene.texture)
    layers = [(scene.subject, colours, covered)]
    for key, place in scene.things:
        picture, mask = small_object(*cut[key], height, width)
        top, left = corner_position(place, tuple(mask.shape), height, width)
        whole, alpha = torch.zeros(height, width, 3), torch.zeros(height, width)
        whole[top : top + mask.shape[0], left : left + mask.shape[1]], alpha[top : top + mask.shape[0], left : left + mask.shape[1]] = picture, mask
        layers.append((key, whole.expand(frames, -1, -1, -1), alpha.expand(frames, -1, -1)))
    video, shown = background(scene.back, height, width).expand(frames, -1, -1, -1).clone(), {}
    for key, picture, alpha in layers:
        if scene.mark[0] == key:
            picture = _rgb(MARKS[scene.mark[1]]).expand_as(picture)
        video = video + alpha[..., None] * (picture - video)
        shown = {name: mask & (alpha < 0.5) for name, mask in shown.items()} | {key: alpha >= 0.5}
    return (apply_look(video, scene.look) if scene.look else video), shown


def to_uint8(video: Tensor) -> Tensor:
    """float in [0, 1] -> uint8."""
    return (video * 255).round().clamp(0, 255).to(torch.uint8).contiguous()


def changed_region(source: Tensor, target: Tensor, around: int = 2) -> Tensor:
    """Where an edit shows: bool (F, Y, X), widened by `around` pixels, of two uint8 (F, Y, X, 3)."""
    differs = (source.int() - target.int()).abs().amax(-1) > CHANGED
    return F.max_pool2d(differs[:, None].float(), 2 * around + 1, 1, around)[:, 0] > 0
