"""Number of model evaluations per clip: schedules and solvers from the same noise, against 1,000 linear Euler steps.

    python benchmarks/sampling_steps.py [MODEL] [--prompts 16]         (registry/emoji-t2v: about ten minutes on one core)

50 linear-quadratic steps against 50, 250 and 1,000 linear ones; Euler against midpoint at equal evaluations of the model. For each: the root
mean square difference of pixels (0 to 1) to the 1,000-step result from the same noise, and whether the
prompted clip is the nearest of all 2,109. Prompts: as many held-out combinations. Left out: Movie Gen's own comparison by human votes.
"""

from __future__ import annotations

import clip_judge
import common
import torch

import mgzoo

ARMS = {
    "euler, linear, 1000": ("samplers.euler.v1", 1000),
    "euler, linear, 250": ("samplers.euler.v1", 250),
    "euler, linear, 50": ("samplers.euler.v1", 50),
    "euler, linear-quadratic, 50": ("samplers.linear_quadratic.v1", 50),
    "midpoint, linear, 25 (50 evaluations)": ("samplers.midpoint.v1", 25),
    "euler, linear, 20": ("samplers.euler.v1", 20),
    "euler, linear-quadratic, 20": ("samplers.linear_quadratic.v1", 20),
    "midpoint, linear, 10 (20 evaluations)": ("samplers.midpoint.v1", 10),
    "euler, linear, 10": ("samplers.euler.v1", 10),
    "euler, linear-quadratic, 10": ("samplers.linear_quadratic.v1", 10),
    "midpoint, linear, 5 (10 evaluations)": ("samplers.midpoint.v1", 5),
}


def main() -> None:
    parser = common.arguments(__doc__, prompts=16, seed=0)
    parser.add_argument("model", nargs="?", default="registry/emoji-t2v")
    options = parser.parse_args()
    from mgzoo.discovery import discover

    model, registry = mgzoo.load(options.model), discover()
    asked = clip_judge.evenly(clip_judge.clips().split["combinations"], options.prompts)
    guidance = model.sampler.config.guidance
    found, rows = {}, []
    for name, (part, steps) in ARMS.items():
        config = registry.config_class(part)(steps=steps, guidance=guidance)
        model.sampler = registry.build_class(part)(config)
        video = clip_judge.generate(model, asked, seed=options.seed)
        found[name] = video
        distance = (video.float() - found["euler, linear, 1000"].float()).div(255).square().flatten(1).mean(1).sqrt()
        scored = clip_judge.score(video, asked)
        rows.append({"sampler": name, "evaluations": steps * (2 if "midpoint" in part else 1), "rms_to_1000": distance.mean().item(), "largest": distance.max().item(), "r1": scored["r1"], "r10": scored["r10"]})
        print(common.table(rows[-1:]), flush=True)
    print(common.table(rows))
    groups = {row["sampler"]: {"rms": row["rms_to_1000"]} for row in rows[1:]}
    common.bars(options.out, "sampling_steps", groups, unit="root mean square difference of pixels to 1,000 linear Euler steps (0 to 1)", title=f"Schedules and solvers, {options.model}, guidance {guidance:g}")
    print(common.write(options.out, "sampling_steps", {"model": options.model, "guidance": guidance, "prompts": len(asked), "rows": rows}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        main()
