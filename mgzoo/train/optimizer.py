"""AdamW for the trained parts: parameter groups with and without weight decay, on CUDA and on a CPU."""

from __future__ import annotations

import shutil
import sys

import torch
from torch import nn

from mgzoo.recipe.schema import Train, Zero
from mgzoo.train import cpu_adam
from mgzoo.train.distributed import silence


def build_optimizer(module: nn.Module, train: Train, zero: Zero, device: str) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices (two axes or more) only: DeepSpeed's on a CPU, torch's fused one on CUDA."""
    weights = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if device == "cuda" and not zero.offload_optimizer:
        return torch.optim.AdamW(groups, lr=train.lr, betas=train.betas, fused=True)
    cpu_adam.use_own_ninja()
    if shutil.which("g++") is None or shutil.which("ninja") is None:
        print("! no g++ or ninja: training with torch's AdamW, which is slower than DeepSpeed's CPUAdam", file=sys.stderr, flush=True)
        return torch.optim.AdamW(groups, lr=train.lr, betas=train.betas)
    with cpu_adam.build_lock(), silence():
        return cpu_adam.exact_cpu_adam()(groups, lr=train.lr, betas=train.betas, adamw_mode=True)


def set_param_groups(engine, train: Train) -> None:
    """Give a running optimiser the betas and the weight decay of `train`: a checkpoint, and a stage before, brought their own."""
    for group, decays in zip(engine.optimizer.param_groups, engine.decays, strict=True):
        group["betas"] = tuple(train.betas)
        group["weight_decay"] = train.weight_decay if decays else 0.0
