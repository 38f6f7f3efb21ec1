"""Imports run in one direction: the contracts of pyproject.toml hold, and each of them can fail."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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


def circles(folder: Path) -> list[list[str]]:
    """Groups of modules that import one another, in functions too; those that type checkers alone see left out."""
    code = """if True:
        import json, grimp, sys
        graph = grimp.build_graph(*sys.argv[1:], exclude_type_checking_imports=True, cache_dir=None)
        reached = {}
        def reach(module):
            seen, todo = set(), [module]
            while todo:
                for other in graph.find_modules_directly_imported_by(todo.pop()):
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
            return seen
        reached = {module: reach(module) for module in graph.modules}
        groups = {tuple(sorted(b for b in reached[a] if a in reached[b])) for a in graph.modules if a in reached[a]}
        print(json.dumps(sorted(groups)))"""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    path = ":".join(map(str, [folder, *sorted((folder / "plugins").glob("*"))]))
    done = subprocess.run([sys.executable, "-c", code, *packages], cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": path, "PATH": ""}, check=True)
    return json.loads(done.stdout)


def test_no_modules_import_one_another():
    assert circles(ROOT) == []


def test_modules_that_import_one_another_are_found(copy):
    path = copy / "mgzoo" / "artifact" / "strict_json.py"
    path.write_text(path.read_text() + "\ndef later():\n    from mgzoo.artifact import manifest\n")
    assert any({"mgzoo.artifact.manifest", "mgzoo.artifact.strict_json"} <= set(group) for group in circles(copy))


def test_no_import_is_excused():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert not any("ignore_imports" in one for one in contracts)


@pytest.mark.parametrize(
    "file, line, contract",
    [
        ("mgzoo/storage.py", "import mgzoo.recipe.compose", "one question per floor"),
        ("mgzoo/media/frames.py", "def later():\n    from mgzoo import model", "one question per floor"),
        ("mgzoo/testing/inputs.py", "def later():\n    from mgzoo.testing import models", "the conformance kit in layers"),
        ("plugins/video/mgzoo_video/clips.py", "import mgzoo_edit", "plugins know the core and not each other"),
        ("plugins/edit/mgzoo_edit/instruct.py", "import mgzoo_emoji", "plugins know the core and not each other"),
        ("mgzoo/plan.py", "import mgzoo_video", "the core knows no plugin"),
        ("mgzoo/train/stages.py", "from mgzoo.hub import references", "training does not know the hub"),
        ("mgzoo/recipe/lock.py", "from mgzoo.hub import huggingface", "a network hub is spoken to by the hub alone"),
        ("mgzoo/recipe/schema.py", "import torch", "declaring is free"),
    ],
)
def test_an_import_against_the_direction_is_found(copy, file, line, contract):
    path = copy / file
    path.write_text(path.read_text() + f"\n{line}\n")
    assert re.search(rf"{re.escape(contract)}\s+BROKEN", lint(copy))


def too_long(root: Path) -> list[str]:
    """Files of the core of more than 400 lines, and functions of more than 60."""
    found = []
    for path in sorted((root / "mgzoo").rglob("*.py")):
        text = path.read_text()
        found += [f"{path.relative_to(root)}: {lines} lines"] if (lines := len(text.splitlines())) > 400 else []
        functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        found += [f"{path.relative_to(root)}: {one.name}, {size} lines" for one in functions if (size := one.end_lineno - one.lineno + 1) > 60]
    return found


def test_no_file_and_no_function_of_the_core_is_too_long_to_read():
    assert too_long(ROOT) == []


def test_a_function_that_is_too_long_is_found(copy):
    path = copy / "mgzoo" / "errors.py"
    path.write_text(path.read_text() + "\ndef long():\n" + "    pass\n" * 61)
    assert too_long(copy) == ["mgzoo/errors.py: long, 62 lines"]
