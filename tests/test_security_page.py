"""docs/security.md against the tests: every one that it names exists, and what it says of the code is so."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "security.md"
READS_ARTIFACTS = [str(path.relative_to(ROOT)) for folder in ("artifact", "generation", "hub", "media", "model", "recipe", "share") for path in sorted((ROOT / "mgzoo" / folder).glob("*.py"))]  # fmt: skip
RUNS = {"eval", "exec", "compile", "__import__", "import_module", "system", "popen", "Popen", "loads_pickle", "unsafe_load", "run_path", "run_module"}
PICKLES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "subprocess", "runpy", "ctypes"}


def named(text: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", text)


def ours() -> set[str]:
    """Every test function of ours."""
    files = [*(ROOT / "tests").glob("test_*.py"), *(ROOT / "plugins").glob("*/tests/test_*.py")]
    trees = [ast.parse(path.read_text()) for path in files]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def faults(source: str) -> list[str]:
    """Whatever in a module could run or unpickle what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in PICKLES]
        if isinstance(node, ast.Call):
            called = node.func
            owner = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
            name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
            bare = not isinstance(called, ast.Attribute)
            if (name in RUNS and (bare or name not in ("eval", "compile"))) or (owner == "torch" and name == "load"):
                found.append(f"{owner}.{name}".lstrip("."))
    return found


def test_every_test_that_the_page_names_exists():
    names = named(PAGE.read_text())
    assert len(set(names)) > 30 and sorted(set(names) - ours()) == []


def test_every_row_of_the_page_names_a_test():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith(("| what could", "|---"))]
    assert len(rows) > 15 and [row for row in rows if not named(row)] == []


@pytest.mark.parametrize("path", READS_ARTIFACTS)
def test_nothing_that_reads_an_artifact_can_run_what_it_reads(path):
    assert faults((ROOT / path).read_text()) == []


@pytest.mark.parametrize("line", [
    "import pickle", "from pickle import loads", "import torch\ntorch.load('x')", "eval('1')", "import importlib\nimportlib.import_module(x)", "import os\nos.system(x)",
    "import subprocess",
])  # fmt: skip
def test_a_way_to_run_code_would_be_seen(line):
    assert faults(line)
