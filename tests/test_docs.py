"""The documentation against the code: what it tells a reader to type or write has to work."""

import ast
import math
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mgzoo.cli.verbs import VERBS, Usage, parser
from mgzoo.discovery import discover
from mgzoo.recipe import compose, recipe_names

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TAKES_RECIPE = ("check", "explain", "plan", "lock", "cp", "train")


def blocks(language: str, pages=PAGES) -> list[tuple[str, str]]:
    """(page, text) of every fenced block in a language."""
    return [(page.name, text) for page in pages for found, text in FENCE.findall(page.read_text()) if found == language]


def commands(text: str) -> list[list[str]]:
    """The words after `mgzoo` of every line that calls it, directly or through a launcher."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[line.index("mgzoo") + 1 :] for line in words if "mgzoo" in line]


def fault(words: list[str]) -> str | None:
    """Why a command line of the documentation would not work, or None."""
    if not words or words[0] not in VERBS:
        return None if words in (["--help"], ["--version"]) else f"no verb {words[:1]}"
    try:
        arguments = parser(words[0]).parse_intermixed_args(words[1:])
    except Usage as error:
        return error.text
    named = getattr(arguments, "recipe", None) or getattr(arguments, "name", None)
    if words[0] in TAKES_RECIPE and not named.endswith(".yaml") and named not in recipe_names():
        return f"no shipped recipe {named}"
    if words[0] == "show" and re.fullmatch(r"\w+\.\w+\.v\d+", arguments.thing) and arguments.thing not in discover().components:
        return f"no component {arguments.thing}"
    return None


@pytest.mark.parametrize("page, words", [(page, words) for page, text in blocks("bash") for words in commands(text)], ids=str)
def test_commands_work(page, words):
    assert fault(words) is None


@pytest.mark.parametrize(
    "line", ["mgzoo lst", "mgzoo train tiny/circle", "mgzoo plan tiny/circle --gpu 2", "mgzoo check tiny/none", "mgzoo show samplers.none.v1"]
)
def test_a_wrong_command_would_be_seen(line):
    (words,) = commands(line)
    assert fault(words)


def test_comments_of_shipped_recipes_name_commands_that_work():
    for name, path in recipe_names().items():
        lines = [line.lstrip("# ") for line in path.read_text().splitlines() if re.match(r"#\s+(mgzoo|torchrun|deepspeed) ", line)]
        for words in commands("\n".join(lines)):
            assert fault(words) is None, f"{name}: {words}"


def test_recipes_compose(tmp_path):
    found = blocks("yaml")
    assert found
    for page, text in found:
        name = re.match(r"# (\S+\.yaml)\n", text)
        assert name, f"{page}: a recipe begins with its file's name, e.g. # mine.yaml"
        (tmp_path / name[1]).write_text(text)
    for _, text in found:
        compose(tmp_path / re.match(r"# (\S+)", text)[1])


def test_component_ids_exist():
    known = discover().components
    for page in PAGES:
        for identity in re.findall(r"\b[a-z]+\.[a-z0-9_]+\.v\d+\b", page.read_text()):
            assert identity in known or identity == "noise.heun.v1", f"{page.name}: {identity}"


def test_verbs_in_the_text_exist():
    for page in PAGES:
        for verb in re.findall(r"`mgzoo ([a-z]+)", page.read_text()):
            assert verb in VERBS, f"{page.name}: {verb}"


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_files_named_in_the_text_exist():
    for page in PAGES:
        for path in re.findall(r"`(mgzoo/[\w/]+\.py|recipes/[\w/]+\.yaml|scripts/\w+\.py|benchmarks/\w+\.py)`", page.read_text()):
            assert (ROOT / path).is_file(), f"{page.name}: {path}"


def test_python_uses_public_names():
    import mgzoo

    for page, text in blocks("python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mgzoo":
                assert node.attr in mgzoo.__all__, f"{page}: mgzoo.{node.attr}"


# ------------------------------------------------------------------------- the plugin of docs/plugins.md, as written


@pytest.fixture(scope="module")
def documented(tmp_path_factory) -> Path:
    """The page's plugin written out as files, with the metadata that pip would write from its pyproject.toml."""
    folder, page = tmp_path_factory.mktemp("plugin"), [ROOT / "docs" / "plugins.md"]
    (folder / "my_noise").mkdir()
    (folder / "my_noise" / "__init__.py").touch()
    for _, text in blocks("python", page):
        (folder / re.match(r"# (\S+\.py)\n", text)[1]).write_text(text)
    ((_, text),) = blocks("toml", page)
    project = tomllib.loads(text)["project"]
    info = folder / "my_noise-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["mgzoo"].items())
    (info / "entry_points.txt").write_text(f"[mgzoo]\n{points}")
    return folder


def test_the_documented_plugin_is_listed(documented):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(documented), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "mgzoo", "show", "noise.heun.v1"], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60
    )
    assert done.returncode == 0 and "my-noise 0.1.0" in done.stdout and "integration steps" in done.stdout, done.stderr


def test_the_documented_sampler_is_of_second_order(documented, monkeypatch):
    import torch

    monkeypatch.syspath_prepend(documented)
    from my_noise.configs import HeunConfig
    from my_noise.sampler import Heun

    def error(steps: int) -> float:
        sampler = Heun(HeunConfig(steps=steps, guidance=1.0))
        end = sampler.sample(lambda x, t, branches: [x * t[:, None]], (1, 1), torch.Generator(), noise=torch.ones(1, 1))
        return abs(end.item() - math.exp(0.5))  # dx/dt = t x from x(0) = 1

    assert error(8) / error(16) == pytest.approx(4, rel=0.2)
