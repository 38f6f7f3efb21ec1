#!/usr/bin/env bash
# PyAV 18.1.0, WebM: `average_rate` of 32 frames in three seconds is 1000.
#
# Expected: an average is over the file: 32 frames in 3 s are about 10.7 a second.
# Seen: `average_rate` is 1000 and `guessed_rate` 60 for a recording of a screen: a frame a second while nothing moved, then 30 a second. Matroska names a
# default duration of a frame, here 1 ms because the writer's clock is 1 ms; FFmpeg takes it for the average. No rate of the stream is near the
# truth, its `frames` is 0 and its `duration` None: only the times of the frames tell. In mp4 the same frames have 6.5, with the delay of B-frames.
#
# Output of 2026-11-28, Python 3.11, Linux x86-64:
#   mp4: average_rate 6.52928, guessed_rate 30, frames 32, duration 47488; 32 decoded, the last at 2.97 s
#   webm: average_rate 1000, guessed_rate 60, frames 0, duration None; 32 decoded, the last at 2.97 s
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

times = [0, 1000, 2000] + [2000 + round(1000 * i / 30) for i in range(1, 30)]


def read(path, codec):
    with av.open(path, "w") as out:
        video = out.add_stream(codec, rate=1000)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for i, at in enumerate(times):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i * 7, np.uint8), "rgb24")
            picture.pts, picture.time_base = at, Fraction(1, 1000)
            out.mux(video.encode(picture))
        out.mux(video.encode())
    with av.open(path) as file:
        video = file.streams.video[0]
        shown = [float(frame.pts * frame.time_base) for frame in file.decode(video)]
        return video.average_rate, video.guessed_rate, video.frames, video.duration, len(shown), shown[-1]


for name, codec in (("mp4", "libx264"), ("webm", "libvpx")):
    average, guessed, frames, duration, count, last = read(f"{sys.argv[1]}/clip.{name}", codec)
    print(f"{name}: average_rate {float(average):g}, guessed_rate {float(guessed):g}, frames {frames}, duration {duration}; {count} decoded, the last at {last:.2f} s")
if (average, guessed, frames, duration, count) != (1000, 60, 0, None, 32):
    sys.exit("no longer so")
PY
