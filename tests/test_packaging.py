"""An installed wheel carries the recipes and the registry's JSON, and none of the models."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_wheel_carries_recipes_and_the_list_of_plugins(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("mgzoo", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "registry").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "registry/plugins.json"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    recipes = {f"mgzoo/recipes/{path.relative_to(ROOT / 'recipes').as_posix()}" for path in (ROOT / "recipes").rglob("*.yaml")}
    assert recipes and recipes <= names
    assert "mgzoo/registry/plugins.json" in names
    modules = {f"mgzoo/{path.relative_to(ROOT / 'mgzoo').as_posix()}" for path in (ROOT / "mgzoo").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}
    templates = {f"mgzoo/{path.relative_to(ROOT / 'mgzoo').as_posix()}" for path in (ROOT / "mgzoo" / "scaffold" / "templates").rglob("*.*")}
    assert {name for name in templates if "__pycache__" not in name} <= names  # what `mgzoo new` writes is no code of ours, and still there
    assert not any(name.endswith(".safetensors") for name in names)
