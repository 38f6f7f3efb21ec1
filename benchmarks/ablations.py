"""Ablations: one recipe with one part swapped, on equal budgets and several seeds.

    python benchmarks/ablations.py [--seeds 3] [--prompts 88] [--runs runs/ablations]      about four minutes an arm and seed on one core

Arms: recipes/ablations/base (LLaMa3-style, flow matching, text-to-image warm-up) and the base with one thing changed: the DiT backbone,
v-prediction diffusion, no warm-up. Every arm has the same steps, batch, learning rate, clips, noise seeds and (to 0.3 %) parameters.
Printed: flow-matching loss on all 252 held-out clips (not comparable across objectives, so left out for diffusion), and what
benchmarks/clip_judge.py scores on trained prompts and on held-out combinations; mean over seeds with a 95 % interval (Student's t),
and the difference to the base, paired by seed. Runs that are there already are not trained again.
Left out: human votes, by which the paper compares; a tuning of the learning rate for each arm.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import clip_judge
import common
import torch

import mgzoo

ARMS = {"base": "ablations/base", "dit": "ablations/emoji_dit", "v_diffusion": "ablations/emoji_v_diffusion", "joint": "ablations/emoji_joint"}
PAPER = {
    "dit": "LLaMa3-style against DiT: quality +18.6, alignment +12.6 (net wins)",
    "v_diffusion": "flow matching against diffusion: quality +16.5, alignment +7.1 (net wins)",
    "joint": "warm-up on images beats joint training from scratch",
}
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 95 %, two-sided, of n - 1 degrees of freedom


def measure(arm: str, seed: int, folder: Path, count: int) -> dict[str, float]:
    """Train one arm with one seed, unless it is there, and score it."""
    scores = folder / "scores.json"
    if scores.exists():
        return json.loads(scores.read_text())
    if (folder / "artifact").exists():
        run_artifact = folder / "artifact"
    else:
        run_artifact = mgzoo.train(mgzoo.compose(ARMS[arm], [f"seed={seed}"]), out=folder, resume=folder.exists()).artifact
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result = {"loss": [line["validation"]["loss"] for line in lines if "validation" in line][-1]}
    model = mgzoo.load(run_artifact)
    for split in ("trained", "combinations"):
        rows = clip_judge.evenly(clip_judge.clips().split[split], count)
        found = clip_judge.score(clip_judge.generate(model, rows), rows)
        result |= {f"{split}.{key}": found[key] for key in ("r1", "r10", "skin_tone", "gender", "motion_ratio")}
    scores.write_text(json.dumps(result, indent=2))
    return result


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half a 95 % interval."""
    half = STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return statistics.mean(values), half


def main() -> None:
    parser = common.arguments(__doc__, seeds=3, prompts=88)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="where the trainings lie")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm in ARMS:
            found[arm].append(measure(arm, seed, options.runs / f"{arm}-{seed}", options.prompts))
    rows, report = [], {"seeds": options.seeds, "prompts": options.prompts, "paper": PAPER, "arms": {}}
    for arm, results in found.items():
        keys = [key for key in results[0] if key != "loss" or arm != "v_diffusion"]
        report["arms"][arm] = {key: {"each": [r[key] for r in results], **dict(zip(("mean", "half"), interval([r[key] for r in results])))} for key in keys}
        if arm != "base":
            paired = {key: interval([r[key] - b[key] for r, b in zip(results, found["base"], strict=True)]) for key in keys}
            report["arms"][arm]["against_base"] = {key: {"mean": mean, "half": half} for key, (mean, half) in paired.items()}
        shown = ("loss", "trained.r1", "trained.r10", "combinations.r1", "combinations.r10", "combinations.skin_tone")
        texts = {key: "{:.3f} ± {:.3f}".format(*interval([r[key] for r in results])) if key in keys else "–" for key in shown}
        rows.append({"arm": arm, **texts})
    print(common.table(rows))
    groups = {key: {arm: statistics.mean(r[key] for r in results) for arm, results in found.items()} for key in ("trained.r10", "combinations.r1", "combinations.r10", "combinations.skin_tone")}
    common.bars(options.out, "ablations", groups, unit="share of clips, mean over seeds", title="Arms on equal budgets")
    print(common.write(options.out, "ablations", {**report, "rows": rows}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
