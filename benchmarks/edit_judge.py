"""How an edited clip is judged: by comparing pixels with every answer that the edit could have had. No network, nothing learnt, so nothing fitted.

A held-out edit says exactly which clip is right. The judge draws the other answers too (the other skin tones, backgrounds, objects, textures,
looks, and the source untouched) and calls an edit right where the nearest of all of them, in the pixels that tell them apart, is the right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mgzoo.parts import Clip
from mgzoo_emoji.composites import changed_region, render_scene
from mgzoo_emoji.instruction_templates import BACKGROUNDS, LOOKS, MARKS, OBJECTS, TEXTURES
from mgzoo_emoji.pairs import Pairs
from mgzoo_emoji.scenes import Edit, Scene

AROUND = 4  # pixels around an edit that count neither as changed nor as unchanged: the autoencoder's reach
IOU = 0.5
"""The least overlap of a marked region with its object that counts as right."""
MARKED = 90 / 255  # a pixel is of the mark's colour within this distance of it


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One held-out edit with all its answers.

    target, source: uint8 (F, Y, X, 3). where: bool (F, Y, X), the P pixels that tell the answers apart, or those to be marked. others: uint8
    (N, P, 3), the answers there, the right one first. outside: bool (F, Y, X), what must stay. mark: RGB in [0, 1] of a marking, or None.
    """

    clip: Clip
    edit: Edit
    source: Tensor
    target: Tensor
    where: Tensor
    others: Tensor
    outside: Tensor
    mark: Tensor | None = None

    @property
    def chance(self) -> float:
        """Share that guessing among the answers gets right; 0 for marking."""
        return 0.0 if self.mark is not None else 1 / len(self.others)


def answers(pairs: Pairs, clip: Clip) -> Answers:
    """The answers of one held-out sample."""
    edit, source, target = Edit.parse(clip.extra["edit"]), clip.extra["source"](), clip.load()
    region = clip.extra["region"]()
    widened = F.max_pool2d(region[:, None].float(), 2 * AROUND + 1, 1, AROUND)[:, 0] > 0
    said = {"clip": clip, "edit": edit, "source": source, "target": target, "outside": ~widened}
    if edit.kind == "segment":
        indices = tuple(i * pairs.material.pieces[edit.source.subject].facts["frames"] // len(source) for i in range(len(source)))
        cut = {key: pairs.material.matte(key, indices if key == edit.source.subject else (0,) * len(source)) for key in edit.source.clips()}
        where = render_scene(edit.target, cut)[1][edit.target.mark[0]]
        return Answers(**said, where=where, others=target[where][None], mark=torch.tensor(MARKS[edit.target.mark[1]]) / 255)
    scenes = list(dict.fromkeys([edit.target, *others(pairs, edit)]))
    drawn = torch.stack([target, *(rendered(pairs, edit, scene) for scene in scenes[1:])])
    where = changed_region(drawn.amin(0), drawn.amax(0), around=0)
    if edit.kind in ("add", "remove"):
        where = region  # the box of another object is larger, and says nothing of this one
    return Answers(**said, where=where, others=drawn[:, where])


def others(pairs: Pairs, edit: Edit) -> list[Scene]:
    """Every scene that the same source could have been made into by another word, the source itself among them."""
    pool, source, target = pairs.pool, edit.source, edit.target
    if edit.kind in ("skintone", "gender"):
        facts, differs = pool.facts, {"skintone": "skintone", "gender": "person"}[edit.kind]
        same = {"concept", "skintone", "person"} - {differs}
        return [Scene(subject=key) for key in facts if all(facts[key][name] == facts[source.subject][name] for name in same)]
    if edit.kind == "background":
        return [replace(source, back=back) for back in BACKGROUNDS]
    if edit.kind in ("add", "remove"):
        _, place = edit.thing()
        rest = tuple(pair for pair in source.things if pair[1] != place)
        things = [key for key in pool.facts if pool.facts[key]["caption"] in OBJECTS and key not in {key for key, _ in rest}]
        return [replace(source, things=rest), *(replace(source, things=(*rest, (key, place))) for key in things)]
    if edit.kind == "texture":
        return [source, *(replace(source, texture=texture) for texture in TEXTURES)]
    if edit.kind == "vendor":
        code = source.subject.split("/")[1]
        return [Scene(subject=key) for key in pool.stills if key.split("/")[1] == code]
    assert edit.kind == "look", edit.kind
    return [source, *(replace(source, look=look) for look in LOOKS)]


def rendered(pairs: Pairs, edit: Edit, scene: Scene) -> Tensor:
    """Another answer in the frames and motion of the edit, uint8 (F, Y, X, 3)."""
    return pairs.pair(Edit(kind=edit.kind, source=edit.source, target=scene), "").load()


def right(answer: Answers, video: Tensor) -> float:
    """1 where the edit is the right one, else 0. video: uint8 (F, Y, X, 3)."""
    if answer.mark is not None:
        return float(overlap(answer, video) >= IOU)
    errors = (answer.others.float() - video[answer.where].float()).square().mean((1, 2))
    return float(int(errors.argmin()) == 0)


def overlap(answer: Answers, video: Tensor) -> float:
    """Intersection over union of what has the mark's colour and what should have it."""
    marked = (video.float() / 255 - answer.mark).square().sum(-1).sqrt() < MARKED
    return ((marked & answer.where).sum() / (marked | answer.where).sum().clamp_min(1)).item()


def error(video: Tensor, target: Tensor, where: Tensor) -> float:
    """Mean squared difference over some pixels, colours in [0, 1]; nan where there are none."""
    return ((video.float() - target.float()) / 255).square().mean(-1)[where].mean().item()


def motion(video: Tensor) -> Tensor:
    """Differences of neighbouring frames, colours in [0, 1]."""
    return (video.float() / 255).diff(dim=0)


def follows(video: Tensor, target: Tensor) -> float:
    """Correlation of the two clips' frame differences; 0 where one stands still."""
    ours, theirs = motion(video).flatten(), motion(target).flatten()
    return torch.nan_to_num(torch.corrcoef(torch.stack([ours, theirs]))[0, 1]).item()


def score(found: Sequence[Answers], videos: Sequence[Tensor], own: Sequence[Tensor]) -> dict[str, float]:
    """The figures of edited clips. own: the targets through the autoencoder and back, the least error that can be asked for.

    right: share with the right edit. outside: error outside the edited region over the autoencoder's own there. inside: the same inside it.
    motion: motion energy over the targets'. follows: mean correlation of frame differences with the targets'. overlap: mean of marked regions.
    """
    rights = [right(answer, video) for answer, video in zip(found, videos, strict=True)]
    rows: dict[str, float] = {"clips": len(found), "right": sum(rights) / len(rights), "chance": sum(answer.chance for answer in found) / len(found)}
    for name in ("outside", "inside"):
        sums = [0.0, 0.0]
        for answer, video, least in zip(found, videos, own, strict=True):
            where = answer.outside if name == "outside" else ~answer.outside
            if where.any():
                sums[0] += error(video, answer.target, where)
                sums[1] += error(least, answer.target, where)
        rows[name] = sums[0] / sums[1] if sums[1] else float("nan")
    energy = [[motion(video).square().mean().item() for video in videos], [motion(answer.target).square().mean().item() for answer in found]]
    rows["motion"] = sum(energy[0]) / sum(energy[1])
    rows["follows"] = sum(follows(video, answer.target) for answer, video in zip(found, videos, strict=True)) / len(found)
    marks = [overlap(answer, video) for answer, video in zip(found, videos, strict=True) if answer.mark is not None]
    rows["overlap"] = sum(marks) / len(marks) if marks else float("nan")
    return rows
