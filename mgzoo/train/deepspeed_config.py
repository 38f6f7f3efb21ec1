"""The DeepSpeed configuration made from a recipe: ZeRO stage, offload, bucket sizes, bf16."""

from __future__ import annotations

from mgzoo.recipe.schema import Train, Zero
from mgzoo.train.gradients import gradient_config


def deepspeed_config(train: Train, zero: Zero, world_size: int, device: str) -> dict:
    """The DeepSpeed configuration of a run: plain dicts only, and nothing that is not in the recipe.

    device: ``cpu`` or ``cuda``. ZeRO stage 0 is run as stage 1.
    """
    assert train.precision != "auto", "what a device computes in is settled before an engine is made (Loop.set_precision)"
    stage = max(1, zero.stage)
    sharding = {
        "stage": stage,
        "reduce_bucket_size": zero.reduce_bucket_size,
        "allgather_bucket_size": zero.reduce_bucket_size,
        "contiguous_gradients": world_size > 1 or stage == 3,  # two copies of every gradient, for sums of whole buckets
        "overlap_comm": device == "cuda",
    }
    if stage == 3:
        sharding["stage3_param_persistence_threshold"] = zero.persistence_threshold
        sharding["stage3_prefetch_bucket_size"] = zero.reduce_bucket_size
    else:
        # On CUDA stages 1 and 2 sum whole buckets over all ranks either way; with it they copy them twice more.
        sharding["reduce_scatter"] = device == "cpu" and world_size > 1
        sharding["use_multi_rank_bucket_allreduce"] = False
    if zero.offload_optimizer:
        sharding["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    if zero.offload_parameters:
        sharding["offload_param"] = {"device": "cpu", "pin_memory": False}
    return {
        **gradient_config(train, world_size, device),
        "bf16": {"enabled": train.precision == "bf16", "check_grad_overflow": False},  # two passes; the loop stops at a norm that is not finite
        "zero_optimization": sharding,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }
