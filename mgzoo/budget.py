"""Whether a training fits into memory, asked before anything is built. No torch.

The bytes are those of `mgzoo.plan`: closed forms of the parts' configs. Where a part does not declare its parameters nothing is refused.
"""

from __future__ import annotations

import os

from mgzoo import machine
from mgzoo.formatting import format_bytes, format_count
from mgzoo.plan import Plan, plan
from mgzoo.spec import MgzooError


def bytes_per_rank(answer: Plan) -> tuple[float, float]:
    """(on the device, moved to the host by offload) in bytes of the stage that needs most, as the recipe has it; (0, 0) where that is unknown."""
    chosen = [m for stage in answer.stages for m in stage.memory if (m.zero, m.offload) == (max(1, answer.zero), answer.offload)]
    largest = max(chosen, key=lambda m: m.device + m.host, default=None)
    return (largest.device, largest.host) if largest else (0.0, 0.0)


def excess(answer: Plan, ranks_here: int = 1, device_memory: int | None = None) -> str | None:
    """One line that says what a training needs and this machine has not; None where it fits, or where the system does not say what it has.

    ranks_here: ranks that share this machine's main memory. device_memory: bytes of one GPU, where the plan is for GPUs.
    """
    on_device, on_host = bytes_per_rank(answer)
    if answer.device == "cuda":
        if device_memory and on_device > device_memory:
            return f"training {answer.recipe} takes {format_bytes(on_device)} on each GPU, which has {format_bytes(device_memory)}"
        needs, where = on_host, "offloaded to main memory"
    else:
        needs, where = on_device + on_host, "of main memory"
    total = machine.memory()["total"]
    if total and needs * ranks_here > total:
        ranks = f" for {ranks_here} ranks" if ranks_here > 1 else ""
        return f"training {answer.recipe} takes {format_bytes(needs * ranks_here)} {where}{ranks}, this machine has {format_bytes(total)}"
    return None


def require_memory(recipe, device: str, device_memory: int | None = None) -> None:
    """Raise `MgzooError` where a recipe's training cannot fit this machine. Ranks are counted as the launcher says (WORLD_SIZE, LOCAL_WORLD_SIZE)."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    answer = plan(recipe, gpus=ranks, device=device)
    if found := excess(answer, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), device_memory):
        part = max((p for p in answer.parts if p.trained and p.parameters), key=lambda p: p.parameters, default=None)
        what = f"make {part.name} smaller ({part.use} has {format_count(part.parameters)} parameters), " if part else ""
        raise MgzooError(found, remedy=f"{what}lower train.micro_batch, raise zero.stage on more ranks (`mgzoo plan` compares them), or build it anyway with --force")
