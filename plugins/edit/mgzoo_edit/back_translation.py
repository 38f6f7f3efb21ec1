"""Stage three's data (Movie Gen Edit, section 5): the stage-two model edits real clips, an automatic score filters, and each kept pair is
turned round: from the made clip, by the reverse instruction, to the real one. What the model learns to make is then always real.

A forward edit needs a reverse that can be said. On emoji these are skin tone, gender, background (back to white) and adding (then: remove).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mgzoo import media
from mgzoo.latent_task import decode_frames
from mgzoo.media import Media
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo_edit import heads
from mgzoo_edit.direction import Direction
from mgzoo_edit.instruct import Instruct
from mgzoo_edit.pairs import Pairs
from mgzoo_edit.scenes import Edit, Scene
from mgzoo_edit.tasks import EDITS
from mgzoo_edit.wordings import said

FORWARD = ("skintone", "gender", "background", "add")
REVERSE = {"add": "remove"}
SHARPNESS = 4  # quantiser of H.264: the targets are to stay real


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the stage-two model is asked, and what is then trained on.

    clip: the real clip as the source of the forward edit. task, instruction: of the way back.
    """

    clip: Clip
    task: str
    instruction: str


def requests(pairs: Pairs, seed: int = 0) -> Iterator[Request]:
    """Endless forward edits of real clips that may be trained on, each with its reverse."""
    dice, cast = random.Random(seed), pairs.cast
    while True:
        kind = dice.choice(FORWARD)
        if kind in ("skintone", "gender"):
            if not cast.relatives[kind]:
                continue
            source, target = (Scene(subject=key) for key in dice.choice(cast.relatives[kind]))
        else:
            drawn = cast.draw(kind, dice.randrange(2**31), 0)
            source = Scene(subject=drawn.source.subject)
            backs = [back for back in (drawn.source.back, drawn.target.back) if back != source.back]
            target = Scene(subject=source.subject, back=backs[0]) if kind == "background" else Scene(subject=source.subject, things=drawn.target.things[-1:])
        there, back = Edit(kind=kind, source=source, target=target), Edit(kind=REVERSE.get(kind, kind), source=target, target=source)
        if cast.free(there) and cast.free(back):
            words = [said(edit.kind, cast.slots(edit), dice.randrange(2**16)) for edit in (there, back)]
            yield Request(clip=pairs.pair(there, words[0]), task=back.task, instruction=words[1])


@torch.inference_mode()
def make(model, clips: Sequence[Clip], *, seed: int = 0, steps: int | None = None) -> list[torch.Tensor]:
    """The sources of these clips edited as their captions say, uint8 (F, Y, X, 3), in one batch."""
    task: Instruct = model.task
    sources = [Clip(key=clip.key, digest=clip.extra["source_digest"], caption="", frames=clip.frames, height=clip.height, width=clip.width,
                    fps=clip.fps, load=clip.extra["source"]) for clip in clips]
    latents = torch.stack(model.encode_clips(sources))
    conditions = model.encode_conditions({key: [heads.words(task.config, clip.caption, clip.fps) for clip in clips] for key in model.encoders})
    edited = task.edited(model, latents, conditions, [clip.extra["task"] for clip in clips], seed=seed, steps=steps)
    return [decode_frames(model, latent, (clip.frames, clip.height, clip.width)) for latent, clip in zip(edited, clips, strict=True)]


def back_translate(
    model, pairs: Pairs, out: str | Path, *, count: int, batch: int = 32, seed: int = 0, steps: int | None = None, keep: Direction,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:  # fmt: skip
    """Write `count` made pairs that the filter keeps into a folder that `edit.pairs.v1` reads; at most four times as many are made.

    Returns made, kept and the mean score of the made ones. Raises MgzooError where the model is no editor, the folder holds pairs already, or
    the filter keeps nothing.
    """
    if not isinstance(model.task, Instruct):
        raise MgzooError(f"{type(model.task).__name__} edits nothing by instruction", remedy="take the run of tiny/edit_pairs")
    out, rows, scores = Path(out), [], []
    if (out / "captions.jsonl").exists():
        raise MgzooError("this folder holds pairs already", remedy="remove it, or name another", origin=str(out))
    out.mkdir(parents=True, exist_ok=True)
    asked = requests(pairs, seed)
    while len(rows) < count and len(scores) < 4 * count:
        todo = [next(asked) for _ in range(batch)]
        made = make(model, [one.clip for one in todo], seed=seed + len(scores), steps=steps)
        for one, video in zip(todo, made, strict=True):
            real, region = one.clip.extra["source"](), one.clip.extra["region"]()
            score = keep.score(video, real, region)
            scores.append(score)
            if keep.config.keeps(score) and len(rows) < count:
                rows.append(_write(out, len(rows), one, real, video, score))
        report(f"{len(rows)} of {len(scores)} made pairs kept")
    if not rows:
        raise MgzooError(f"the filter keeps none of {len(scores)} made pairs; the best scores {max(scores):.2f}, {keep.config.least} is asked for",
                         remedy="train the second stage for longer, or ask for less with --least", origin=str(out))
    (out / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"made": len(scores), "kept": sum(map(keep.config.keeps, scores)), "score": sum(scores) / len(scores)}


def _write(out: Path, number: int, one: Request, real: torch.Tensor, made: torch.Tensor, score: float) -> dict:
    assert one.task in EDITS, one.task
    names = {"file": f"{number:05d}.mp4", "source": f"{number:05d}_made.mp4"}
    clip = one.clip
    for name, video in zip(names.values(), (real, made), strict=True):
        Media(video=video, fps=clip.fps, caption=one.instruction).save(out / name, crf=SHARPNESS)
    fps = media.probe(out / names["file"])["fps"]
    return {**names, "task": one.task, "caption": one.instruction, "input_caption": clip.extra["output_caption"], "output_caption": clip.extra["input_caption"],
            "fps": fps, "forward": clip.caption, "score": round(score, 4)}
