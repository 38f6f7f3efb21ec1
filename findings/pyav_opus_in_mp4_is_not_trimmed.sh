#!/usr/bin/env bash
# PyAV 18.1.0: one second of Opus in mp4 decodes to 648 samples more than its header says; in WebM and Ogg to exactly as many as were written.
#
# Expected: 48000 samples in are 48000 out, in each container. The mp4 knows: its stream says a duration of 48000.
# Seen: 48648 from mp4. The samples at the beginning (312 of them) are dropped in all three; the filling at the end is dropped in WebM and Ogg, not
# in mp4. And WebM, which decodes right, says in its header that it lasts 1.008 s: there the header is wrong and the decoder right.
#
# Output of 2026-11-28, Python 3.11, Linux x86-64:
#   ogg: 48000 samples decoded, header 1.0065 s = 48312 samples
#   webm: 48000 samples decoded, header 1.008 s = 48384 samples
#   mp4: 48648 samples decoded, header 1 s = 48000 samples
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
        audio = out.add_stream("libopus", rate=48000, layout="mono")
        audio.codec_context.open()
        step, kind = audio.codec_context.frame_size, audio.codec_context.format.name
        sound = (np.sin(np.arange(48000) * 0.05) * 10000).astype(np.int16)
        sound = sound if kind == "s16" else (sound / 32768).astype(np.float32)
        for start in range(0, 48000, step):
            frame = av.AudioFrame.from_ndarray(sound[None, start : start + step].copy(), kind, "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            out.mux(audio.encode(frame))
        out.mux(audio.encode())
    with av.open(path) as file:
        return sum(frame.samples for frame in file.decode(audio=0)), file.duration / av.time_base


seen = {name: read(f"{sys.argv[1]}/sound.{name}") for name in ("ogg", "webm", "mp4")}
for name, (samples, seconds) in seen.items():
    print(f"{name}: {samples} samples decoded, header {seconds:g} s = {round(seconds * 48000)} samples")
if [samples for samples, _ in seen.values()] != [48000, 48000, 48648]:
    sys.exit("no longer so")
PY
