"""Prompt alignment of generated clips: retrieval among all 2,109 real clips, skin tone, gender and motion.

    python benchmarks/prompt_alignment.py [MODEL] [--prompts 400] [--guided 44]         (registry/emoji-t2v: about ten minutes on one core)

For prompts that were trained on, for combinations of skin tone and person that were never seen together, and for concepts never seen:
the share of generated clips whose prompted real clip is the nearest (R@1) or among the ten nearest (R@10) of all 2,109; the share with
the right skin tone, and the right gender, judged by the nearest among the clips that differ in nothing else; motion energy over the real
clips', and how well it follows theirs. Beside each: the real clips themselves through the autoencoder and back (what the judge gives a
perfect model), and chance. Then the same for guidance 1 to 10 on fewer prompts. benchmarks/clip_judge.py says how clips are compared.
Left out: human votes; how sharp a clip is (see reconstruction.py).
"""

from __future__ import annotations

import math

import clip_judge
import common
import torch
from torch import Tensor

import mgzoo

GUIDANCE = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
TARGETS = {"trained": {"r1": 0.90, "r10": 0.99}, "combinations": {"r1": 0.85, "r10": 0.99, "skin_tone": 0.95}}


def reconstructed(autoencoder, rows: list[int]) -> Tensor:
    """Real clips through the autoencoder and back, uint8 (B, F, Y, X, 3)."""
    made = []
    for start in range(0, len(rows), 16):
        media = clip_judge.clips().media(rows[start : start + 16])
        output = autoencoder.decode(autoencoder.encode(media), media.shape[2:])
        made.append(((output.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1))
    return torch.cat(made)


def half_width(share: float, count: int) -> float:
    """Half of a 95 % Wilson interval of a share."""
    z = 1.96
    return z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))


def main() -> None:
    parser = common.arguments(__doc__, prompts=400, guided=44, seed=0)
    parser.add_argument("model", nargs="?", default="registry/emoji-t2v")
    options = parser.parse_args()
    model, clips = mgzoo.load(options.model), clip_judge.clips()
    rows, report = [], {"model": options.model, "targets": TARGETS, "splits": {}, "guidance": {}}
    for name in ("trained", "combinations", "concepts"):
        asked = clip_judge.evenly(clips.split[name], options.prompts)
        real = clip_judge.score(reconstructed(model.autoencoder, asked), asked)
        made = clip_judge.score(clip_judge.generate(model, asked, seed=options.seed), asked)
        chance = {"r1": 1 / len(clips.captions), "r10": 10 / len(clips.captions), "skin_tone": made["skin_tone_chance"], "gender": made["gender_chance"]}
        report["splits"][name] = {"generated": made, "real_through_autoencoder": real, "chance": chance}
        for what, found in (("generated", made), ("real, re-encoded", real), ("chance", chance)):
            shown = {key: found.get(key, float("nan")) for key in ("r1", "r10", "skin_tone", "gender", "motion_ratio", "motion_correlation")}
            rows.append({"prompts": f"{name} ({len(asked)})", "clips": what, **shown, "±r1": half_width(found["r1"], len(asked)) if what == "generated" else float("nan")})
        print(common.table(rows[-3:]), flush=True)
    guided: list[dict] = []
    for name in ("trained", "combinations"):
        asked = clip_judge.evenly(clips.split[name], options.guided)
        report["guidance"][name] = {g: clip_judge.score(clip_judge.generate(model, asked, seed=options.seed, guidance=g), asked) for g in GUIDANCE}
        keys = ("r1", "r10", "skin_tone", "gender", "motion_ratio")
        guided += [{"prompts": f"{name} ({len(asked)})", "guidance": g, **{k: found[k] for k in keys}} for g, found in report["guidance"][name].items()]
        print(common.table(guided[-len(GUIDANCE) :]), flush=True)
    groups = {f"{name}, {key}": {"generated": report["splits"][name]["generated"][key], "real, re-encoded": report["splits"][name]["real_through_autoencoder"][key], "chance": report["splits"][name]["chance"][key]}
              for name in report["splits"] for key in ("r1", "r10", "skin_tone", "gender")}
    common.bars(options.out, "prompt_alignment", groups, unit="share of clips", title=f"Prompt alignment of {options.model}")
    print(common.write(options.out, "prompt_alignment", {**report, "rows": rows + guided}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        main()
