"""Make data/emoji64: 2,109 captioned animated emoji, 16 frames of 64x64, as WebDataset tar shards.

    python scripts/prepare_emoji.py FOLDER [--out data/emoji64]

FOLDER holds the five npm archives named in `SOURCES`; where one is missing, the command that fetches it is printed. Needs av, numpy
and Pillow. Prints the counts and the fidelity that data/emoji64/README.md quotes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from PIL import Image

SOURCES = {
    "lobehub-fluent-emoji-anim-1-1.0.0.tgz": ("@lobehub/fluent-emoji-anim-1@1.0.0", "4c03ac178c1eabf2"),
    "lobehub-fluent-emoji-anim-2-1.0.0.tgz": ("@lobehub/fluent-emoji-anim-2@1.0.0", "e431da8172e39403"),
    "lobehub-fluent-emoji-anim-3-1.0.0.tgz": ("@lobehub/fluent-emoji-anim-3@1.0.0", "3624d0c34c819c17"),
    "lobehub-fluent-emoji-anim-4-1.0.0.tgz": ("@lobehub/fluent-emoji-anim-4@1.0.0", "3d4c08f1e321f708"),
    "openmoji-17.0.0.tgz": ("openmoji@17.0.0", "55ee7d13485dec86"),
}
FRAMES, SIZE = 16, 64
CRF = 18.9  # 18.4 would make 29.5 MB; the shards are to stay under 29
SHARDS = 4
HELD_OUT_CONCEPTS = 60
HELD_OUT_COMBINATIONS = 0.08
TONES = {1: "light", 2: "medium-light", 3: "medium", 4: "medium-dark", 5: "dark"}
WOMAN = re.compile(r"\b(woman|women|girl|princess|mother|mrs|queen|lady|grandmother)\b", re.IGNORECASE)
MAN = re.compile(r"\b(man|men|boy|prince|father|santa|king|grandfather)\b", re.IGNORECASE)


def sources(folder: Path) -> dict[str, Path]:
    """The archives, each with the digest it must have; exits with what to run where one is missing or another file."""
    wrong = []
    for name, (package, digest) in SOURCES.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{path} is missing\n    -> npm pack {package} --pack-destination {folder}")
        elif not (found := hashlib.sha256(path.read_bytes()).hexdigest()).startswith(digest):
            wrong.append(f"{path}: sha256 is {found[:16]}, expected {digest}\n    -> npm pack {package} --pack-destination {folder}")
    if wrong:
        sys.exit("\n".join(wrong))
    return {name: folder / name for name in SOURCES}


def shown(data: bytes) -> tuple[np.ndarray, int] | None:
    """Animated webp -> (uint8 (16, 64, 64, 3) on white, duration in ms); None for a still picture.

    Frame i is what is on screen at i/16 of the clip, so that a loop stays a loop.
    """
    image = Image.open(io.BytesIO(data))
    if getattr(image, "n_frames", 1) < 2:
        return None
    pictures, ends, end = [], [], 0
    for index in range(image.n_frames):
        image.seek(index)
        pictures.append(image.convert("RGBA"))
        end += image.info["duration"]
        ends.append(end)
    frames = []
    for index in np.searchsorted(ends, np.arange(FRAMES) * end / FRAMES, side="right"):
        paper = Image.new("RGBA", pictures[index].size, "white")
        paper.alpha_composite(pictures[index])
        frames.append(np.asarray(paper.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)))
    return np.stack(frames), end


def encode(video: np.ndarray, duration: int) -> bytes:
    """H.264 in mp4, 4:4:4 and full range: sub-sampled colour or limited range would cost more than the quantiser does."""
    buffer = io.BytesIO()
    full = {"src_colorspace": "ITU709", "dst_colorspace": "ITU709", "src_color_range": "JPEG", "dst_color_range": "JPEG"}
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(FRAMES * 1000, duration), options={"crf": str(CRF), "preset": "veryslow", "tune": "psnr"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv444p"
        stream.codec_context.color_range, stream.codec_context.colorspace = 2, 1
        stream.codec_context.thread_count = 1
        bare = BitStreamFilterContext("filter_units=remove_types=6", stream)  # x264 writes its options into every file: 700 bytes a clip
        for picture in [*video, None]:
            frame = None if picture is None else av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv444p", **full)
            for packet in stream.encode(frame):
                container.mux(bare.filter(packet))
        container.mux(bare.filter(None))
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def convert(data: bytes) -> tuple[bytes, int, float] | None:
    """webp -> (mp4, duration in ms, PSNR in dB of the mp4 against the 64x64 frames it was made from)."""
    if (found := shown(data)) is None:
        return None
    video, duration = found
    mp4 = encode(video, duration)
    error = np.mean((decode(mp4).astype(np.float64) - video) ** 2)
    return mp4, duration, float(10 * np.log10(255**2 / error))


def plain(hexcode: str) -> str:
    """Code points as a join key: variation selectors are written by one source and left out by the other."""
    return hexcode.lower().replace("-fe0f", "")


def concept_of(hexcode: str) -> str:
    """What is shown whoever does it: code points without skin tone and gender."""
    points = [p for p in plain(hexcode).split("-") if p not in ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff", "2640", "2642")]
    points = ["1f9d1" if p in ("1f468", "1f469") else p for p in points]
    while points and points[-1] == "200d":
        points.pop()
    return re.sub(r"(-200d)+", "-200d", "-".join(points))


def person_of(entry: dict) -> str | None:
    """man, woman, person or pair; None where nobody is shown (hands, animals, things)."""
    if not entry["subgroups"].startswith(("person", "family")) or entry["subgroups"] == "person-symbol":
        return None
    points = set(entry["hexcode"].lower().split("-"))
    woman = bool(points & {"2640", "1f469"} or WOMAN.search(entry["annotation"]))
    man = bool(points & {"2642", "1f468"} or MAN.search(entry["annotation"]))
    return "pair" if woman and man else "woman" if woman else "man" if man else "person"


def rank(text: str) -> str:
    """A fixed shuffle: order by this."""
    return hashlib.sha256(f"emoji64 {text}".encode()).hexdigest()


def held_out(rows: dict[str, dict]) -> tuple[list[str], list[str]]:
    """(keys of held-out concepts with all their variants, keys of held-out combinations of person and skin tone).

    Of the five tones of a person concept and gender at most one is held out, so all tones, all concepts and all genders are trained on.
    """
    concepts = set(sorted({row["concept"] for row in rows.values()}, key=rank)[:HELD_OUT_CONCEPTS])
    candidates = [key for key, row in rows.items() if row["skintone"] and row["person"] and row["concept"] not in concepts]
    chosen: dict[tuple, str] = {}
    for key in sorted(candidates, key=rank):
        if len(chosen) < round(HELD_OUT_COMBINATIONS * len(candidates)):
            chosen.setdefault((rows[key]["concept"], rows[key]["person"]), key)
    return sorted(key for key, row in rows.items() if row["concept"] in concepts), sorted(chosen.values())


def write_shard(path: Path, rows: dict[str, dict], media: dict[str, bytes]) -> None:
    aside = path.with_suffix(".part")
    with tarfile.open(aside, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, row in rows.items():
            for suffix, data in (("json", json.dumps(row, ensure_ascii=False, sort_keys=True).encode()), ("mp4", media[key])):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    aside.replace(path)


def write_list(path: Path, keys: list[str], rows: dict[str, dict], head: str) -> None:
    path.write_text(f"# {head}\n" + "".join(f"{key}\t{rows[key]['caption']}\n" for key in keys), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make data/emoji64 from npm archives.")
    parser.add_argument("folder", type=Path, help="where the archives lie")
    parser.add_argument("--out", type=Path, default=Path("data/emoji64"))
    arguments = parser.parse_args()
    archives = sources(arguments.folder)
    with tarfile.open(archives.pop("openmoji-17.0.0.tgz")) as tar:
        entries = {plain(entry["hexcode"]): entry for entry in json.load(tar.extractfile("package/data/openmoji.json"))}
    rows, media, quality = {}, {}, []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, archive in archives.items():
            with tarfile.open(archive) as tar:
                pictures = {Path(m.name).stem: tar.extractfile(m).read() for m in tar if m.name.endswith(".webp")}
            for key, found in zip(pictures, pool.map(convert, pictures.values(), chunksize=8), strict=True):
                if found is None:
                    continue
                media[key], duration, psnr = found
                quality.append(psnr)
                entry = entries[plain(key)]
                rows[key] = {
                    "caption": entry["annotation"], "fps": round(FRAMES * 1000 / duration, 4), "frames": FRAMES, "height": SIZE, "width": SIZE,
                    "group": entry["group"], "subgroup": entry["subgroups"], "tags": entry["tags"],
                    "skintone": TONES.get(entry["skintone"] or None), "person": person_of(entry), "concept": concept_of(key),
                    "source": name.removesuffix(".tgz").removeprefix("lobehub-"),
                }  # fmt: skip
            print(f"{name}: {len(rows)} clips so far", file=sys.stderr)
    assert len({row["caption"] for row in rows.values()}) == len(rows), "captions must tell the clips apart"
    arguments.out.mkdir(parents=True, exist_ok=True)
    order = sorted(rows, key=rank)  # mixed, so that any one shard is a fair sample
    for index in range(SHARDS):
        part = order[index * len(order) // SHARDS : (index + 1) * len(order) // SHARDS]
        write_shard(arguments.out / f"emoji64-{index:05d}.tar", {key: rows[key] for key in part}, media)
    concepts, combinations = held_out(rows)
    write_list(arguments.out / "held_out_concepts.txt", concepts, rows, "whole concepts kept out of training, with every skin tone and gender: key, caption")
    write_list(arguments.out / "held_out_combinations.txt", combinations, rows, "combinations of person and skin tone kept out of training: key, caption")
    size = sum(path.stat().st_size for path in arguments.out.glob("*.tar"))
    print(f"clips {len(rows)}, concepts {len({row['concept'] for row in rows.values()})}, with a skin tone {sum(bool(r['skintone']) for r in rows.values())}")
    print(f"held out: {HELD_OUT_CONCEPTS} concepts ({len(concepts)} clips), {len(combinations)} combinations; training {len(rows) - len(concepts) - len(combinations)} clips")
    print(f"{size / 1e6:.1f} MB, PSNR mean {np.mean(quality):.2f} dB, 5th percentile {np.percentile(quality, 5):.2f} dB, lowest {min(quality):.2f} dB")


if __name__ == "__main__":
    main()
