"""Cut Big Buck Bunny (CC BY 3.0, (c) Blender Foundation) into clips for training and measuring autoencoders. Nothing of it is committed
but the list of held-out shots, data/film64_held_out.txt.

    pip download --no-deps --no-binary :all: --no-build-isolation moviepy==2.2.1
    python scripts/prepare_film.py moviepy-2.2.1.tar.gz data/film64         (a minute and a half)

A shot ends where the colour histogram jumps. From every shot come clips of 16 frames at 12 frames per second, one after the other, two of
64x64 from each place (the left and the right half of the picture, scaled to 64 lines), as lossless mp4 with a caption that names shot and time.
Held out is every fifth shot of at least one clip, by the hash of its number, with all its clips; `--list` writes that list anew.
Clips of held-out shots come at 256x144 too, in a folder of their own, for measuring whole frames.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from blake3 import blake3

from mgzoo.media import Media

ARCHIVE = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
FILM = "moviepy_10_minutes/resources/bbb.mp4"
FRAMES, FPS, JUMP = 16, 12, 0.5
LIST = Path(__file__).parents[1] / "data" / "film64_held_out.txt"


def film(archive: Path) -> bytes:
    with tarfile.open(archive) as tar, zipfile.ZipFile(io.BytesIO(tar.extractfile(ARCHIVE).read())) as inner:
        return inner.read(FILM)


def frames(data: bytes) -> Iterator[np.ndarray]:
    """Every second frame (12 per second), uint8 (144, 256, 3)."""
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for number, frame in enumerate(container.decode(video=0)):
            if number % 2 == 0:
                yield frame.reformat(width=256, height=144, format="rgb24", interpolation="AREA").to_ndarray()


def histogram(frame: np.ndarray) -> np.ndarray:
    """Of 4 x 4 x 4 colours, summing to 1."""
    bins = (frame >> 6).reshape(-1, 3) @ np.array([16, 4, 1])
    return np.bincount(bins, minlength=64) / len(bins)


def shots(data: bytes) -> Iterator[list[np.ndarray]]:
    """Runs of frames between jumps of the histogram (half its sum of absolute differences, at least 0.5 of 2)."""
    shot, last = [], None
    for frame in frames(data):
        now = histogram(frame)
        if last is not None and np.abs(now - last).sum() > JUMP:
            yield shot
            shot = []
        shot.append(frame)
        last = now
    yield shot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="moviepy-2.2.1.tar.gz")
    parser.add_argument("out", type=Path)
    parser.add_argument("--list", action="store_true", help="write the held-out list anew")
    options = parser.parse_args()
    big = options.out.with_name(options.out.name + "_frames")
    for folder in (options.out, big):
        folder.mkdir(parents=True)
    taken: dict[int, list[str]] = {}
    apart = set() if options.list else set(LIST.read_text().split())
    for number, shot in enumerate(shots(film(options.archive))):
        for part in range(len(shot) // FRAMES):
            clip = torch.from_numpy(np.stack(shot[part * FRAMES : (part + 1) * FRAMES]))
            small = torch.nn.functional.interpolate(clip.permute(0, 3, 1, 2).float(), (64, 114), mode="area").round().byte().permute(0, 2, 3, 1)
            for side, piece in (("left", small[:, :, :64]), ("right", small[:, :, -64:])):
                key = f"{number:03d}-{part:02d}-{side}"
                taken.setdefault(number, []).append(key)
                caption = f"Big Buck Bunny, shot {number}, part {part}, {side}"
                Media(video=piece.contiguous(), fps=FPS, caption=caption).save(options.out / f"{key}.mp4", crf=0)
                (options.out / f"{key}.json").write_text(json.dumps({"caption": caption, "frames": FRAMES, "height": 64, "width": 64, "fps": FPS}))
            if f"{number:03d}-{part:02d}-left" in apart:
                Media(video=clip, fps=FPS).save(big / f"{number:03d}-{part:02d}.mp4", crf=0)
    if options.list:
        order = sorted(taken, key=lambda shot: blake3(f"film {shot}".encode()).digest())
        LIST.write_text("".join(f"{key}\n" for shot in sorted(order[: len(order) // 5]) for key in taken[shot]))
    print(f"{len(taken)} shots, {sum(map(len, taken.values()))} clips of 64x64, {len(LIST.read_text().split())} of them held out")


if __name__ == "__main__":
    main()
