"""Put a trained run into the registry: draw its sample sheet, complete its card, push it.

    .venv/bin/python scripts/ship.py runs/tae-emoji registry/tae-emoji@v2 --command "mgzoo train tiny/tae_emoji --out runs/tae-emoji" \\
        --evaluation benchmarks/results/card-tae-emoji.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
from PIL import Image

import mgzoo
from mgzoo.discovery import discover
from mgzoo.hub import manifest as manifests
from mgzoo.media import contact_sheet
from mgzoo.model import to_frames, to_pixels

PROMPTS = ("man dancing: light skin tone", "man cook: dark skin tone", "alien", "crying face", "birthday cake", "octopus")
DATA_NOTE = """\
Trained on `data/emoji64`: 1,857 of 2,109 animated emoji (16 frames of 64x64 over the whole animation); 60 concepts and 88 combinations of
skin tone and person are held out by committed lists. Pictures: Microsoft Fluent Emoji, MIT, animated as LobeHub publishes them. Captions:
OpenMoji, CC BY-SA 4.0."""


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {os.cpu_count()} cores"


def minutes(metrics: Path) -> float:
    """Time in steps: each logged line holds the mean seconds of the steps since the one before."""
    total, before = 0.0, 0
    for line in map(json.loads, metrics.read_text().splitlines()):
        if "seconds" in line:
            total, before = total + line["seconds"] * (line["step"] - before), line["step"]
    return total / 60


def sample(model, path: Path) -> None:
    """Prompts and what came of them; for an autoencoder held-out clips above their reconstructions."""
    rows = []
    if model.backbone is not None:
        rows = [(clip.caption, clip.video) for clip in model.generate(list(PROMPTS), seed=0)]
    else:
        data = model.recipe.data
        clips = discover().build_class(data.component.id)(data.config).held_out()[:6]
        for clip in clips:
            video = clip.load()
            media = to_pixels(video)[None]
            with torch.inference_mode():
                output = model.autoencoder.decode(model.autoencoder.encode(media), media.shape[2:])[0]
            rows += [(clip.caption, video), ("  reconstructed", to_frames(output))]
    contact_sheet(rows, path)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)  # a third of the size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("ref")
    parser.add_argument("--command", required=True, help="the command that made the run, for the card")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="sampler settings of the shipped recipe")
    parser.add_argument("--evaluation", type=Path, help="figures for the card, as benchmarks/report.py writes them (card-NAME.json)")
    args = parser.parse_args()
    model = mgzoo.load(args.run / "artifact").eval()
    model.recipe = mgzoo.compose(args.run / "artifact" / "recipe.yaml", args.set)
    if (sampler := model.recipe.parts.get("sampler")) is not None:
        model.sampler = discover().build_class(sampler.component.id)(sampler.config)
    manifest = manifests.read(args.run / "artifact")
    figures = {"command": args.command, "machine": processor(), "minutes of training": round(minutes(args.run / "metrics.jsonl"), 1)}
    with tempfile.TemporaryDirectory() as folder:
        sheet, out = Path(folder) / "sample.png", Path(folder) / args.ref.split("@")[0].split("/")[-1]
        sample(model, sheet)
        model.save(
            out,
            dtype=torch.bfloat16,
            metrics={**manifest.metrics, **figures},
            curve=args.run / "curve.png",
            samples=sheet,
            data_note=DATA_NOTE,
            evaluation=args.evaluation,
        )
        print(mgzoo.push(out, args.ref))


if __name__ == "__main__":
    main()
