"""Recipe schema: frozen dataclasses, one field per YAML key. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Optional

from mgzoo.spec import former_names, option, require

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A low-rank adapter (LoRA): the part's weights are frozen; small matrices added to its linear layers are trained."""

    rank: int = option(8, "rank of the update (alpha / rank) B A of each linear layer")
    alpha: float = option(16.0, "scale of the update, divided by rank")
    targets: list[str] = option([], "linear layers by path or path suffix (qkv, ffn.w2); default: all inside numbered blocks")
    dropout: float = option(0.0, "dropout on the inputs of the update during training")
    modules: list[str] = option([], "modules by path to train in full (PEFT: modules_to_save); modules without weights in the base must be listed")

    def __post_init__(self):
        require({
            f"rank must be at least 1, not {self.rank}": self.rank >= 1,
            f"alpha must be positive, not {self.alpha}": self.alpha > 0,
            f"dropout must be in [0, 1), not {self.dropout}": 0 <= self.dropout < 1,
        })

    @property
    def scale(self) -> float:
        """Factor of the update B A."""
        return self.alpha / self.rank

    def match_targets(self, paths: Iterable[str]) -> list[str]:
        """The target layers among these paths of linear layers. Without targets: those inside numbered blocks, as in
        ``blocks.0.attention.qkv``; in a part without such blocks, all. Never those in a module trained in full."""
        paths = [path for path in paths if not self.is_saved_module(path)]
        if self.targets:
            return [path for path in paths if any(path == target or path.endswith(f".{target}") for target in self.targets)]
        return [path for path in paths if re.search(r"(^|\.)\d+\.", path)] or paths

    def too_wide(self, layers: Mapping[str, Sequence[int]]) -> list[tuple[str, str]]:
        """(what, remedy) if the rank is above the smaller side of a layer, the maximum rank of B A.

        layers: path of every linear layer -> shape of its weight.
        """
        widths = {path: min(layers[path]) for path in self.match_targets(layers)}
        if not (narrow := {path: width for path, width in widths.items() if width < self.rank}):
            return []
        path = min(narrow, key=lambda one: (narrow[one], one))
        more = f" and {len(narrow) - 1} more" if len(narrow) > 1 else ""
        return [(f"rank {self.rank} is above the width of {path}, {' x '.join(map(str, layers[path]))}{more}",
                 f"set adapter.rank to {narrow[path]} or less, or exclude narrow layers with adapter.targets")]

    def is_saved_module(self, path: str) -> bool:
        """Whether a module or a tensor is in a module trained in full."""
        return any(path == module or path.startswith(f"{module}.") for module in self.modules)


@dataclass(frozen=True, kw_only=True)
class PartRef:
    """One part of a recipe."""

    use: str = option("???", "component id, e.g. backbones.llama3.v1")
    config: dict[str, Any] = option({}, "fields of the component's config dataclass; `size: tiny` starts from its tiny()")
    weights: Optional[str] = option(None, "artifact to start from: registry/NAME[@tag], a folder, or org/name@revision")
    frozen: bool = option(False, "do not train this part")
    adapter: Optional[Adapter] = None


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a model by role; roles not required by the task stay empty."""

    autoencoder: Optional[PartRef] = None
    encoders: dict[str, PartRef] = field(default_factory=dict)
    backbone: Optional[PartRef] = None
    objective: Optional[PartRef] = None
    sampler: Optional[PartRef] = None
    task: Optional[PartRef] = None


@dataclass(frozen=True, kw_only=True)
class Ema:
    """Exponential moving average of the trained weights, kept in float32."""

    decay: float = option(0.999, "0 switches it off; warmed up as min(decay, (1 + n) / (10 + n))")
    every: int = option(1, "optimiser steps between updates; the decay is raised to this power")

    def __post_init__(self):
        require({
            f"decay must be in [0, 1), not {self.decay}": 0 <= self.decay < 1,
            f"every must be at least 1, not {self.every}": self.every >= 1,
        })


@former_names
@dataclass(frozen=True, kw_only=True)
class Train:
    """How a model is trained."""

    steps: int = option(1000, "optimiser steps of a run without stages")
    batch: int = option(32, "global batch: samples per optimiser step over all ranks")
    micro_batch: Optional[int] = option(None, "samples per rank and forward pass; default batch / ranks", formerly=("micro",))
    lr: float = option(1e-3, "peak learning rate of AdamW")
    warmup: int = option(100, "steps of linear warm-up at the start of the run (and of each stage that sets lr)")
    schedule: Literal["constant", "cosine"] = option("constant", "after warm-up; cosine falls to lr * min_lr_ratio at the last step")
    min_lr_ratio: float = option(0.05, "fraction of lr at the end of a cosine", formerly=("final_lr",))
    betas: tuple[float, float] = option((0.9, 0.95), "AdamW betas")
    weight_decay: float = option(0.01, "AdamW weight decay, on matrices only")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm; 0 switches clipping off", formerly=("clip",))
    precision: Literal["auto", "bf16", "fp32"] = option("auto", "number format of the forward and backward pass; auto: bf16 on devices with bf16 instructions, else fp32; master weights are float32")
    ema: Ema = field(default_factory=Ema)
    condition_dropout: float = option(0.1, "probability of dropping all conditions of a sample, for classifier-free guidance")
    validate_every: int = option(0, "steps between validations; 0 for none")
    validation_batch: int = option(32, "samples per validation batch")
    validation_samples: int = option(128, "number of held-out samples per validation")
    plateau: int = option(0, "halve the learning rate after this many validations without improvement; 0 never")
    save_every: int = option(0, "steps between checkpoints; 0: only at the end")
    keep_checkpoints: int = option(2, "number of latest checkpoints to keep", formerly=("keep",))
    log_every: int = option(10, "steps between lines of metrics.jsonl")
    debug: bool = option(False, "check shapes and finiteness of every part's inputs and outputs")

    def __post_init__(self):
        values, claims = vars(self), {}
        for name in ("steps", "batch", "micro_batch", "validation_batch", "validation_samples", "keep_checkpoints", "log_every"):
            claims[f"{name} must be at least 1, not {values[name]}"] = values[name] is None or values[name] >= 1
        for name in ("warmup", "weight_decay", "max_grad_norm", "validate_every", "plateau", "save_every"):
            claims[f"{name} must not be negative, not {values[name]}"] = values[name] >= 0
        claims[f"lr must be positive, not {self.lr}"] = self.lr > 0
        claims[f"betas must be in [0, 1), not {self.betas}"] = all(0 <= beta < 1 for beta in self.betas)
        for name in ("min_lr_ratio", "condition_dropout"):
            claims[f"{name} must be in [0, 1], not {values[name]}"] = 0 <= values[name] <= 1
        require(claims)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a curriculum: `set` overrides recipe keys in this stage."""

    name: str = option("???", "unique name")
    steps: int = option("???", "optimiser steps of this stage")
    set: dict[str, Any] = option({}, "dotted recipe keys under train., data. or parts.*.frozen, and their values")

    def __post_init__(self):
        require({f"steps must be at least 1, not {self.steps}": self.steps >= 1})


@former_names
@dataclass(frozen=True, kw_only=True)
class Zero:
    """DeepSpeed ZeRO: partitioning over the ranks."""

    stage: Literal[0, 1, 2, 3] = option(1, "ZeRO stage; 0 runs as 1 (DeepSpeed's stage 0 is slower and has known bugs)")
    offload_optimizer: bool = option(False, "keep optimiser state in host memory")
    offload_parameters: bool = option(False, "keep parameters in host memory (stage 3)")
    reduce_bucket_size: int = option(50_000_000, "elements per communication bucket", formerly=("bucket",))
    persistence_threshold: int = option(100_000, "stage 3: parameters with fewer elements are not partitioned")

    def __post_init__(self):
        require({
            f"reduce_bucket_size must be at least 1, not {self.reduce_bucket_size}": self.reduce_bucket_size >= 1,
            f"offload_parameters needs stage 3, not {self.stage}": self.stage == 3 or not self.offload_parameters,
        })


SECTIONS = {"train": Train, "zero": Zero}
RENAMED = {f"{section}.{old}": f"{section}.{f.name}" for section, cls in SECTIONS.items() for f in fields(cls) for old in f.metadata.get("formerly", ())}
"""Old dotted key -> current one, for `train` and `zero`."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Restrictions on the parts of a recipe."""

    licenses: list[str] = option([], "allowed licences, lower case; empty allows all")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The top level of a recipe."""

    schema: int = option("???", "version of this format: 1")
    description: str = option("", "the model in one sentence")
    seed: int = option(0, "random seed")
    parts: Parts = field(default_factory=Parts)
    data: Optional[PartRef] = None
    train: Train = field(default_factory=Train)
    stages: list[Stage] = option([], "a curriculum; replaces train.steps")
    zero: Zero = field(default_factory=Zero)
    policy: Policy = field(default_factory=Policy)
