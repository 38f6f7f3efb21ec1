"""Gradients of one optimizer step: how the batch is cut into micro-batches, in what type gradients are summed, and how they are clipped.

DeepSpeed accumulates, sums and clips (to `train.max_grad_norm`, the largest norm over all ranks) as it is told here.
"""

from __future__ import annotations

from mgzoo.recipe.schema import Train
from mgzoo.spec import MgzooError


def micro_batches(train: Train, world_size: int) -> tuple[int, int]:
    """(samples per micro-batch, micro-batches per rank and step); raises MgzooError where the batch does not divide."""
    micro = train.micro_batch or max(1, train.batch // world_size)
    if train.batch % (micro * world_size):
        raise MgzooError(
            f"train.batch {train.batch} is not divisible into micro-batches of {micro} on {world_size} rank{'s' if world_size > 1 else ''}",
            remedy=f"make train.batch a multiple of {micro * world_size}, or set train.micro_batch",
        )
    return micro, train.batch // (micro * world_size)


def gradient_config(train: Train, world_size: int, device: str) -> dict:
    """The part of the DeepSpeed configuration about gradients. device: ``cpu`` or ``cuda``.

    Gradients are accumulated and summed over the ranks in float32. A gradient that is not accumulated is bf16 before and after: it is sent
    as such where one rank has nothing to sum, and on a CPU, where `mgzoo.train.cpu_collectives` sums in float32 whatever it gets.
    """
    micro, accumulation = micro_batches(train, world_size)
    bf16 = train.precision == "bf16"
    reduced = "bf16" if bf16 and accumulation == 1 and (world_size == 1 or device == "cpu") else "fp32"
    return {
        "train_batch_size": train.batch,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": train.max_grad_norm,
        "data_types": {"grad_accum_dtype": "fp32"} if bf16 and accumulation > 1 else {},
        "communication_data_type": reduced,
    }
