"""What every core test starts from: no network, no colours, one thread."""

import os

os.environ.update({"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": os.environ.get("DS_ACCELERATOR", "cpu"), "OMP_NUM_THREADS": "1"})
os.environ.pop("NO_COLOR", None)
