"""The filters of personalization on real footage: exactly one face, and the same identity throughout.

    apt-get download opencv-doc && dpkg-deb -x opencv-doc_*.deb FOLDER             (vtest.avi, Megamind.avi)
    pip download --no-deps --no-binary :all: -d FOLDER face_recognition==1.3.0     (three photographs of one person, one of another; unpack it)
    python benchmarks/screening.py FOLDER [--film bbb.mp4] [--seconds 4]           (needs mgzoo-personalize[faces])

Every film is cut into pieces; for each the filters look at one frame a second. Printed: pieces with a face in every frame looked at, with exactly
one (the first filter), and of these the ones whose neighbouring faces are alike by Movie Gen's threshold of 0.5 and by dlib's own of 0.6
in distance (a cosine of about 0.9). What a person sees in the pieces that are kept is in screening_kept.png. Then what the two thresholds do to
photographs: cosines of the same person, of two persons, and a clip that cuts from one to the other. Left out: recall, since nobody has counted the
faces of these films.
"""

from __future__ import annotations

from pathlib import Path

import common
import torch
import torch.nn.functional as F
from PIL import Image

from mgzoo import media
from mgzoo.parts import Clip
from mgzoo_personalize import faces
from mgzoo_personalize.configs import OneIdentityConfig
from mgzoo_personalize.identity_filters import OneIdentity

FILMS = ("vtest.avi", "Megamind.avi")
THRESHOLDS = (0.5, 0.9)
SHOWN = 8


def pieces(file: Path, seconds: float) -> list[Clip]:
    """A film's pieces, each read when it is looked at."""
    about = media.probe(file)
    size, fps = round(seconds * about["fps"]), about["fps"]
    every = []
    for start in range(0, about["frames"] - size + 1, size):
        every.append(Clip(key=f"{file.stem} {start / fps:.0f} s", digest="", caption="", frames=size, height=about["height"], width=about["width"], fps=fps,
                          load=lambda start=start: media.read(file, range(start, start + size)).video))  # fmt: skip
    return every


class Once(OneIdentity):
    """The filter, with what it saw kept: number of faces of each frame looked at, and the frames."""

    def detections(self, clip: Clip):
        self.seen = super().detections(clip)
        return self.seen


def of_film(file: Path, seconds: float) -> tuple[dict, list]:
    """Counts, and (key, least cosine, frames looked at) of the pieces with one face throughout."""
    clips, found = pieces(file, seconds), {"pieces": 0, "a face in every frame": 0, "exactly one": 0, **{f"alike by {t}": 0 for t in THRESHOLDS}}
    single = []
    for clip in clips:
        look = Once(OneIdentityConfig())
        (score,) = look([clip])
        counts = [len(some) for _, some in look.seen]
        found["pieces"] += 1
        found["a face in every frame"] += min(counts) > 0
        if set(counts) == {1}:
            found["exactly one"] += 1
            single.append((clip.key, score, [picture for picture, _ in look.seen]))
            for threshold in THRESHOLDS:
                found[f"alike by {threshold}"] += score >= threshold
    return found, single


def of_photographs(folder: Path) -> dict:
    """Cosines of embeddings of the same and of another person, and the score of a clip that cuts from one to the other."""
    known = {}
    for name in ("obama", "obama2", "obama3", "biden"):
        picture = media.read(folder / f"{name}.jpg").video[0]
        (face,) = faces.detect_faces(picture)
        left, top, right, bottom = face.box
        room = (right - left) // 2
        around = picture[max(0, top - room) : bottom + room, max(0, left - room) : right + room]
        known[name] = (faces.embed_face(picture, face), media.fit(around[None], 480, 480)[0])

    def cosine(a: str, b: str) -> float:
        return float(F.cosine_similarity(known[a][0], known[b][0], dim=0))

    def clip(*names: str) -> float:
        video = torch.stack([known[name][1] for name in names])
        return OneIdentity(OneIdentityConfig())([Clip(key="", digest="", caption="", frames=len(names), height=480, width=480, fps=1.0, load=lambda: video)])[0]

    same = ("obama", "obama2"), ("obama", "obama3"), ("obama2", "obama3")
    return {"same person": [cosine(*pair) for pair in same], "two persons": [cosine(name, "biden") for name in ("obama", "obama2", "obama3")],
            "clip of one": clip("obama", "obama2", "obama3"), "clip that cuts to another": clip("obama", "obama2", "biden")}  # fmt: skip


def main() -> None:
    parser = common.arguments(__doc__, seconds=4.0)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--film", type=Path, help="another film, e.g. bbb.mp4 of moviepy's source archive")
    options = parser.parse_args()
    films = [next(options.folder.rglob(name)) for name in FILMS] + ([options.film] if options.film else [])
    rows, kept = [], []
    for film in films:
        found, single = of_film(film, options.seconds)
        rows.append({"film": film.name, **found})
        kept += single
        print(common.table(rows[-1:]), flush=True)
    photographs = of_photographs(next(options.folder.rglob("obama.jpg")).parent)
    print(photographs)
    lines = [torch.cat([media.fit(picture[None], 120, 160)[0] for picture in frames], 1) for _, _, frames in sorted(kept, key=lambda one: one[1])[:: max(1, len(kept) // SHOWN)]]
    if lines:
        width = max(line.shape[1] for line in lines)
        Image.fromarray(torch.cat([F.pad(line, (0, 0, 0, width - line.shape[1])) for line in lines]).numpy()).save(options.out / "screening_kept.png")
    groups = {row["film"]: {name: value / row["pieces"] for name, value in row.items() if name not in ("film", "pieces")} for row in rows}
    common.bars(options.out, "screening", groups, unit="share of pieces", title="What the filters keep of real footage")
    print(common.write(options.out, "screening", {"seconds": options.seconds, "rows": rows, "photographs": photographs, "kept": [[key, score] for key, score, _ in kept]}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
