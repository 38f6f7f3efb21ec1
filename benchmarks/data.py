"""Clips per second from files, from shards and from the cache, against plain loops over the same bytes.

    python benchmarks/data.py [--runs 5] [--clips 24]

Ours is the stream that training reads, `video.clips.v1` with nothing kept in memory: order, digests and decoding. The files are made here:
moving synthetic pictures of 256x144, 16 frames, H.264 (crf 18), one .mp4 each; the same at 512x288, to be scaled to 256x144; the 64x64 clips of
data/emoji64 in their tar shard; and those as moving WebP in a shard. Peers, given the paths or a list of the bytes: the loop that PyAV's
pages show (`frame.to_ndarray(format="rgb24")`), the same tuned (one decoding thread, one scaler for a file), decord (where it is
installed), Pillow for WebP. All end in a uint8 tensor (16, H, W, 3). The cache holds the latents of the 256x144 clips by the shipped
autoencoder; `latents, disk` opens the cache anew for every pass, as another process would. One thread; cases take turns, one pass over all
clips each; a ratio is of one round: theirs / ours.
Left out: a cold disk; the scan of the folder or shard at the start, and each clip's digest, taken once.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy
import torch
from av.video.reformatter import VideoReformatter
from common import arguments, ratios, spread, table, take_turns, write
from PIL import Image
from plain_torch import few_clips

import mgzoo
from mgzoo import media
from mgzoo.discovery import discover
from mgzoo.media import Media
from mgzoo.model.feature_cache import Cache

try:
    import decord
except ImportError:
    decord = None
    print("decord is not installed: left out (pip install decord==0.6.0)", file=sys.stderr)

FRAMES, SIZE = 16, (144, 256)


def moving(number: int, height: int, width: int) -> torch.Tensor:
    """A clip of overlaid waves that travel, with some noise: uint8 (16, height, width, 3)."""
    y, x = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 10, width), indexing="ij")
    noise = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(number)) * 24
    frames = []
    for t in range(FRAMES):
        waves = [torch.sin((1 + c) * x + number + t / 3) + torch.cos((2 + c) * y - t / 5 * (c + 1)) for c in range(3)]
        frames.append((torch.stack(waves, -1) + 2) * 56 + noise)
    return torch.stack(frames).clamp(0, 255).to(torch.uint8)


def stream(path: Path, height: int, width: int):
    """Our data part over a folder or shard."""
    registry = discover()
    config = registry.config_class("video.clips.v1")(path=str(path), height=height, width=width, keep_mb=0)
    return registry.build_class("video.clips.v1")(config)


def ours(path: Path, height: int, width: int) -> Callable[[], None]:
    clips = stream(path, height, width)
    batches = clips.batches(1)

    def one_epoch() -> None:
        for _ in range(len(clips)):
            (clip,) = next(batches)
            assert clip.load().shape == (FRAMES, height, width, 3)

    return one_epoch


def each(sources: list, decode: Callable) -> Callable[[], None]:
    """A pass of a plain loop: decode(path or file object) -> frames (16, H, W, 3)."""

    def one_pass() -> None:
        for source in sources:
            frames = decode(io.BytesIO(source) if isinstance(source, bytes) else str(source))
            assert torch.from_numpy(frames).shape[0] == FRAMES

    return one_pass


def pyav(source, size: dict) -> numpy.ndarray:
    with av.open(source) as container:
        return numpy.stack([frame.to_ndarray(format="rgb24", **size) for frame in container.decode(video=0)])


def pyav_tuned(source, size: dict) -> numpy.ndarray:
    scaler = VideoReformatter()
    with av.open(source) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = container.decode(video=0)
        return numpy.stack([scaler.reformat(frame, format="rgb24", threads=1, **size).to_ndarray() for frame in frames])


def by_decord(source, size: dict) -> numpy.ndarray:
    return decord.VideoReader(source, num_threads=1, **size).get_batch(range(FRAMES)).asnumpy()


def pillow(source, size: dict) -> numpy.ndarray:
    image = Image.open(source)
    frames = []
    for index in range(FRAMES):
        image.seek(index)
        frames.append(numpy.asarray(image.convert("RGB")))
    return numpy.stack(frames)


def files(folder: Path, count: int, height: int, width: int) -> list[Path]:
    """Clips of moving pictures as .mp4, each with its caption."""
    folder.mkdir()
    for number in range(count):
        Media(video=moving(number, height, width), fps=16).save(folder / f"{number:03d}.mp4", crf=18)
        (folder / f"{number:03d}.txt").write_text(f"waves {number}")
    return sorted(folder.glob("*.mp4"))


def contents(shard: Path, suffix: str) -> list[bytes]:
    with tarfile.open(shard) as tar:
        return [tar.extractfile(member).read() for member in tar if member.name.endswith(suffix)]


def as_webp(shard: Path, path: Path) -> Path:
    """The clips of a shard as moving WebP in another."""
    with tarfile.open(shard) as old, tarfile.open(path, "w") as new:
        for member in old:
            data = old.extractfile(member).read()
            if member.name.endswith(".mp4"):
                data = media.read_bytes(data).save(path.with_suffix(".webp")).read_bytes()
                member.name, member.size = member.name.replace(".mp4", ".webp"), len(data)
            new.addfile(member, io.BytesIO(data))
    return path


def sources(folder: Path, count: int) -> dict[str, dict[str, Callable[[], None]]]:
    """Cases by kind of source; the first of each is ours."""
    plain = {"PyAV": pyav, "PyAV tuned": pyav_tuned} | ({"decord": by_decord} if decord else {})
    shard = few_clips(folder, count)
    found = {}
    for name, size in (("mp4 256x144", SIZE), ("mp4 512x288 to 256x144", (288, 512))):
        paths = files(folder / name.replace(" ", "-"), count, *size)
        scaled = {} if size == SIZE else {"height": SIZE[0], "width": SIZE[1]}
        cases = {peer: each(paths, lambda path, decode=decode, scaled=scaled: decode(path, scaled)) for peer, decode in plain.items()}
        found[name] = {"mgzoo": ours(paths[0].parent, *SIZE), **cases}
    found["mp4 64x64 in tar"] = {"mgzoo": ours(shard, 64, 64)}
    for peer, decode in plain.items():
        found["mp4 64x64 in tar"][peer] = each(contents(shard, ".mp4"), lambda source, decode=decode: decode(source, {}))
    webp = as_webp(shard, folder / "webp.tar")
    found["webp 64x64 in tar"] = {"mgzoo": ours(webp, 64, 64), "Pillow": each(contents(webp, ".webp"), lambda source: pillow(source, {}))}
    return found


def latents(folder: Path) -> dict[str, Callable[[], None]]:
    """Reading the latents of the 256x144 clips from the cache."""
    model = mgzoo.build(mgzoo.compose("tiny/emoji_t2v"))
    data = stream(folder, *SIZE)
    model.encode_clips([clip for _ in range(len(data)) for clip in next(data.batches(1))])
    batches = data.batches(1)

    def one_epoch(fresh: bool) -> None:
        if fresh:
            model.cache = Cache(memory=0)
        for _ in range(len(data)):
            model.encode_clips(next(batches))

    held = model.cache

    def from_memory() -> None:
        model.cache = held
        one_epoch(False)

    return {"latents, disk": lambda: one_epoch(True), "latents, memory": from_memory}


def main() -> None:
    options = arguments(__doc__, runs=5, clips=24).parse_args()
    torch.set_num_threads(1)
    figures, rows = {}, []
    with tempfile.TemporaryDirectory() as name:
        os.environ["MGZOO_HOME"] = name
        folder = Path(name)
        kinds = sources(folder, options.clips)
        kinds["mp4 256x144"] |= latents(folder / "mp4-256x144")
        for kind, cases in kinds.items():
            measured = take_turns(cases, options.runs)
            figures[kind] = {}
            for case, pairs in measured.items():
                rates, cpu = [options.clips / wall for wall, _ in pairs], [one for _, one in pairs]
                wall_ratio = ratios([wall for wall, _ in measured["mgzoo"]], [wall for wall, _ in pairs])
                cpu_ratio = ratios([one for _, one in measured["mgzoo"]], cpu)
                figures[kind][case] = {"clips_per_second": spread(rates), "cpu_seconds_per_clip": spread([one / options.clips for one in cpu]),
                                       "wall_over_mgzoo": wall_ratio, "cpu_over_mgzoo": cpu_ratio}  # fmt: skip
                rows.append({"source": kind, "reader": case, "clips/s": spread(rates)["median"]} | {
                    key: f"{one['median']:.4g} ({one['min']:.4g}-{one['max']:.4g})" for key, one in (("wall / mgzoo", wall_ratio), ("cpu / mgzoo", cpu_ratio))
                })  # fmt: skip
    print(table(rows))
    versions = {"av": av.__version__, "decord": decord.__version__ if decord else None}
    print(write(options.out, "data", {"runs": options.runs, "clips": options.clips, "versions": versions, "rows": rows, "figures": figures}, ("source", "reader", "clips/s")))


if __name__ == "__main__":
    main()
