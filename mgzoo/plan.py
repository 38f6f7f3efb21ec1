"""Estimate the cost of a recipe: parameters, FLOPs, memory per rank, downloads and disk. No torch.

All figures are closed forms of the parts' configs. What a part does not declare is None, shown as "unknown".

- A training step costs three forward passes of what is trained (one forward, two backward) and one of what is frozen.
  Recomputation under activation checkpointing is not counted: these are the model's FLOPs, not the hardware's. Latents and
  conditions of frozen parts are cached, so from the second epoch on a run spends less. Under an adapter the base has no
  gradients of weights: two forward passes. An adapter's parameters are counted in the headers of its base; its FLOPs are not.
- Memory per trained parameter, bfloat16: weight 2 B, gradient 2 B, float32 master and both AdamW moments 12 B, moving
  average 4 B (it lies beside the masters). ZeRO 1 divides the last two by the ranks, 2 also the gradients, 3 also the weights.
  Optimiser offload moves masters, moments and average to the host, with float32 gradients for its optimiser (4 B);
  parameter offload (ZeRO 3) the weights too. Frozen parts are whole on every rank. Buffers are what the engine holds for a
  moment beyond that, at the larger of two moments (`_buffers`); on CUDA unless `plan` is told another device. Activations of
  anything but the backbone are left out, and what an allocator keeps of what was freed: on a CPU, where our loop lets it keep all
  (`mgzoo.train.distributed.keep_freed_memory`), the resident set is up to a third larger than these bytes in use.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mgzoo.artifact.manifest import BF16_FROM, WeightsReference, read_manifest
from mgzoo.contracts import contract_of
from mgzoo.formatting import format_bytes, format_count, format_table
from mgzoo.hub.lookup import find_local, stored_shapes
from mgzoo.precision import preferred
from mgzoo.recipe.schema import Train

MOMENTS_BYTES = 12
AVERAGE_BYTES = 4
LIVE_PARAMETERS = 1_000_000_000  # DeepSpeed's default of stage3_max_live_parameters


@dataclass(frozen=True, kw_only=True)
class PartFigures:
    """parameters: None where the part does not say. trained: in any stage."""

    name: str
    use: str
    parameters: int | None
    trained: bool


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes per rank under one ZeRO stage. optimizer: masters, moments and average; it is part of `host` when offloaded.
    offload: of the optimiser, and in stage 3 of the parameters too. buffers: of the engine, while it sums gradients or steps.

    device: all that stays on the device, activations and frozen parts included. host: what offload moves away.
    """

    zero: int
    offload: bool
    weights: float
    gradients: float
    optimizer: float
    buffers: float
    device: float
    host: float


@dataclass(frozen=True, kw_only=True)
class StageFigures:
    """One stage of the curriculum, at the largest size its data emits.

    size: media (frames, height, width). latent: latent sizes. condition_tokens: longest text, summed over the encoders.
    forward_trained, forward_frozen: FLOPs of one sample. step_flops: of one optimiser step over all ranks.
    activations, activations_checkpointed: bytes on one rank for one micro-batch of the backbone, without and with
    checkpointing; `memory` counts what the recipe asks for.
    """

    name: str
    steps: int
    batch: int
    micro: int
    sizes: int
    size: tuple[int, ...] | None
    latent: tuple[int, ...] | None
    tokens: int | None
    condition_tokens: int
    trained: tuple[str, ...]
    trained_parameters: int | None
    frozen_parameters: int | None
    forward_trained: int | None
    forward_frozen: int | None
    step_flops: int | None
    activations: int | None
    activations_checkpointed: int | None
    memory: tuple[Memory, ...]


@dataclass(frozen=True, kw_only=True)
class WeightsFigures:
    """Weights that the recipe refers to: bytes on disk, and bytes still to download (0 when here); None: not known here."""

    part: str
    ref: str
    disk: int | None
    download: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The answer of `mgzoo plan`. device: ``cuda`` or ``cpu``. precision: bf16 or fp32. checkpoint: bytes of one checkpoint; artifact: bytes of the saved trained parts."""

    recipe: str
    gpus: int
    device: str
    precision: str
    zero: int
    offload: bool
    parts: tuple[PartFigures, ...]
    stages: tuple[StageFigures, ...]
    weights: tuple[WeightsFigures, ...]
    keep: int
    checkpoint: int | None
    artifact: int | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict:
        """For ``--json``; plain numbers, bytes and FLOPs."""
        return dataclasses.asdict(self)

    def render(self) -> str:
        """Plain text for a terminal."""
        return "\n".join(_render(self)) + "\n"


def plan(recipe, gpus: int = 1, device: str = "cuda") -> Plan:
    """Estimate the cost of a composed recipe on ``gpus`` ranks. Opens local manifests only; no builds, no downloads.

    device: ``cuda`` or ``cpu``, of the ranks; on a CPU the engine sums bfloat16 gradients without float32 copies.
    """
    if gpus < 1:
        raise ValueError(f"gpus must be at least 1, got {gpus}")
    if recipe.train.precision == "auto":
        recipe = dataclasses.replace(recipe, train=_settled(recipe.train, device))
    wires = contract_of(recipe)
    counts = {name: _parameters(part, wires) for name, part in recipe.parts.items()}
    learn = {name: _adapter(part, counts[name]) if part.adapter else counts[name] for name, part in recipe.parts.items()}
    spans = [(stage.name, stage.steps, recipe.at_stage(i)) for i, stage in enumerate(recipe.stages)]
    spans = spans or [("train", recipe.train.steps, recipe)]
    stages = [_stage(name, steps, staged, counts, learn, gpus, device) for name, steps, staged in spans]
    ever = {name for stage in stages for name in stage.trained}
    trained = [stage.trained_parameters for stage in stages]
    ema = AVERAGE_BYTES if recipe.train.ema.decay else 0
    return Plan(
        recipe=recipe.source,
        gpus=gpus,
        device=device,
        precision=recipe.train.precision,
        zero=recipe.zero.stage,
        offload=recipe.zero.offload_optimizer or recipe.zero.offload_parameters,
        parts=tuple(
            row for name, part in recipe.parts.items() if counts[name] != 0 for row in _rows(name, part, counts, learn, name in ever)
        ),
        stages=tuple(stages),
        weights=tuple(figures for name, part in recipe.parts.items() if (figures := _weights_of(name, part))),
        keep=recipe.train.keep_checkpoints,
        checkpoint=None if None in trained else max(trained) * (_width(recipe.train) + MOMENTS_BYTES + ema),
        artifact=_sum(None if n is None else n * (2 if n >= BF16_FROM else 4) for name, n in learn.items() if name in ever),
        notes=_notes(stages, gpus),
    )


def memory(
    trained: int, frozen: int, ranks: int, train: Train, activations: int = 0, stages: Sequence[int] = (0, 1, 2, 3), bucket: int = 0, device: str = "cuda"
) -> tuple[Memory, ...]:
    """Bytes per rank for each ZeRO stage without offload and, from stage 1, with it.

    trained, frozen: parameters. ranks: data-parallel ranks. activations: bytes kept for the backward pass. bucket: elements
    that are summed over the ranks at once; 0 counts no buffers, as the ZeRO paper does.
    """
    width = _width(_settled(train, device))
    state = MOMENTS_BYTES + (AVERAGE_BYTES if train.ema.decay else 0)
    rows = []
    for stage in stages:
        weights = width * trained / (ranks if stage >= 3 else 1)
        gradients = width * trained / (ranks if stage >= 2 else 1)
        optimizer = state * trained / (ranks if stage >= 1 else 1)
        resident = width * frozen + activations
        summing, stepping = _buffers(stage, trained, ranks, width, min(bucket, trained), device) if bucket else (0, 0)
        row = dict(zero=stage, weights=weights, gradients=gradients, optimizer=optimizer)
        buffers = max(summing, stepping)
        rows.append(Memory(**row, offload=False, buffers=buffers, device=weights + gradients + optimizer + buffers + resident, host=0.0))
        if stage >= 1:
            moved = optimizer + 4 * trained / ranks + (weights if stage == 3 else 0)
            kept = gradients + (weights if stage < 3 else 0) + summing + resident
            row["buffers"] = summing
            rows.append(Memory(**row, offload=True, device=kept, host=moved))
    return tuple(rows)


def _buffers(stage: int, trained: int, ranks: int, width: int, bucket: int, device: str) -> tuple[float, float]:
    """Bytes beyond weights and gradients while gradients are summed, and while the optimiser steps (the gradients of other ranks
    are gone by then, and this rank's are made flat and float32). From DeepSpeed's code, compared with runs by benchmarks/memory.py.

    Summing: on CUDA the bucket in float32; from stage 2 the bucket itself, which in stage 1 takes the place of gradients; in stage 3 also
    a copy sorted by rank, and the weights that are gathered, up to `LIVE_PARAMETERS` of them.
    """
    share, one_rank = trained / (ranks if stage >= 1 else 1), ranks == 1
    travels = 4 if device == "cuda" else width
    wide = 4 * bucket if travels > width and not one_rank else 0
    flat = width * share + (4 * share if width == 2 else 0)
    if stage <= 1:
        return wide, max(0.0, width * share + flat - width * trained)
    if stage == 2:
        return width * bucket + wide, flat
    others = 0 if one_rank else travels * bucket + width * min(trained, LIVE_PARAMETERS)
    return width * bucket + wide + others, flat


def _trained(recipe, counts: Mapping[str, int | None]) -> tuple[str, ...]:
    """The convention of the tasks: they train the backbone and the encoders, or the autoencoder of a recipe without a
    backbone, and what weights they have themselves; not what is frozen."""
    roles = ("backbone", "encoders", "task") if "backbone" in recipe.parts else ("autoencoder", "task")
    candidates = [name for name, part in recipe.parts.items() if name.split(".")[0] in roles and not part.frozen]
    return tuple(name for name in candidates if counts[name] != 0)


def _notes(stages: Sequence[StageFigures], gpus: int) -> tuple[str, ...]:
    uneven = [f"{s.name} ({s.batch:,})" for s in stages if s.batch % (s.micro * gpus)]
    if not uneven:
        return ()
    return (f"train.batch must be a multiple of {gpus:,} ranks x train.micro_batch; it is not in {', '.join(uneven)}",)


def _parameters(part, wires) -> int | None:
    if part.kind == "backbone":
        return part.config.num_parameters(wires.latent, wires.conditions, wires.concat_channels)
    return part.config.num_parameters()


def _rows(name: str, part, counts, learn, trained: bool) -> tuple[PartFigures, ...]:
    whole = PartFigures(name=name, use=part.component.id, parameters=counts[name], trained=trained and not part.adapter)
    if not part.adapter:
        return (whole,)
    return (whole, PartFigures(name=name, use=f"adapter of rank {part.adapter.rank}", parameters=learn[name], trained=trained))


def _adapter(part, count: int | None) -> int | None:
    """Parameters of an adapter on a part of ``count``: rank x (inputs + outputs) of each layer, and the modules that learn whole, which
    hold all that the base lacks; None where its base is not on this machine."""
    folder = find_local(part.weights)
    if folder is None or count is None:
        return None
    shapes = stored_shapes(folder, part.name)
    whole = sum(math.prod(shape) for key, shape in shapes.items() if part.adapter.is_saved_module(key))
    new = count - sum(map(math.prod, shapes.values())) if part.adapter.modules else 0
    linear = {key.removesuffix(".weight"): shape for key, shape in shapes.items() if key.endswith(".weight") and len(shape) == 2}
    return part.adapter.rank * sum(sum(linear[path]) for path in part.adapter.match_targets(linear)) + whole + new


def _stage(name: str, steps: int, recipe, counts: Mapping[str, int | None], learn: Mapping[str, int | None], gpus: int, device: str) -> StageFigures:
    train, wires = _settled(recipe.train, device), contract_of(recipe)
    micro = train.micro_batch or max(1, train.batch // gpus)
    sizes = tuple(recipe.data.config.sizes()) if recipe.data else ()
    size = max(sizes, key=math.prod, default=None)
    trained = _trained(recipe, counts)
    frozen = [part for part in recipe.parts if part not in trained]
    condition_tokens = sum(c.max_len or 0 for c in wires.conditions if c.kind == "tokens")
    forward = {part: _forward(recipe, part, count, wires, size, condition_tokens) for part, count in counts.items() if count != 0}
    forward_trained, forward_frozen = (_sum(forward[part] for part in some if part in forward) for some in (trained, frozen))
    passes = {part: 1 if part in frozen else 2 if recipe.parts[part].adapter else 3 for part in forward}
    per_sample = _sum(None if forward[part] is None else passes[part] * forward[part] for part in forward)
    latent = tokens = full = checkpointed = held = None
    if size and wires.latent:
        latent = wires.latent.axes(*size)
        backbone = recipe.parts["backbone"].config if "backbone" in recipe.parts else None
        if backbone:
            tokens = backbone.num_tokens(latent)
            if hasattr(backbone, "activations") and "backbone" in trained:
                modes = (False, True, None)
                numbers = [backbone.activations(wires.latent, latent, condition_tokens, checkpoint=mode) for mode in modes]
                full, checkpointed, held = (micro * _width(train) * n for n in numbers)
    adapted = [part for part in trained if recipe.parts[part].adapter]
    trained_parameters, frozen_parameters = _sum(learn[part] for part in trained), _sum(counts[part] for part in (*frozen, *adapted))
    known = trained_parameters is not None and frozen_parameters is not None
    return StageFigures(
        name=name,
        steps=steps,
        batch=train.batch,
        micro=micro,
        sizes=len(sizes),
        size=size,
        latent=latent,
        tokens=tokens,
        condition_tokens=condition_tokens,
        trained=trained,
        trained_parameters=trained_parameters,
        frozen_parameters=frozen_parameters,
        forward_trained=forward_trained,
        forward_frozen=forward_frozen,
        step_flops=None if per_sample is None else per_sample * train.batch,
        activations=full,
        activations_checkpointed=checkpointed,
        memory=memory(trained_parameters, frozen_parameters, gpus, train, held or 0, bucket=recipe.zero.reduce_bucket_size, device=device) if known else (),
    )


def _forward(recipe, name: str, count: int | None, wires, size: tuple[int, ...] | None, condition_tokens: int) -> int | None:
    """FLOPs of one part's forward pass on one sample; None where it cannot be known."""
    part = recipe.parts[name]
    if part.kind == "encoder":
        # An upper estimate: every weight meets every token once.
        condition = part.config.condition_spec(name.split(".", 1)[1])
        tokens, frames = condition.max_len, getattr(recipe.data.config, "frames", None) if recipe.data else None
        if condition.kind == "frames" and frames:  # each frame of the data, in as many tokens as the encoder makes of one
            tokens = frames * (part.config.num_tokens() if hasattr(part.config, "num_tokens") else 1)
        return None if count is None or tokens is None else 2 * count * tokens
    if size is None or not hasattr(part.config, "flops"):
        return None
    if part.kind == "backbone":
        return part.config.flops(wires.latent, wires.latent.axes(*size), condition_tokens, wires.concat_channels)
    encode = part.config.flops(*size)
    # Training an autoencoder also decodes; the decoder is counted like the encoder.
    return encode if "backbone" in recipe.parts else 2 * encode


def _weights_of(name: str, part) -> WeightsFigures | None:
    """An artifact given in the recipe, or the repository that an encoder's config names as its `source`."""
    if part.weights:
        return _weights(name, part.weights)
    source = getattr(part.config, "source", "")
    return WeightsFigures(part=name, ref=source, disk=None, download=None) if "/" in source else None


def _weights(part: str, ref: str) -> WeightsFigures:
    folder = find_local(ref)
    if folder is None:
        return WeightsFigures(part=part, ref=ref, disk=None, download=None)
    content = read_manifest(folder)
    weights = content.parts[part].weights if part in content.parts else ()
    if isinstance(weights, WeightsReference):
        return dataclasses.replace(_weights(weights.part, str(weights)), part=part, ref=ref)
    return WeightsFigures(part=part, ref=ref, disk=sum(content.files[name].size for name in weights), download=0)


def _settled(train: Train, device: str) -> Train:
    """``auto`` replaced by what ranks on this device take: bf16 on CUDA, where a cluster is planned for and not looked at."""
    if train.precision != "auto":
        return train
    return dataclasses.replace(train, precision="bf16" if device == "cuda" else preferred(device))


def _width(train: Train) -> int:
    return 2 if train.precision == "bf16" else 4


def _sum(values) -> int | None:
    values = list(values)
    return None if None in values else sum(values)


# ---------------------------------------------------------------------------------------------------- text


def _render(answer: Plan) -> list[str]:
    ranks = f"{answer.gpus:,} rank" + ("s" if answer.gpus > 1 else "")
    lines = [f"{answer.recipe} on {ranks} ({'GPU' if answer.device == 'cuda' else 'CPU'}, {answer.precision})", "", "parameters"]
    rows = [(p.name, p.use, "trained" if p.trained else "frozen", format_count(p.parameters)) for p in answer.parts]
    for kind in ("trained", "frozen"):
        if some := [p.parameters for p in answer.parts if p.trained == (kind == "trained")]:
            rows.append(("total", "", kind, format_count(_sum(some))))
    lines += format_table(rows, left=3)
    lines += ["", "compute: forward pass of one sample, trained and frozen parts; training step = 3 x trained + frozen, x batch"
              + ("; 2 x trained under an adapter" if any(p.use.startswith("adapter ") for p in answer.parts) else "")]
    rows = [("stage", "steps", "batch", "size", "tokens", "trained", "frozen", "step", "stage total")]
    for s in answer.stages:
        size = "unknown" if s.size is None else "x".join(map(str, s.size)) + ("" if s.sizes == 1 else f", largest of {s.sizes}")
        total = None if s.step_flops is None else s.step_flops * s.steps
        tokens = "unknown" if s.tokens is None else f"{s.tokens:,} + {s.condition_tokens:,}"
        flops = [format_count(value, "FLOP") for value in (s.forward_trained, s.forward_frozen, s.step_flops, total)]
        rows.append((s.name, f"{s.steps:,}", f"{s.batch:,}", size, "-" if s.latent and s.tokens is None else tokens, *flops))
    lines += format_table(rows)
    largest = max(answer.stages, key=lambda s: max((m.device for m in s.memory), default=0))
    if largest.memory:
        samples = f"{largest.micro} sample" + ("s" if largest.micro > 1 else "")
        lines += ["", f"memory per rank, stage {largest.name}: {samples} per micro-batch"]
        rows = [("ZeRO", "offload", "weights", "gradients", "optimiser", "buffers", "on device", "on host")]
        for m in largest.memory:
            mark = " *" if (m.zero, m.offload) == (max(1, answer.zero), answer.offload) else ""
            cells = [format_bytes(value) for value in (m.weights, m.gradients, m.optimizer, m.buffers, m.device, m.host)]
            rows.append((f"{m.zero}{mark}", "yes" if m.offload else "no", *cells))
        lines += format_table(rows, left=2)
        m = largest.memory[0]
        resident = format_bytes(m.device - m.weights - m.gradients - m.optimizer - m.buffers)
        lines.append(f"  * as the recipe has it (0 is run as 1); on device includes {resident} of frozen parts and activations")
        if largest.activations is not None:
            some, few = format_bytes(largest.activations), format_bytes(largest.activations_checkpointed)
            lines.append(f"  activations of the backbone, estimated: {some}, or {few} with checkpointing")
    lines += ["", "disk and downloads"]
    rows = [(w.part, w.ref, format_bytes(w.disk), "here" if w.download == 0 else "not here") for w in answer.weights]
    rows.append(("checkpoint", f"each, {answer.keep} kept", format_bytes(answer.checkpoint), ""))
    rows.append(("artifact", "trained parts", format_bytes(answer.artifact), ""))
    lines += format_table(rows, left=2)
    return lines + ([""] + [f"note: {note}" for note in answer.notes] if answer.notes else [])
