"""Failures of a run: save the last complete state and report the checkpoint for `--resume`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mgzoo.spec import MgzooError
from mgzoo.train import checkpoint, debug_checks, distributed
from mgzoo.train import resume as resuming
from mgzoo.train.engine import master_weights


class NotFinite(MgzooError):
    """A non-finite loss or gradient norm. The weights may be affected already, so nothing is saved."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """State before a step that the step changes early: where this rank's data stood, and the buffers of what learns (running statistics)."""

    data: Any
    buffers: Mapping[str, Tensor]


def take_snapshot(loop) -> Snapshot:
    """The run as it stands between two steps."""
    return Snapshot(data=copy.deepcopy(loop.data.state_dict()), buffers={name: buffer.clone() for name, buffer in persistent_buffers(loop.engine.module).items()})


def persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that a checkpoint holds, by name."""
    found = {}
    for prefix, inner in module.named_modules():
        for name, buffer in inner._buffers.items():
            if buffer is not None and name not in inner._non_persistent_buffers_set:
                found[f"{prefix}.{name}"] = buffer
    return found


def stop_non_finite(loop, what: str, value: float, terms: Mapping[str, float]) -> None:
    """Stop a run with a non-finite loss or gradient norm, without saving."""
    left = checkpoint.latest(loop.out / "checkpoints")
    said = ", ".join(f"{name} {number:.6g}" for name, number in terms.items())
    raise NotFinite(
        f"{what} is {value} at step {loop.step + 1} ({said}): training stops",
        remedy=f"lower train.lr, or run with train.debug=true to find the part; last good checkpoint: {left.name if left else 'none yet'}",
        origin=str(loop.out),
    )


def next_example(loop):
    """This rank's next prepared micro-batch. A failure on one rank stops all ranks: they would wait for it in the next reduction."""
    example = error = None
    try:
        clips = next(loop.stream, None)
        if clips is None:
            raise MgzooError("the data stream ended", remedy="`batches` of a data part must be endless: restart after the last sample")
        with torch.no_grad():
            example = loop.model.task.prepare(loop.model, clips)
        if loop.stage.train.debug:
            debug_checks.check_example(example)
    except Exception as caught:
        error = caught
    loop.error_is_shared = loop.rank_info.world_size == 1 or distributed.any_rank(loop.rank_info, error is not None)
    if error is not None:
        raise error
    if loop.error_is_shared and loop.rank_info.world_size > 1:
        raise MgzooError("another rank failed", remedy="see the message of that rank", origin=str(loop.out))
    return example


def save_and_explain(loop, error: Exception) -> None:
    """Before a run ends with `error`: save a complete unsaved state, and report the checkpoint for `--resume`.

    Whole is what stands between two steps. Several ranks save where all of them know of the error.
    """
    if isinstance(error, NotFinite):
        return
    kept = loop.snapshot
    if kept is not None and loop.step > max(loop.saved, 0) and (loop.rank_info.world_size == 1 or loop.error_is_shared):
        try:
            if weights_are_finite(loop):
                with torch.no_grad():
                    for name, buffer in persistent_buffers(loop.engine.module).items():
                        buffer.copy_(kept.buffers[name])
                resuming.save_checkpoint(loop, data=kept.data)
        except Exception as second:
            loop.progress.say(f"! the state of step {loop.step} could not be saved: {second}")
    if not loop.rank_info.is_first:
        return
    left = checkpoint.latest(loop.out / "checkpoints")
    line = f"{left.name} is saved: continue with --resume" if left else "no checkpoint was saved: start again without --resume"
    if type(error) is MgzooError:
        if "--resume" not in error.remedy:
            MgzooError.__init__(error, error.what, remedy=f"{error.remedy}; {line}" if error.remedy else line, origin=error.origin)
    else:
        loop.progress.say(f"! the run ends after step {loop.step} ({type(error).__name__}); {line}")


def weights_are_finite(loop) -> bool:
    """Whether no master weight of any rank is infinite or not a number."""
    mine = all(math.isfinite(float(shard.detach().abs().max())) for shard in master_weights(loop.engine) if shard.numel())
    return mine if loop.rank_info.world_size == 1 else not distributed.any_rank(loop.rank_info, not mine)
