"""Overhead of a sampler: host time per step with an empty model.

    python benchmarks/sampler_overhead.py [--runs 7] [--steps 50]

Each sampler takes `steps` steps with guidance: two predictions a step, given without computing. The latents are float32, (1, 16, 2, 32, 32)
for 16 frames of 256 px (128 KB) and (1, 16, 16, 48, 48) for 128 frames of 384 px (2.4 MB), where what is left is passes over memory.
The peer is diffusers' FlowMatchEulerDiscreteScheduler in the loop its pipelines write (scale by the timestep, two predictions, guidance,
`scheduler.step`). `through the model` is ours with `Model.denoiser` between sampler and backbone, as generation runs it: batching
of the branches and of a condition. Milliseconds per step; cases take turns; one thread; a ratio is of one round: theirs / ours.
Left out: the model (all of a generation's time otherwise), encoding and decoding.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from common import arguments, ratios, spread, table, take_turns, write

from mgzoo.discovery import discover
from mgzoo.model.model import Model
from mgzoo.parts import Condition

GUIDANCE = 5.0
SHAPES = {"16 x 256 px": (1, 16, 2, 32, 32), "128 x 384 px": (1, 16, 16, 48, 48)}
SAMPLERS = ("euler", "midpoint", "linear_quadratic", "ddim")
TARGET_MS = 1.0


class Nothing(torch.nn.Module):
    """A backbone that gives zeros of the size it was first asked for."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.given: dict[torch.Size, torch.Tensor] = {}

    def forward(self, latents, t, conditions):
        return self.given.setdefault(latents.shape, torch.zeros_like(latents))


def ours(name: str, steps: int, shape: tuple[int, ...], through_model: bool) -> Callable[[], None]:
    registry = discover()
    config = registry.config_class(f"samplers.{name}.v1")(steps=steps, guidance=GUIDANCE)
    sampler = registry.build_class(f"samplers.{name}.v1")(config)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    still = torch.zeros(shape)
    denoise = lambda x, t, branches: [still] * len(branches)
    if through_model:
        text = Condition(name="text", values=torch.zeros(shape[0], 64, 128), mask=torch.ones(shape[0], 64, dtype=torch.bool))
        denoise = Model(recipe=None, parts={"backbone": Nothing()}, cache=None).denoiser({"text": text})
    return lambda: sampler.sample(denoise, shape, torch.Generator(), conditions=("text",), noise=noise)


def diffusers_euler(steps: int, shape: tuple[int, ...]) -> Callable[[], None]:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    still = torch.zeros((2 * shape[0], *shape[1:]))

    @torch.no_grad()
    def loop() -> None:
        scheduler.set_timesteps(steps)
        latents = noise
        for t in scheduler.timesteps:
            both = torch.cat([latents] * 2)
            t.expand(both.shape[0])
            unconditional, conditional = still.chunk(2)
            velocity = unconditional + GUIDANCE * (conditional - unconditional)
            latents = scheduler.step(velocity, t, latents, return_dict=False)[0]

    return loop


def main() -> None:
    options = arguments(__doc__, runs=7, steps=50).parse_args()
    torch.set_num_threads(1)
    figures, rows = {}, []
    for size, shape in SHAPES.items():
        cases = {name: ours(name, options.steps, shape, False) for name in SAMPLERS}
        cases |= {f"{name}, through the model": ours(name, options.steps, shape, True) for name in ("euler", "ddim")}
        try:
            cases["diffusers FlowMatchEuler"] = diffusers_euler(options.steps, shape)
        except ImportError:
            print("diffusers is not installed: left out", file=sys.stderr)
        measured = take_turns(cases, options.runs)
        first = [wall for wall, _ in measured["euler"]]
        figures[size] = {}
        for name, pairs in measured.items():
            wall, cpu = ([1000 * pair[i] / options.steps for pair in pairs] for i in (0, 1))
            over = ratios(first, [pair[0] for pair in pairs])
            figures[size][name] = {"ms_per_step": spread(wall), "cpu_ms_per_step": spread(cpu), "over_euler": over}
            shown = spread(wall)
            rows.append({
                "latents": size,
                "sampler": name,
                "ms/step": f"{shown['median']:.3f} ({shown['min']:.3f}-{shown['max']:.3f})",
                "cpu ms/step": f"{spread(cpu)['median']:.3f}",
                "vs euler": f"{over['median']:.2f} ({over['min']:.2f}-{over['max']:.2f})",
                f"< {TARGET_MS:g} ms": "" if "diffusers" in name else "met" if shown["median"] < TARGET_MS else "MISSED",
            })  # fmt: skip
    print(table(rows))
    print(write(options.out, "sampler_overhead", {"runs": options.runs, "steps": options.steps, "rows": rows, "figures": figures}, ("latents", "sampler", "cpu ms/step")))


if __name__ == "__main__":
    main()
