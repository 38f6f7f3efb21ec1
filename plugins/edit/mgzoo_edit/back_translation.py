"""Stage three's data (Movie Gen Edit, section 5): the stage-two model edits real clips, an automatic score filters, and each kept pair is
turned round: from the made clip, by the reverse instruction, to the real one. What the model learns to make is then always real.

A forward edit needs a reverse that can be worded. Which edits have one is known to the data: `mgzoo_emoji.reversible` draws them on emoji.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from mgzoo import media
from mgzoo.media import Media
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo.tasks import decode_frames
from mgzoo_edit import heads
from mgzoo_edit.direction import Direction
from mgzoo_edit.instruct import Instruct
from mgzoo_edit.tasks import EDITS

SHARPNESS = 4  # quantiser of H.264: the targets are to stay real


@torch.inference_mode()
def make(model, clips: Sequence[Clip], *, seed: int = 0, steps: int | None = None) -> list[torch.Tensor]:
    """The sources of these clips edited as their captions say, uint8 (F, Y, X, 3), in one batch."""
    task: Instruct = model.task
    sources = [Clip(key=clip.key, digest=clip.extra["source_digest"], caption="", frames=clip.frames, height=clip.height, width=clip.width,
                    fps=clip.fps, load=clip.extra["source"]) for clip in clips]
    latents = torch.stack(model.encode_clips(sources))
    conditions = model.encode_conditions({key: [heads.prompt_text(task.config, clip.caption, clip.fps) for clip in clips] for key in model.encoders})
    edited = task.edit_latents(model, latents, conditions, [clip.extra["task"] for clip in clips], seed=seed, steps=steps)
    return [decode_frames(model, latent, (clip.frames, clip.height, clip.width)) for latent, clip in zip(edited, clips, strict=True)]


def back_translate(
    model, edits: Iterator[Clip], out: str | Path, *, count: int, batch: int = 32, seed: int = 0, steps: int | None = None, keep: Direction,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:  # fmt: skip
    """Write `count` made pairs that the filter keeps into a folder that `edit.pairs.v1` reads; at most four times as many are made.

    edits: endless forward edits of real clips, with the way back in ``extra["reverse_task"]`` and ``extra["reverse_caption"]``. Returns made,
    kept and the mean score of the made ones. Raises MgzooError where the model is no editor, the folder holds pairs already, or the filter
    keeps nothing.
    """
    if not isinstance(model.task, Instruct):
        raise MgzooError(f"{type(model.task).__name__} is not an instruction-guided editing task", remedy="use the run of tiny/edit_pairs")
    out, rows, scores = Path(out), [], []
    if (out / "captions.jsonl").exists():
        raise MgzooError("the folder already contains pairs", remedy="remove it, or choose another", origin=str(out))
    out.mkdir(parents=True, exist_ok=True)
    while len(rows) < count and len(scores) < 4 * count:
        todo = [next(edits) for _ in range(batch)]
        made = make(model, todo, seed=seed + len(scores), steps=steps)
        for one, video in zip(todo, made, strict=True):
            real, region = one.extra["source"](), one.extra["region"]()
            score = keep.score(video, real, region)
            scores.append(score)
            if keep.config.keeps(score) and len(rows) < count:
                rows.append(_write(out, len(rows), one, real, video, score))
        report(f"{len(rows)} of {len(scores)} generated pairs kept")
    if not rows:
        raise MgzooError(f"the filter rejects all {len(scores)} generated pairs; the best score is {max(scores):.2f}, the minimum {keep.config.least}",
                         remedy="train the second stage longer, or lower --least", origin=str(out))
    (out / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"made": len(scores), "kept": sum(map(keep.config.keeps, scores)), "score": sum(scores) / len(scores)}


def _write(out: Path, number: int, clip: Clip, real: torch.Tensor, made: torch.Tensor, score: float) -> dict:
    task, instruction = clip.extra["reverse_task"], clip.extra["reverse_caption"]
    assert task in EDITS, task
    names = {"file": f"{number:05d}.mp4", "source": f"{number:05d}_made.mp4"}
    for name, video in zip(names.values(), (real, made), strict=True):
        Media(video=video, fps=clip.fps, caption=instruction).save(out / name, crf=SHARPNESS)
    fps = media.probe(out / names["file"])["fps"]
    return {**names, "task": task, "caption": instruction, "input_caption": clip.extra["output_caption"], "output_caption": clip.extra["input_caption"],
            "fps": fps, "forward": clip.caption, "score": round(score, 4)}
