#!/usr/bin/env bash
# PyAV 18.1.0: in a fragmented mp4 whose picture has B-frames, the first packet of sound claims more samples than it holds.
#
# Expected: an AAC packet lasts 1024 samples, and the sound of the file is as long as it was when it was written.
# Seen, with movflags `frag_keyframe+empty_moov` (what is streamed to browsers): the header is written before anything is known, so it has no edit
# list. All streams move on by the delay of the B-frames, and as a track begins at zero, the first packet of sound is made longer: it lasts 4000
# samples at 24 frames a second (12000 at 8) and decodes to 1024. Who lays sound end to end has it 62 ms early; who fills by time finds a hole.
# Without fragments, or with `delay_moov` beside the two flags, the same streams are right.
#
# Output of 2026-11-28, Python 3.11, Linux x86-64:
#   not fragmented: first packet says 1024 samples, decodes to 1024
#   frag_keyframe+empty_moov: first packet says 4000 samples, decodes to 1024
#   frag_keyframe+empty_moov+delay_moov: first packet says 1024 samples, decodes to 1024
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

path = sys.argv[1] + "/clip.mp4"


def first_packet(flags):
    with av.open(path, "w", options={"movflags": flags} if flags else {}) as out:
        video, audio = out.add_stream("libx264", rate=24), out.add_stream("aac", rate=48000, layout="mono")
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for i in range(48):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i * 5, np.uint8), "rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 24)
            out.mux(video.encode(picture))
            sound = av.AudioFrame.from_ndarray(np.sin(np.arange(i * 2000, i * 2000 + 2000, dtype=np.float32) * 0.05)[None] * 0.3, "fltp", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 48000, i * 2000, Fraction(1, 48000)
            out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())
    with av.open(path) as file:
        for packet in file.demux(audio=0):
            if (frames := packet.decode()) and packet.pts >= 0:
                return packet.duration, frames[0].samples


seen = {flags: first_packet(flags) for flags in ("", "frag_keyframe+empty_moov", "frag_keyframe+empty_moov+delay_moov")}
for flags, (says, has) in seen.items():
    print(f"{flags or 'not fragmented'}: first packet says {says} samples, decodes to {has}")
if list(seen.values()) != [(1024, 1024), (4000, 1024), (1024, 1024)]:
    sys.exit("no longer so")
PY
