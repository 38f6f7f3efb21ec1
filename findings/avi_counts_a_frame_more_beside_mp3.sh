#!/usr/bin/env bash
# PyAV 18.1.0, AVI: beside compressed sound, 32 frames become 33 in the header, and the second is a frame late.
#
# Expected: 32 mpeg4 frames at 24 a second are 32 frames at times 0, 1, 2 ... 31, whatever sound is beside them.
# Seen: alone, or beside PCM, they are. Beside MP3 (or AAC) the header says 33 and the times are 0, 2, 3 ... 32. The encoder's delay makes the first
# packet of sound begin before zero; the muxer moves all streams on by that, and AVI, which has no times but places, fills the gap with an empty frame.
#
# Output of 2026-11-28, Python 3.11, Linux x86-64:
#   sound: None: header 32 frames, 32 decoded, at [0, 1, 2, 3] ... 31
#   sound: pcm_s16le: header 32 frames, 32 decoded, at [0, 1, 2, 3] ... 31
#   sound: libmp3lame: header 33 frames, 32 decoded, at [0, 2, 3, 4] ... 32
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

path = sys.argv[1] + "/clip.avi"


def written(codec):
    with av.open(path, "w") as out:
        video, audio = out.add_stream("mpeg4", rate=24), out.add_stream(codec, rate=48000, layout="mono") if codec else None
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for i in range(32):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i * 7, np.uint8), "rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 24)
            out.mux(video.encode(picture))
            if audio:
                kind = "s16" if codec == "pcm_s16le" else "fltp"
                sound = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.int16 if kind == "s16" else np.float32), kind, "mono")
                sound.sample_rate, sound.pts, sound.time_base = 48000, i * 2000, Fraction(1, 48000)
                out.mux(audio.encode(sound))
        out.mux(video.encode())
        if audio:
            out.mux(audio.encode())
    with av.open(path) as file:
        return file.streams.video[0].frames, [frame.pts for frame in file.decode(video=0)]


seen = {codec: written(codec) for codec in (None, "pcm_s16le", "libmp3lame")}
for codec, (count, times) in seen.items():
    print(f"sound: {codec}: header {count} frames, {len(times)} decoded, at {times[:4]} ... {times[-1]}")
whole, late = (32, list(range(32))), (33, [0, *range(2, 33)])
if list(seen.values()) != [whole, whole, late]:
    sys.exit("no longer so")
PY
