#!/usr/bin/env bash
# PyAV 18.1.0 (its FFmpeg's swscale): white of 10 bits is not white once it is RGB.
#
# Expected: luma 940 of limited range and luma 1023 of full range are white: 65535 of 65535 in rgb48le, 255 of 255 in rgb24, 1.0 in gbrpf32le.
# Seen: 65283 and 65472; 253 from 940 in rgb24. The value is shifted to more bits, not scaled by its maximum. Eight bits to eight are
# right, and so is gray16le. It looks like a picture that is a little dark; compared with a PNG of the same scene it is off by up to 0.4 per cent.
#
# Output of 2026-11-28, Python 3.11, Linux x86-64:
#   luma 940 of 10 bits, limited range -> rgb48le: 65283
#   luma 1023 of 10 bits, full range -> rgb48le: 65472
#   luma 940 of 10 bits, limited range -> rgb24: 253
#   luma 940 of 10 bits, limited range -> gbrpf32le: 0.996155
#   luma 940 of 10 bits, limited range -> gray16le: 65535
#   luma 235 of 8 bits, limited range -> rgb24: 255
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import av
import numpy as np
from av.video.reformatter import Colorspace, ColorRange


def grey(luma, full, to, bits=10):
    frame = av.VideoFrame(64, 64, "yuv420p10le" if bits == 10 else "yuv420p")
    kind = "<u2" if bits == 10 else "u1"
    for plane, value in zip(frame.planes, (luma, 1 << bits - 1, 1 << bits - 1)):
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value, kind).tobytes())
    frame.color_range, frame.colorspace = ColorRange.JPEG if full else ColorRange.MPEG, Colorspace.ITU709
    return frame.reformat(format=to).to_ndarray()[32, 32].flat[0].item()


seen = {}
for bits, luma, full, to in [(10, 940, 0, "rgb48le"), (10, 1023, 1, "rgb48le"), (10, 940, 0, "rgb24"), (10, 940, 0, "gbrpf32le"), (10, 940, 0, "gray16le"), (8, 235, 0, "rgb24")]:
    seen[bits, full, to] = value = grey(luma, full, to, bits)
    print(f"luma {luma} of {bits} bits, {'full' if full else 'limited'} range -> {to}: {value:.6g}")
if [seen[10, 0, "rgb48le"], seen[10, 1, "rgb48le"], seen[10, 0, "rgb24"], seen[10, 0, "gray16le"], seen[8, 0, "rgb24"]] != [65283, 65472, 253, 65535, 255]:
    sys.exit("no longer so")
PY
