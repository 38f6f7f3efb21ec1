"""A hub for tests: a server process on loopback that speaks the Hugging Face protocol, and faults that a test switches on.

    with hub_server.start(folder) as hub:
        hub.faults({"on": "PUT /-/lfs/", "do": "drop"})

`python -m hub_server --root FOLDER` (from tests/) serves by hand; the routes are those that huggingface_hub 2.x and hf_xet call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

WRITER, READER = "writer-token", "reader-token"


class LoopbackHub:
    """A running server: ``url`` for HF_ENDPOINT, and what a test tells it beside the protocol."""

    def __init__(self, url: str):
        self.url = url

    def faults(self, *faults: dict) -> None:
        """Switch on these faults instead of the ones before; see `hub_server.faults`."""
        self._ask("faults", list(faults))

    def reset(self) -> None:
        """Forget repositories, large objects, faults and the log; what came through Xet stays, as its clients remember that they sent it."""
        self._ask("reset", None)

    def settings(self, **settings) -> None:
        """xet: whether the hub stores weights through Xet. part_bytes: from which size LFS uploads are multipart."""
        self._ask("settings", settings)

    def log(self) -> list[dict]:
        """Every request since the last call: method, path, status, received and sent bytes."""
        return self._ask("log", None)

    def lines(self) -> list[str]:
        """`log` as text without queries: ``GET /org/name/resolve/main/mgzoo.json 200``."""
        return [f"{one['method']} {one['path'].partition('?')[0]} {one['status']}" for one in self.log()]

    def _ask(self, what: str, content):
        request = urllib.request.Request(f"{self.url}/-/control/{what}", json.dumps(content).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def start(root: str | Path, *, xet: bool = False):
    """Run a server whose objects lie under ``root``; yields a `LoopbackHub`, and ends the process at the end."""
    command = [sys.executable, "-m", "hub_server", "--root", str(root)] + ["--xet"] * xet
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield LoopbackHub(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
