#!/usr/bin/env bash
# torch 2.13.0, CPU generator: seeds that differ only above bit 31 give the same numbers.
#
# Expected: `torch.manual_seed` says that it takes -2**63 to 2**64 - 1, and `initial_seed()` gives back all of it, so two seeds in that range are two
# streams. (`Generator.manual_seed` says both: the same range, and "any 32-bit integer is a valid seed". It does not say that the rest is dropped.)
# Seen: the Mersenne Twister is seeded with the low 32 bits. Whoever hashes (seed, step, rank) to 64 bits has far more collisions than it seems.
#
# Output of 2026-11-28, Python 3.11, Linux x86-64:
#   seed 7: [0.5349225401878357, 0.19880318641662598, 0.6592116951942444]
#   seed 12884901895: [0.5349225401878357, 0.19880318641662598, 0.6592116951942444]
#   seed 8: [0.5979272723197937, 0.8452961444854736, 0.9464102387428284]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import torch


def numbers(seed):
    generator = torch.Generator().manual_seed(seed)
    return generator.initial_seed(), torch.rand(3, generator=generator).tolist()


low, high, next_one = (numbers(seed) for seed in (7, 7 + 3 * 2**32, 8))
for seed, drawn in (low, high, next_one):
    print(f"seed {seed}: {drawn}")
if low[1] != high[1] or low[0] == high[0] or low[1] == next_one[1]:
    sys.exit("no longer so: the upper half of the seed counts")
PY
