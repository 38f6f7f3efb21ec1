"""What every test starts from: no network, no colours, one thread, a cache of its own."""

import os
import shutil
import tempfile

os.environ.update({"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": os.environ.get("DS_ACCELERATOR", "cpu"), "OMP_NUM_THREADS": "1"})
os.environ["MGZOO_HOME"] = tempfile.mkdtemp(prefix="mgzoo-tests-")
os.environ.pop("NO_COLOR", None)


def pytest_unconfigure():
    shutil.rmtree(os.environ["MGZOO_HOME"], ignore_errors=True)
