#!/usr/bin/env bash
# Pillow 13.0.0: a file whose `format` is MPO cannot be opened with `formats=["MPO"]`.
#
# Expected: `Image.open(path, formats=[name])` with the name that `Image.open(path).format` gave opens it. For any other name it does,
# and MPO can be saved by that name. An unknown file is to raise UnidentifiedImageError.
# Seen: KeyError: 'MPO'. The format has no reader of its own: the JPEG reader turns into it. `formats=["JPEG"]` opens the file and then says MPO.
# So a list of allowed formats must name JPEG, and comparing `.format` with that list afterwards refuses photos of many phones.
#
# Output of 2026-11-28, Python 3.11, Linux x86-64:
#   opened freely, its format is MPO
#   formats=['JPEG']: MPO
#   formats=['MPO']: KeyError('MPO')
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from PIL import Image

path = sys.argv[1] + "/photo.jpg"
Image.new("RGB", (8, 8), "red").save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
print("opened freely, its format is", Image.open(path).format)
seen = []
for formats in (["JPEG"], ["MPO"]):
    try:
        seen.append(Image.open(path, formats=formats).format)
    except Exception as error:
        seen.append(repr(error))
    print(f"formats={formats}: {seen[-1]}")
if seen != ["MPO", "KeyError('MPO')"]:
    sys.exit("no longer so")
PY
