"""Imports run in one direction: the contracts of pyproject.toml hold, and each of them can fail."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WAYS_UP = 11
"""Imports against the direction that are still allowed. It may only shrink."""


def lint(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"], cwd=folder, capture_output=True, text=True,
        env={"PYTHONPATH": ":".join(map(str, [folder, *sorted((folder / "plugins").glob("*"))])), "PATH": ""},
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    """The packages alone, to be changed."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in (ROOT / "mgzoo", *sorted((ROOT / "plugins").glob("*/mgzoo_*"))):
        if package.is_dir() and not package.name.endswith(".egg-info"):
            shutil.copytree(package, tmp_path / package.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__", "templates"))
    return tmp_path


def test_imports_run_in_one_direction():
    assert "0 broken" in lint(ROOT)


def test_the_ways_up_only_shrink():
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    assert len(floors["ignore_imports"]) == WAYS_UP


@pytest.mark.parametrize(
    "file, line, contract",
    [
        ("mgzoo/storage.py", "import mgzoo.recipe", "one question per floor"),
        ("mgzoo/media/frames.py", "def later():\n    from mgzoo import model", "one question per floor"),
        ("mgzoo/testing/inputs.py", "def later():\n    from mgzoo.testing import models", "the conformance kit in layers"),
        ("plugins/video/mgzoo_video/clips.py", "import mgzoo_edit", "plugins know the core and not each other"),
        ("plugins/edit/mgzoo_edit/instruct.py", "import mgzoo_emoji", "plugins know the core and not each other"),
        ("mgzoo/plan.py", "import mgzoo_video", "the core knows no plugin"),
        ("mgzoo/train/stages.py", "from mgzoo.hub import refs", "training does not know the hub"),
        ("mgzoo/lock.py", "from mgzoo.hub import endpoint", "a network hub is spoken to by the hub alone"),
        ("mgzoo/schema.py", "import torch", "declaring is free"),
    ],
)
def test_an_import_against_the_direction_is_found(copy, file, line, contract):
    path = copy / file
    path.write_text(path.read_text() + f"\n{line}\n")
    assert re.search(rf"{re.escape(contract)}\s+BROKEN", lint(copy))
