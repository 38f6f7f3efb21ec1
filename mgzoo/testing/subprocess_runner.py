"""Runs the part under test in a new process, in a working directory and a home of its own, without a network.

One process serves all parts of a test session, one after the other. It is told what to build on its standard input, and answers on its
standard output, a line of JSON each; tensors travel as safetensors files.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import traceback
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mgzoo.spec import Component
from mgzoo.testing import outputs
from mgzoo.testing.authors_line import authors_line
from mgzoo.testing.build_part import build_part, build_perturbed
from mgzoo.testing.component_under_test import Subject

NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")


@dataclass(frozen=True, kw_only=True)
class SubprocessReport:
    """What came of a part in another process.

    error: why it failed there, or "". attempts: connections it tried. files: what it left in its working directory and home.
    outputs: what it answered there; expected: what the same weights answer here.
    """

    error: str = ""
    attempts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    outputs: dict[str, Tensor] = field(default_factory=dict)
    expected: dict[str, Tensor] = field(default_factory=dict)


_reports: weakref.WeakKeyDictionary[Subject, SubprocessReport] = weakref.WeakKeyDictionary()


def run_in_subprocess(subject: Subject) -> SubprocessReport:
    """Save the part here, load it in another process and run it there; done once for a subject."""
    if subject not in _reports:
        _reports[subject] = _report(subject)
    return _reports[subject]


def _report(subject: Subject) -> SubprocessReport:
    part, expected, error = build_perturbed(subject, 1), {}, ""
    with tempfile.TemporaryDirectory(prefix="mgzoo-conformance-") as folder:
        try:
            if isinstance(part, nn.Module):
                save_file({name: value.contiguous() for name, value in part.state_dict().items()}, Path(folder) / "state.safetensors")
            expected = outputs.all_outputs(subject, part)
        except Exception as failure:  # whatever a stranger's part raises is the law's to report
            error = authors_line(subject, failure) or traceback.format_exc(limit=-3)
        said = {"component": dataclasses.asdict(subject.component), "namespace": subject.namespace, "folder": folder}
        said |= {"threads": torch.get_num_threads(), "path": _path()}
        answer = _process().ask(said)
        file = Path(folder) / "outputs.safetensors"
        return SubprocessReport(
            error=error or answer["error"], attempts=tuple(answer["attempts"]), files=tuple(answer["files"]),
            outputs=load_file(file) if file.is_file() else {}, expected={name: value.contiguous() for name, value in expected.items()},
        )  # fmt: skip


def _path() -> list[str]:
    return [os.path.abspath(path) for path in sys.path]


class Process:
    """A new Python that serves `main` below."""

    def __init__(self):
        self.root = tempfile.TemporaryDirectory(prefix="mgzoo-conformance-")
        for name in ("work", "home", "cache"):
            os.mkdir(os.path.join(self.root.name, name))
        root = Path(self.root.name)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PYTHONHASHSEED"))}
        environment |= {"HOME": str(root / "home"), "USERPROFILE": str(root / "home"), "MGZOO_HOME": str(root / "cache")}
        environment["PYTHONPATH"] = os.pathsep.join(_path())
        self.errors = open(root / "errors", "w+", encoding="utf-8", errors="replace")
        self.child = subprocess.Popen(
            [sys.executable, "-P", "-m", "mgzoo.testing.subprocess_runner"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            cwd=root / "work", env=environment,
        )  # fmt: skip

    def ask(self, said: dict) -> dict:
        try:
            self.child.stdin.write(json.dumps(said) + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        except OSError:
            line = ""
        if line:
            return json.loads(line)
        self.errors.seek(0)
        told = self.errors.read()[-2000:]
        self.close()
        return {"error": f"the process ended with exit code {self.child.returncode}\n{told}", "attempts": [], "files": []}

    def close(self) -> None:
        global _running
        _running = None
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()
        self.errors.close()
        self.root.cleanup()


_running: Process | None = None


def _process() -> Process:
    global _running
    if _running is None:
        _running = Process()
        atexit.register(lambda made=_running: made is _running and made.close())
    return _running


# ---------------------------------------------------------------------------------------------------- there


def main() -> None:
    """Answer line by line. What a part prints goes to the error stream."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    attempts: list[str] = []
    sys.addaudithook(lambda event, arguments: _refuse(event, arguments, attempts))
    for line in sys.stdin:
        attempts.clear()
        before = _files()
        error = _serve(json.loads(line))
        said = {"error": error, "attempts": list(dict.fromkeys(attempts)), "files": sorted(_files() - before)}
        answers.write(json.dumps(said) + "\n")
        answers.flush()


def _refuse(event: str, arguments: tuple, attempts: list[str]) -> None:
    if event in NETWORK:
        place = arguments[1] if event.startswith(("socket.connect", "socket.send")) else arguments[:2]
        if isinstance(place, tuple):  # a path is a socket of this machine's own
            attempts.append(f"{event.removeprefix('socket.')} {':'.join(map(str, place[:2]))}")
            raise OSError("the conformance kit lets nothing on the network")


def _serve(said: dict) -> str:
    sys.path[:] = said["path"]
    torch.set_num_threads(said["threads"])
    subject = Subject(component=Component(**said["component"]), namespace=said["namespace"])
    state, folder = {}, Path(said["folder"])
    try:
        if (folder / "state.safetensors").is_file():
            state = load_file(folder / "state.safetensors")
        part = build_part(subject, 2)
        if isinstance(part, nn.Module):
            part.load_state_dict(state, strict=True)
        save_file({name: value.contiguous() for name, value in outputs.all_outputs(subject, part).items()}, folder / "outputs.safetensors")
    except Exception as failure:  # as above
        return authors_line(subject, failure) or traceback.format_exc(limit=-3)
    return ""


def _files() -> set[str]:
    found = [(name, Path(place)) for name, place in (("the working directory", os.getcwd()), ("home", os.environ["HOME"]))]
    return {f"{path.relative_to(place)} in {name}" for name, place in found for path in place.rglob("*") if not path.is_dir()}


if __name__ == "__main__":
    main()
