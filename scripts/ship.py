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
from mgzoo import media
from mgzoo.artifact.manifest import read_manifest
from mgzoo.discovery import discover
from mgzoo.generation.request import options_of
from mgzoo.media import Media, float_to_uint8, uint8_to_float
from mgzoo.media.spectrogram import draw_spectrogram

PROMPTS = ("man dancing: light skin tone", "man cook: dark skin tone", "alien", "crying face", "birthday cake", "octopus")
REFERENCES = ("woman", "superhero", "pilot", "old_woman", "farmer")
DOING = "person juggling"
EMOJI = """\
Trained on `data/emoji64`: 1,857 of 2,109 animated emoji (16 frames of 64x64 over the whole animation); 60 concepts and 88 combinations of
skin tone and person are held out by committed lists. Pictures: Microsoft Fluent Emoji, MIT, animated as LobeHub publishes them. Captions:
OpenMoji, CC BY-SA 4.0."""
DATA_NOTES = {
    "video.clips.v1": EMOJI,
    "personalize.pairs.v1": EMOJI + """ Of these the 1,358 that show a person, with stills of the same persons as references: Twemoji (CC BY 4.0, Twitter, Inc
and other contributors) and Fluent Emoji 3D (MIT, Microsoft), made ready by `scripts/prepare_persons.py`.""",
    "edit.pairs.v1": EMOJI + """ Edits are pairs of variants of one emoji (skin tone, gender), and composites made of them as they are needed
(`plugins/edit`); 112 edits and all of 53 wordings' held-out ones are kept out by `data/edits_held_out.txt`.""",
    "audio.sounds.v1": """\
Trained on sounds that `scripts/prepare_sounds.py` makes of packages and that are not in the repository: notes of the soundfont TimGM6mb (GPL-2), the samples of
Sonic Pi (CC0), the sound track of Big Buck Bunny (CC BY 3.0, Blender Foundation), and hits of those samples at the turns of animated emoji (Fluent
Emoji, MIT). Held out: `data/sounds48_held_out.txt` and, of a sound model, `data/sounds48_held_out_combinations.txt`.""",
}


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
    """What the model makes of prompts, references or sources; of an autoencoder, held-out clips above their reconstructions."""
    asked = {ask.name for ask in options_of(model.task.config)}
    data = discover().build_class(model.recipe.data.component.id)
    if model.autoencoder.spec.layout == "sound":
        clips = data(model.recipe.data.config).held_out()
        stacked(played(model, clips, path) if model.backbone is not None else heard(model, clips, path), path)
        return
    if "reference" in asked:
        people = [(name, media.read(f"data/persons_demo/{name}.png")) for name in REFERENCES]
        rows = []
        for name, picture in people:
            shown = model.generate(DOING, reference=picture, seed=0).video
            rows.append((f"{name}, then: {DOING}", torch.cat([picture.video.expand(2, -1, -1, -1), shown[:: len(shown) // 6]])))
    elif "source" in asked:
        rows = []
        clips = [clip for clip in data(model.recipe.data.config).held_out() if clip.extra.get("source")]
        for clip in clips[:: max(1, len(clips) // 5)][:5]:
            source = Media(video=clip.extra["source"](), fps=clip.fps)
            edited = model.generate(clip.caption, source=source, edit=clip.extra["task"], seed=0)
            rows += [(f"source of: {clip.caption}", source.video), ("  edited", edited.video)]
    elif model.backbone is not None:
        rows = [(clip.caption, clip.video) for clip in model.generate(list(PROMPTS), seed=0)]
    else:
        rows = []
        for clip in data(model.recipe.data.config).held_out()[:6]:
            video = clip.load()
            pixels = uint8_to_float(video)[None]
            with torch.inference_mode():
                output = model.autoencoder.decode(model.autoencoder.encode(pixels), pixels.shape[2:])[0]
            rows += [(clip.caption, video), ("  reconstructed", float_to_uint8(output))]
    media.contact_sheet(rows, path)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)  # a third of the size


def heard(model, clips, path: Path) -> list[Image.Image]:
    """Spectrograms of held-out sounds, each above what the codec makes of it."""
    pictures = []
    for clip in clips[:: max(1, len(clips) // 3)][:3]:
        given = clip.sound().mean(0, keepdim=True)
        with torch.inference_mode():
            back = model.autoencoder.decode(model.autoencoder.encode(given[None]), (given.shape[1],))[0].float()
        pictures += [spectrogram(clip.caption, given, clip.rate, path), spectrogram("  through the codec", back, clip.rate, path)]
    return pictures


def played(model, clips, path: Path) -> list[Image.Image]:
    """Spectrograms of held-out sounds, each above what the model makes of its caption, and of its picture where it has one."""
    pictures = []
    for kind in ("note", "hit"):
        some = [clip for clip in clips if clip.extra["kind"] == kind]
        for clip in some[:: max(1, len(some) // 2)][:2]:
            video = {"video": Media(video=clip.load(), fps=clip.fps)} if clip.load else {}
            made = model.generate(clip.caption, seed=0, **video)
            pictures += [spectrogram(f"real: {clip.caption}", clip.sound(), clip.rate, path), spectrogram("  generated", made.audio, made.rate, path)]
    return pictures


def spectrogram(title: str, one: torch.Tensor, rate: int, path: Path) -> Image.Image:
    return Image.open(draw_spectrogram(one, rate, path.with_name("one.png"), title=title[:60])).copy()


def stacked(pictures: list[Image.Image], path: Path) -> None:
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (0, sum(p.height for p in pictures[:i])))
    sheet.convert("RGB").quantize(256).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("ref")
    parser.add_argument("--command", required=True, help="the command that made the run, for the card")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="sampler settings of the shipped recipe")
    parser.add_argument("--eight-bit", action="store_true", help="store matrices in eight bits: half the size")
    parser.add_argument("--evaluation", type=Path, help="figures for the card, as benchmarks/report.py writes them (card-NAME.json)")
    args = parser.parse_args()
    model = mgzoo.load(args.run / "artifact").eval()
    model.recipe = mgzoo.compose(args.run / "artifact" / "recipe.yaml", args.set)
    if (sampler := model.recipe.parts.get("sampler")) is not None:
        model.sampler = discover().build_class(sampler.component.id)(sampler.config)
    manifest = read_manifest(args.run / "artifact")
    figures = {"command": args.command, "machine": processor(), "minutes of training": round(minutes(args.run / "metrics.jsonl"), 1)}
    with tempfile.TemporaryDirectory() as folder:
        sheet, out = Path(folder) / "sample.png", Path(folder) / args.ref.split("@")[0].split("/")[-1]
        sample(model, sheet)
        model.save(
            out,
            dtype=torch.int8 if args.eight_bit else torch.bfloat16,
            metrics={**manifest.metrics, **figures},
            curve=args.run / "curve.png",
            samples=sheet,
            data_note=DATA_NOTES[model.recipe.data.component.id],
            evaluation=args.evaluation or (),
        )
        print(mgzoo.push(out, args.ref))


if __name__ == "__main__":
    main()
