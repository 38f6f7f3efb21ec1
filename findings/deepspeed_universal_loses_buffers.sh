#!/usr/bin/env bash
# DeepSpeed 0.19.8: loading a universal checkpoint leaves the module's buffers as they were at construction.
#
# Expected: what a plain checkpoint restores, its universal form restores too: weights, optimizer and buffers (running means, counters, an average).
# Seen: weights are equal, the buffer is 0 instead of 6, and nothing is said. The buffer IS in the converted file: loading with `load_universal` reads
# the weights of the optimizer only and skips the module's state. Here ZeRO 1 in float32 on the CPU; bf16 is the same.
#
# Output of 2026-11-28, Python 3.11, Linux x86-64:
#   trained: seen 6; in the universal file: 6
#   loaded plain: weights equal, seen 6
#   loaded universal: weights equal, seen 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 deepspeed==0.19.8
"$folder/venv/bin/python" - "$folder" <<'PY' | grep -E '^(trained|loaded)'
import os, sys
from argparse import Namespace
os.environ.update(DS_ACCELERATOR="cpu", LOCAL_RANK="0")
import deepspeed
import torch
from deepspeed.checkpoint import ds_to_universal
from deepspeed.checkpoint.constants import UNIVERSAL_CHECKPOINT_INFO
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # of use to several processes only, and minutes to compile
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += len(x)
        return self.linear(x)

def engine(**more):
    config = {"train_micro_batch_size_per_gpu": 2, "zero_optimization": {"stage": 1}, "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
    net = Net()
    return deepspeed.initialize(model=net, optimizer=torch.optim.AdamW(net.parameters(), lr=0.1), config=config | more)[0]


trained, folder = engine(), sys.argv[1] + "/checkpoints"
for _ in range(3):
    trained.backward(trained(torch.ones(2, 4)).square().sum())
    trained.step()
trained.save_checkpoint(folder, tag="plain", client_state={UNIVERSAL_CHECKPOINT_INFO: {}})
ds_to_universal.main(Namespace(input_folder=folder + "/plain", output_folder=folder + "/universal", num_extract_workers=1, num_merge_workers=1, keep_temp_folder=False, strict=True, inject_missing_state=False))
kept = torch.load(folder + "/universal/mp_rank_00_model_states.pt", weights_only=False)["module"]["seen"]
print(f"trained: seen {trained.module.seen:g}; in the universal file: {kept:g}")
for tag, more in (("plain", {}), ("universal", {"checkpoint": {"load_universal": True}})):
    fresh = engine(**more)
    fresh.load_checkpoint(folder, tag=tag)
    same = torch.equal(fresh.module.linear.weight, trained.module.linear.weight)
    print(f"loaded {tag}: weights {'equal' if same else 'differ'}, seen {fresh.module.seen:g}")
if not (same and fresh.module.seen == 0 and kept == 6):
    sys.exit("no longer so")
PY
