"""The small table of each benchmark in docs/figures.md: heading, rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """title: heading of the section. columns: column of the result -> its heading here. rows: whether a row is shown."""

    title: str
    columns: Mapping[str, str]
    rows: Callable[[Row], bool] = lambda row: True


def among(column: str, *values: Any) -> Callable[[Row], bool]:
    return lambda row: row.get(column) in values


QUALITY = {
    "reconstruction": Summary(
        title="Video autoencoder: reconstruction of held-out clips",
        columns={"what": "clips and codec", "psnr": "PSNR, dB", "ssim": "SSIM", "motion ratio": "motion energy / real"},
        rows=among("what", "emoji video: PCA", "emoji video: registry/tae-emoji", "emoji picture: PCA", "emoji picture: registry/tae-emoji",
                   "film video 64x64: PCA", "film video 64x64: tiny/tae_film"),
    ),
    "prompt_alignment": Summary(
        title="Text to video: prompt alignment",
        columns={"prompts": "prompts (number)", "clips": "clips", "r1": "R@1", "r10": "R@10", "skin tone": "skin tone", "gender": "gender"},
        rows=among("clips", "generated", "real, re-encoded", "chance"),
    ),
    "sampling_steps": Summary(
        title="Sampling: number of evaluations",
        columns={"sampler": "sampler", "evaluations": "evaluations", "rms to 1000": "RMS to 1,000 Euler steps (pixels, 0 to 1)"},
        rows=lambda row: row["evaluations"] in (10, 20, 50),
    ),
    "ablations": Summary(
        title="Ablations: equal budgets, three seeds (mean ± 95 % interval)",
        columns={"arm": "arm", "loss": "held-out loss", "trained.r10": "R@10, trained prompts", "combinations.r10": "R@10, unseen combinations"},
    ),
    "edit": Summary(
        title="Editing: held-out edits",
        columns={"clips shown": "clips", "split": "held out", "right": "right edits", "outside": "error outside the edit / autoencoder's", "motion": "motion energy / target's"},
        rows=lambda row: row["task"] == "all" and (row["clips shown"] in ("registry/edit", "the target, re-encoded") or row["clips shown"].startswith("SDEdit")),
    ),
    "personalize": Summary(
        title="Personalization: held-out people",
        columns={"set": "set (people)", "clips": "clips", "tone": "skin tone", "gender": "gender", "nearest": "real clip is nearest", "pasted": "copied"},
        rows=among("clips", "reference", "another's reference", "no reference"),
    ),
    "screening": Summary(
        title="Personalization: filters on real footage",
        columns={"film": "film", "pieces": "clips", "a face in every frame": "a face in every frame", "exactly one": "exactly one face"},
    ),
    "codec": Summary(
        title="Sound autoencoder: held-out sounds",
        columns={"codec": "codec", "kb/s": "kb/s", "note SI-SDR": "notes, SI-SDR dB", "note distance": "notes, spectral distance dB",
                 "film SI-SDR": "film, SI-SDR dB", "film distance": "film, spectral distance dB"},
        rows=among("codec", "model, 3200 numbers/s", "MDCT, the lowest coefficients", "Opus at 6 kb/s", "Opus at 24 kb/s"),
    ),
    "audio": Summary(
        title="Sound generation: held-out notes",
        columns={"sounds": "sounds", "instrument": "right instrument", "within 50 cents": "pitch within 50 cents", "cents": "median pitch error, cents"},
        rows=lambda row: row["of"] == "notes" and row["sounds"] in ("through the codec", "generated", "best of 8"),
    ),
}

SPEED = {
    "startup": Summary(
        title="Command line: start-up time",
        columns={"command": "command", "wall s": "median, s", "x interpreter": "× bare interpreter", "target": "target"},
        rows=among("command", "mgzoo --help", "mgzoo list", "mgzoo check", "mgzoo plan", "llm --help", "hf --help", "diffusers-cli --help"),
    ),
    "precision": Summary(
        title="Automatic precision on an AVX2-only CPU against bfloat16",
        columns={"case": "case", "ours s": "automatic, s", "bf16 s": "bfloat16, s", "x": "× faster"},
    ),
    "backbone": Summary(
        title="Transformer block against diffusers' (bfloat16, forward and backward)",
        columns={"block": "block", "median ms": "median, ms", "of peak": "of a matrix product's rate", "llama3 is x faster": "llama3 is × faster"},
        rows=lambda row: row["dtype"] == "bfloat16" and "median ms" in row,
    ),
    "packing": Summary(
        title="Packed against padded batches (bfloat16, forward and backward)",
        columns={"way": "batch", "median s": "median, s", "FLOPs x packed": "FLOPs / packed", "packed is x faster": "packed is × faster"},
        rows=lambda row: row["dtype"] == "bfloat16" and row["pass"] == "forward and backward",
    ),
    "decode": Summary(
        title="Video decoding against diffusers' autoencoders (bfloat16)",
        columns={"decoder": "decoder", "median s": "median, s", "extra MB": "memory, MB", "kFLOP a pixel": "kFLOP per pixel", "ours 8x8x8 is x faster": "ours 8x8x8 is × faster"},
        rows=lambda row: row["dtype"] == "bfloat16" and "channels_last" not in row["decoder"],
    ),
    "training": Summary(
        title="Training loop against plain PyTorch; latent cache",
        columns={"what": "part", "loop": "loop", "s/step": "s per step", "vs": "ratio to", "wall ratio": "wall time (least-most)"},
    ),
    "zero": Summary(
        title="ZeRO against DDP, two ranks on a CPU",
        columns={"precision": "precision", "case": "case", "s/step": "s per step", "x DDP": "/ DDP (least-most)", "goal": "goal"},
    ),
    "memory": Summary(
        title="Memory per rank against `mgzoo plan`, two ranks on a CPU",
        columns={"ZeRO": "ZeRO stage", "device MiB": "planned, MiB", "in use": "in use, MiB", "measured, steps": "resident, MiB", "in use / plan": "in use / plan", "steps / plan": "resident / plan"},
    ),
    "data": Summary(
        title="Reading speed of clips",
        columns={"source": "source", "reader": "reader", "clips/s": "clips per s", "wall / mgzoo": "time / mgzoo (least-most)"},
        rows=among("source", "mp4 256x144", "webp 64x64 in tar"),
    ),
    "sampler_overhead": Summary(
        title="Sampler overhead per step",
        columns={"latents": "latents", "sampler": "sampler", "ms/step": "ms per step (least-most)"},
        rows=among("sampler", "euler", "euler, through the model", "diffusers FlowMatchEuler"),
    ),
    "hub": Summary(
        title="Loading, pushing and pulling a 2 GB artifact",
        columns={"case": "case", "seconds": "median, s", "peak / size": "peak memory / size"},
        rows=lambda row: "bytes" not in row["case"],
    ),
    "mfu": Summary(title="Utilisation of a GPU", columns={}),
}
