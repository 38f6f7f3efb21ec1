#!/usr/bin/env bash
# PyAV 18.1.0, AVI with H.264 and B-frames: frames come in the right order with times in the wrong one.
#
# Expected: the times of decoded frames rise: 0, 1, 2 ... as they do from mp4 or mkv.
# Seen: 1, 4, 3, 5, 2, 8 ... AVI keeps the places of packets in decoding order and no times of showing; FFmpeg gives each frame the place of its packet.
# The pictures are in the order in which they were written. So sorting by time, or asking for the frame nearest to a time, mixes them up.
#
# Output of 2026-11-28, Python 3.11, Linux x86-64:
#   mkv: pictures [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] at [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
#   avi: pictures [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] at [1, 4, 3, 5, 2, 8, 7, 9, 6, 11, 12, 10]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from fractions import Fraction
import av
import numpy as np


def read(path):
    with av.open(path, "w") as out:
        video = out.add_stream("libx264", rate=24, options={"crf": "1"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for i in range(12):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i * 20, np.uint8), "rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 24)
            out.mux(video.encode(picture))
        out.mux(video.encode())
    with av.open(path) as file:
        frames = list(file.decode(video=0))
        unit = frames[0].time_base * 24
        return [round(frame.pts * unit) for frame in frames], [round(frame.to_ndarray(format="rgb24").mean() / 20) for frame in frames]


seen = {name: read(f"{sys.argv[1]}/clip.{name}") for name in ("mkv", "avi")}
for name, (times, pictures) in seen.items():
    print(f"{name}: pictures {pictures} at {times}")
if seen["mkv"][0] != list(range(12)) or seen["avi"][1] != list(range(12)) or seen["avi"][0] == sorted(seen["avi"][0]):
    sys.exit("no longer so")
PY
