"""Model FLOP utilisation of a training step, and decoding of long, large clips, on a GPU; small sizes on a CPU only test the script.

    python benchmarks/mfu.py [--runs 5]                      on CUDA: a 1.1 B llama3 backbone at 4k, 17k and 74k tokens, decoding 256 frames of 768x768
    CUDA_VISIBLE_DEVICES= python benchmarks/mfu.py --runs 1  on a CPU: two layers of width 128, 8 frames of 64x64

One step is forward, backward and AdamW (fused on CUDA) of one sample, bfloat16, one device. MFU = 3 x forward FLOPs of the closed form (recomputation is not
counted) / time / peak; the peak is the datasheet's dense bfloat16 rate on an H100 or H200 (989 TFLOP/s), elsewhere a square matrix
product measured first. Arms: with and without activation checkpointing, with and without torch.compile of every block; a plain loop over
the same backbone in DeepSpeed's place (`ours, DeepSpeed` has our engine and optimiser), and as many of diffusers' Wan blocks of the same width and depth.
Left out: several devices, the optimiser's offload, data.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import common
import torch
from torch import nn

import mgzoo
from mgzoo.discovery import discover
from mgzoo.spec import ConditionSpec, LatentSpec

DATASHEET = {"H100": 989e12, "H200": 989e12}
LATENT = LatentSpec(space="benchmark", channels=16, stride=(8, 8, 8))
TEXT = ConditionSpec(name="text", dim=1024, kind="tokens", max_len=256)
LARGE = {"depth": 24, "width": 1536, "heads": 16, "ffn": 4096, "axes": ((16, 24, 44), (16, 48, 88), (32, 96, 96)), "clip": (256, 768, 768)}
SMALL = {"depth": 2, "width": 128, "heads": 2, "ffn": 384, "axes": ((2, 8, 8), (4, 16, 16)), "clip": (8, 64, 64)}


def clock(step: Callable[[], None], runs: int, device: torch.device) -> float:
    """Median seconds of a step after two that are not counted."""
    times = []
    for number in range(runs + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number > 1:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak(device: torch.device) -> float:
    """FLOP/s that MFU is measured against."""
    if device.type == "cuda":
        for name, rate in DATASHEET.items():
            if name in torch.cuda.get_device_name():
                return rate
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / clock(lambda: a @ b, 5, device)


def optimise(model: nn.Module, device: torch.device) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")

    def step() -> None:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def ours(sizes: dict, axes: tuple[int, ...], device: torch.device, *, checkpoint: bool, compiled: bool, engine: bool) -> tuple[Callable[[], None], float, int]:
    """(one training step, its FLOPs, parameters) of the llama3 backbone; engine: through our DeepSpeed engine, else a plain loop."""
    registry = discover()
    fields = {name: sizes[name] for name in ("depth", "width", "heads", "ffn")}
    config = registry.config_class("backbones.llama3.v1")(**fields, max_len=tuple(n // p for n, p in zip(axes, (1, 2, 2))), checkpoint=checkpoint)
    with torch.device(device):
        model = registry.build_class("backbones.llama3.v1")(config, latent=LATENT, conditions=(TEXT,)).to(torch.bfloat16)
    for name, parameter in model.named_parameters():  # zero-initialised layers would make a step too easy
        nn.init.normal_(parameter, std=0.02)
    if compiled:
        for block in model.blocks:
            block.compile()
    x, text = torch.randn(1, 16, *axes, device=device), torch.randn(1, TEXT.max_len, TEXT.dim, device=device, dtype=torch.bfloat16)
    from mgzoo.parts import Condition

    conditions = {"text": Condition(name="text", values=text, mask=torch.ones(1, TEXT.max_len, dtype=torch.bool, device=device))}
    t = torch.full((1,), 0.5, device=device)

    def loss(run: nn.Module) -> torch.Tensor:
        return (run(x, t, conditions).float() - x).square().mean()

    flops, count = 3.0 * config.flops(LATENT, axes, TEXT.max_len), sum(p.numel() for p in model.parameters())
    if engine:
        import deepspeed

        from mgzoo.recipe.schema import Train, Zero
        from mgzoo.train import distributed
        from mgzoo.train.deepspeed_config import deepspeed_config
        from mgzoo.train.distributed import silence
        from mgzoo.train.optimizer import build_optimizer

        rank_info, train, plan = distributed.init_distributed(), Train(batch=1, precision="bf16"), Zero(stage=1)
        optimiser = build_optimizer(model, train, plan, device.type)
        with silence():
            wrapped, *_ = deepspeed.initialize(model=model, optimizer=optimiser, config=deepspeed_config(train, plan, rank_info.world_size, device.type))

        def step() -> None:
            wrapped.backward(loss(wrapped))
            wrapped.step()

        return step, flops, count
    finish = optimise(model, device)

    def plain() -> None:
        loss(model).backward()
        finish()

    return plain, flops, count


def wan(sizes: dict, axes: tuple[int, ...], device: torch.device) -> tuple[Callable[[], None], float, int]:
    """The same of a stack of diffusers' Wan blocks."""
    from diffusers.models.transformers.transformer_wan import WanTransformerBlock

    d, n = sizes["width"], axes[0] * axes[1] * axes[2] // 4
    with torch.device(device):
        blocks = nn.ModuleList(WanTransformerBlock(d, 4 * d, sizes["heads"], cross_attn_norm=True) for _ in range(sizes["depth"])).to(torch.bfloat16)
        x, text, six = (torch.randn(*shape, dtype=torch.bfloat16) for shape in ((1, n, d), (1, TEXT.max_len, d), (1, 6, d)))
        rotary = tuple(torch.randn(1, n, 1, d // sizes["heads"]) for _ in range(2))
    finish = optimise(blocks, device)

    def step() -> None:
        y = x
        for block in blocks:
            y = block(y, text, six, rotary)
        y.float().square().mean().backward()
        finish()

    m = TEXT.max_len
    block = n * (4 * d * d + 8 * d * d) + 2 * n * n * d + 2 * n * d * d + 2 * m * d * d + 2 * n * m * d
    return step, 6.0 * sizes["depth"] * block, sum(p.numel() for p in blocks.parameters())


def decode(clip: tuple[int, int, int], device: torch.device) -> Callable[[], None]:
    """Decoding latents of random weights, Movie Gen's autoencoder on CUDA, the tiny one on a CPU, bfloat16, one temporal tile after the other."""
    size = "full" if device.type == "cuda" else "tiny"
    overrides = ["parts.autoencoder.config={}"] if size == "full" else []
    recipe = mgzoo.compose("tiny/tae_emoji", overrides)
    model = mgzoo.build(recipe, device=device.type, weights=False).autoencoder.to(torch.bfloat16).eval()
    latents = torch.randn(1, model.spec.channels, *model.spec.axes(*clip), device=device)

    @torch.inference_mode()
    def step() -> None:
        model.decode(latents, clip)

    return step


def main() -> None:
    options = common.arguments(__doc__, runs=5).parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes, limit = (LARGE if device.type == "cuda" else SMALL), peak(device)
    rows = []
    for axes in sizes["axes"]:
        arms = {
            "ours, plain loop": lambda: ours(sizes, axes, device, checkpoint=False, compiled=False, engine=False),
            "ours, checkpointing": lambda: ours(sizes, axes, device, checkpoint=True, compiled=False, engine=False),
            "ours, compiled": lambda: ours(sizes, axes, device, checkpoint=False, compiled=True, engine=False),
            "ours, compiled, checkpointing": lambda: ours(sizes, axes, device, checkpoint=True, compiled=True, engine=False),
            "ours, DeepSpeed": lambda: ours(sizes, axes, device, checkpoint=True, compiled=False, engine=True),
            "diffusers Wan blocks": lambda: wan(sizes, axes, device),
        }
        for name, make in arms.items():
            row = {"arm": name, "tokens": axes[0] * axes[1] * axes[2] // 4}
            try:
                step, flops, count = make()
                seconds = clock(step, options.runs, device)
                row |= {"parameters": count, "seconds": seconds, "mfu": flops / seconds / limit}
            except torch.OutOfMemoryError:
                row |= {"parameters": 0, "seconds": float("nan"), "mfu": float("nan")}
            if device.type == "cuda":
                row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
                step = None
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            rows.append(row)
            print(common.table([row]), flush=True)
    seconds = clock(decode(sizes["clip"], device), max(1, options.runs // 2), device)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    groups = {f"{row['tokens']} tokens": {r["arm"]: r["mfu"] for r in rows if r["tokens"] == row["tokens"]} for row in rows}
    common.bars(options.out, "mfu", groups, unit="model FLOP utilisation", title=f"Training step on {device.type}")
    print(common.write(options.out, "mfu", {"peak_flops": limit, "rows": rows, "decode": {"clip": sizes["clip"], "seconds": seconds, "peak_gib": memory}}))


if __name__ == "__main__":
    main()
