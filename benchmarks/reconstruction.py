"""Reconstruction by the temporal autoencoder: PSNR and SSIM on held-out clips, against a principal-component codec of the same rate.

    python benchmarks/reconstruction.py [--runs runs/reconstruction] [--film data/film64] [--steps 150]

1. Emoji: registry/tae-emoji on all 252 held-out clips, and on the middle frame of each as a picture, against PCA of the same 8x8x8 blocks
   (1x8x8 for pictures) with as many numbers a block as the latent has channels, fitted on the 1,857 trained clips.
2. Film (made by scripts/prepare_film.py): recipes/tiny/tae_film on held-out shots of Big Buck Bunny, 64x64 and whole 256x144 frames, the
   latter whole and in tiles, against PCA fitted on the other shots.
3. Pairs on equal steps, batch, seed and clips: the outlier penalty on and off, 2.5-D against 3-D with as many parameters.
Runs that are there already are not trained again. PSNR is of pixels in [0, 1]: the mean over clips, and pooled (of the mean error of all
clips). SSIM: Wang et al. 2004, Gaussian of 11 pixels and deviation 1.5, mean over colours and frames. Outliers: latents further from the
mean of their channel in their frame than 3 deviations, in channel norm (Movie Gen, section 3.1.1, equation 1).
Left out: perceptual distances (no package ships LPIPS weights).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import clip_judge
import common
import torch
import torch.nn.functional as F
from torch import Tensor

import mgzoo
from mgzoo import media as files

PAIRS = {
    "outlier penalty 0.5": [],
    "outlier penalty 0": ["parts.task.config.opl=0"],
    "3-D": ["parts.autoencoder.config.temporal=3d", "parts.autoencoder.config.widths=[22,44,88,88]"],
}
TILES = ((64, 32), (96, 32))


def errors(output: Tensor, media: Tensor) -> Tensor:
    """Mean squared error of each clip (B,), pixels in [0, 1]; both (B, 3, F, Y, X) in [-1, 1]."""
    return ((output.clamp(-1, 1) - media) / 2).square().flatten(1).mean(1).clamp_min(1e-10)


def ssim(output: Tensor, media: Tensor) -> Tensor:
    """Structural similarity of each clip (B,); both (B, 3, F, Y, X) in [-1, 1]."""
    a, b = (((x.clamp(-1, 1) + 1) / 2).transpose(1, 2).flatten(0, 2)[:, None] for x in (output, media))
    x = torch.arange(11.0) - 5
    line = torch.exp(-x.square() / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2)[None, None]
    mean_a, mean_b, aa, bb, ab = (F.conv2d(y, window) for y in (a, b, a * a, b * b, a * b))
    aa, bb, ab = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_a * mean_b + c1) * (2 * ab + c2) / ((mean_a**2 + mean_b**2 + c1) * (aa + bb + c2))
    return value.mean((1, 2, 3)).unflatten(0, (len(media), -1)).mean(1)


class Principal:
    """The best linear codec of blocks (time, space, space): mean and `channels` principal components."""

    def __init__(self, media: Sequence[Tensor], channels: int, time: int, space: int):
        self.block, count, total, moments = (time, space), 0, 0.0, 0.0
        for batch in media:
            x = self.blocks(batch).flatten(0, -2).double()
            count, total, moments = count + len(x), total + x.sum(0), moments + x.T @ x
        self.mean = total / count
        values, vectors = torch.linalg.eigh(moments / count - self.mean[:, None] * self.mean)
        self.basis, self.mean = vectors[:, -channels:].float(), self.mean.float()

    def blocks(self, media: Tensor) -> Tensor:
        t, s = self.block
        x = media.unflatten(4, (-1, s)).unflatten(3, (-1, s)).unflatten(2, (-1, t))
        return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)

    def __call__(self, media: Tensor) -> Tensor:
        (t, s), x = self.block, self.blocks(media)
        x = ((x - self.mean) @ self.basis) @ self.basis.T + self.mean
        x = x.unflatten(-1, (3, t, s, s)).permute(0, 4, 1, 5, 2, 6, 3, 7)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


@torch.no_grad()
def figures(codec: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> dict[str, float]:
    """PSNR, SSIM and motion of a codec over batches (B, 3, F, Y, X)."""
    error, likeness, moved, real = [], [], 0.0, 0.0
    for media in batches:
        output = codec(media).float()
        error.append(errors(output, media))
        likeness.append(ssim(output, media))
        moved, real = (total + x.clamp(-1, 1).diff(dim=2).square().sum().item() for total, x in ((moved, output), (real, media)))
    error = torch.cat(error)
    result = {"clips": len(error), "psnr": (-10 * error.log10()).mean().item(), "psnr_pooled": -10 * error.mean().log10().item(), "ssim": torch.cat(likeness).mean().item()}
    return result | ({"motion_ratio": moved / real} if real else {})


def through(autoencoder) -> Callable[[Tensor], Tensor]:
    return lambda media: autoencoder.decode(autoencoder.encode(media), media.shape[2:])


@torch.no_grad()
def outliers(autoencoder, batches: Sequence[Tensor]) -> dict[str, float]:
    """Share of latent positions beyond 3 deviations, and the largest distance in deviations."""
    far = []
    for media in batches:
        x = autoencoder.posterior(media)[0].movedim(2, 1).flatten(0, 1).flatten(2)
        mean = x.mean(-1, keepdim=True)
        far.append((x - mean).norm(dim=1) / (x - mean).square().mean(-1).sqrt().norm(dim=1, keepdim=True))
    far = torch.cat(far).flatten()
    return {"outliers": (far > 3).float().mean().item(), "furthest": far.max().item()}


def batched(media: Tensor, size: int = 28) -> list[Tensor]:
    return list(media.split(size))


def trained(recipe: str, overrides: list[str], folder: Path):
    """The autoencoder of a run, trained unless it is there."""
    if not (folder / "artifact").exists():
        mgzoo.train(mgzoo.compose(recipe, overrides), out=folder, resume=folder.exists())
    return mgzoo.load(folder / "artifact").autoencoder


def film(folder: Path, keys: Sequence[str]) -> Tensor:
    """Clips (N, 3, F, Y, X) in [-1, 1]."""
    return torch.stack([files.read(folder / f"{key}.mp4").video for key in keys]).float().div(127.5).sub(1).permute(0, 4, 1, 2, 3)


def main() -> None:
    parser = common.arguments(__doc__, steps=150)
    parser.add_argument("--runs", type=Path, default=Path("runs/reconstruction"), help="where the trainings lie")
    parser.add_argument("--film", type=Path, default=Path("data/film64"), help="what scripts/prepare_film.py made")
    options = parser.parse_args()
    rows: list[dict] = []

    def add(what: str, codec, batches, **more) -> None:
        found = {"psnr": 0.0, "psnr_pooled": 0.0, "ssim": 0.0, "motion_ratio": float("nan"), "outliers": float("nan"), "furthest": float("nan")}
        rows.append({"what": what} | found | figures(codec, batches) | more)
        print(common.table([{k: v for k, v in row.items() if k != "clips"} for row in rows[-1:]]), flush=True)

    clips = clip_judge.clips()
    held = sorted(clips.split["concepts"] + clips.split["combinations"])
    seen, unseen = [clips.media(clips.split["trained"][i : i + 32]) for i in range(0, len(clips.split["trained"]), 32)], batched(clips.media(held))
    tae = mgzoo.load("registry/tae-emoji").autoencoder
    channels, (time, space, _) = tae.spec.channels, tae.spec.stride
    add("emoji video: PCA", Principal(seen, channels, time, space), unseen)
    add("emoji video: registry/tae-emoji", through(tae), unseen, **outliers(tae, unseen))
    pictures = [batch[:, :, 8:9] for batch in unseen]
    add("emoji picture: PCA", Principal([batch[:, :, 8:9] for batch in seen], channels, 1, space), pictures)
    add("emoji picture: registry/tae-emoji", through(tae), pictures)

    for name, overrides in PAIRS.items():
        part = trained("tiny/tae_emoji", ["stages=[]", f"train.steps={options.steps}", "train.validate_every=0", *overrides], options.runs / name.replace(" ", "-"))
        add(f"emoji video, {options.steps} steps: {name}", through(part), unseen, **outliers(part, unseen))

    if options.film.is_dir():
        apart = (options.film.parent / "film64_held_out.txt").read_text().split()
        keys = sorted({path.stem for path in options.film.glob("*.mp4")} - set(apart))
        others, held_out = [film(options.film, keys[i : i + 32]) for i in range(0, len(keys), 32)], batched(film(options.film, apart))
        part = trained("tiny/tae_film", [f"data.config.path={options.film}"], options.runs / "film")
        add("film video 64x64: PCA", Principal(others, channels, time, space), held_out)
        add("film video 64x64: tiny/tae_film", through(part), held_out, **outliers(part, held_out))
        add("film video 64x64: registry/tae-emoji, which never saw film", through(tae), held_out)
        pictures = [batch[:, :, 8:9] for batch in held_out]
        add("film picture 64x64: PCA", Principal([batch[:, :, 8:9] for batch in others], channels, 1, space), pictures)
        add("film picture 64x64: tiny/tae_film", through(part), pictures)
        whole = options.film.with_name(options.film.name + "_frames")
        frames = batched(film(whole, sorted(path.stem for path in whole.glob("*.mp4"))), 1)
        add("film video 256x144, whole", through(part), frames)
        for tile, overlap in TILES:
            part.config = dataclasses.replace(part.config, tile_height=tile, tile_width=tile, tile_space_overlap=overlap)
            add(f"film video 256x144, tiles of {tile}, overlap {overlap}", through(part), frames)
    groups = {row["what"]: {"PSNR": row["psnr"]} for row in rows}
    common.bars(options.out, "reconstruction", groups, unit="PSNR in dB, mean over held-out clips", title="Reconstruction")
    print(common.write(options.out, "reconstruction", {"steps_of_pairs": options.steps, "rows": rows}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
