"""The documentation against the code: what it tells a reader to type or write has to work.

``python tests/test_docs.py`` writes docs/verbs.md anew, the golden file of verbs and flags.
"""

import argparse
import ast
import dataclasses
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from mgzoo import hooks
from mgzoo.cli import _parse
from mgzoo.cli.parser import COMMANDS, Usage, parser
from mgzoo.contracts import contract_problems
from mgzoo.discovery import discover
from mgzoo.old_names import CONFIG_METHODS
from mgzoo.recipe.compose import compose
from mgzoo.recipe.schema import RENAMED
from mgzoo.recipe.shipped import recipe_names

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "plugin.md"  # typed as it stands by tests/scaffold/test_tutorial.py
VERBS_PAGE = ROOT / "docs" / "verbs.md"
GLOSSARY = ROOT / "docs" / "glossary.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TAKES_RECIPE = ("check", "explain", "plan", "lock", "cp", "train")


def blocks(language: str, pages=PAGES) -> list[tuple[str, str]]:
    """(page, text) of every fenced block in a language."""
    return [(page.name, text) for page in pages for found, _, text in FENCE.findall(page.read_text()) if found == language]


def commands(text: str) -> list[list[str]]:
    """The words after `mgzoo` of every line that calls it, directly or through a launcher."""
    lines = re.sub(r"<\((.*?)\)", r"\1", text.replace("\\\n", " ")).splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[line.index("mgzoo") + 1 :] for line in words if "mgzoo" in line]


def fault(words: list[str]) -> str | None:
    """Why a command line of the documentation would not work, or None."""
    if not words or words[0] not in COMMANDS:
        return None if words in (["--help"], ["--version"]) else f"no verb {words[:1]}"
    try:
        arguments = _parse(words[0], words[1:])
    except Usage as error:
        return error.text
    named = getattr(arguments, "recipe", None) or getattr(arguments, "name", None)
    if words[0] in TAKES_RECIPE and not named.endswith(".yaml") and named not in recipe_names():
        return f"no shipped recipe {named}"
    if words[0] == "show" and re.fullmatch(r"\w+\.\w+\.v\d+", arguments.thing) and arguments.thing not in discover().components:
        return f"no component {arguments.thing}"
    return None


@pytest.mark.parametrize(
    "page, words", [(page, words) for page, text in blocks("bash", [page for page in PAGES if page != TUTORIAL]) for words in commands(text)], ids=str
)
def test_commands_are_ones_that_exist(page, words):
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
            assert identity in known or page == TUTORIAL and identity.startswith("noise."), f"{page.name}: {identity}"


def test_verbs_in_the_text_exist():
    for page in PAGES:
        for verb in re.findall(r"`mgzoo ([a-z]+)", page.read_text()):
            assert verb in COMMANDS, f"{page.name}: {verb}"


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
        for node in ast.walk(ast.parse(textwrap.dedent(text))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mgzoo":
                assert node.attr in mgzoo.__all__, f"{page}: mgzoo.{node.attr}"


# ------------------------------------------------------------------------------------------ the page on the architecture


def defined(path: Path, name: str) -> bool:
    """Whether a Python file defines every word of a dotted name: a class, a function, or a constant of the module."""
    text = path.read_text() if path.is_file() else ""
    return all(re.search(rf"^\s*(async )?(def|class) {word}\b|^{word}\b.*=", text, re.MULTILINE) for word in name.split("."))


def changes(page: str) -> list[tuple[str, str]]:
    """(file, name) of each row of the table "Where a change goes"."""
    rows = page.partition("## Where a change goes")[2]
    return re.findall(r"^\| .+ \| `([^`]+)` \| `([^`]+)` \|$", rows, re.MULTILINE)


def calls(page: str) -> list[tuple[str, str]]:
    """(file, name) of each function that the walks name: "`a` in `file`", or "`a` and `b` in `file`"."""
    found = re.findall(r"`([\w.]+)`(?: and `([\w.]+)`)? in\s+`([\w/]+\.py)`", page.partition("## Three walks")[2].partition("## Where a change goes")[0])
    return [(file, name) for *names, file in found for name in names if name]


def test_the_architecture_page_names_what_is_there():
    page = ARCHITECTURE.read_text()
    assert len(changes(page)) == 24 and len(calls(page)) > 40
    for file, name in (*changes(page), *calls(page)):
        assert defined(ROOT / file, name), f"{file} defines no {name}"
    assert not defined(ROOT / "mgzoo" / "plan.py", "no_such_function") and not defined(ROOT / "mgzoo" / "none.py", "plan")


def test_every_folder_and_file_of_the_core_is_on_the_architecture_page():
    page, core = ARCHITECTURE.read_text(), ROOT / "mgzoo"
    folders = [path for path in core.rglob("*") if path.is_dir() and (path / "__init__.py").is_file() and "templates" not in path.relative_to(core).parts]
    for path in (*folders, core / "scaffold" / "templates"):
        assert f"| `{path.relative_to(ROOT)}/` |" in page, path
    for path in core.glob("*.py"):
        assert f"`{path.relative_to(ROOT)}`" in page, path
    for folder, text in re.findall(r"^\| `(mgzoo/[\w/]+/)` \| (.+) \|$", page, re.MULTILINE):
        for name in re.findall(r"`(\w+\.py)`", text):
            assert (ROOT / folder / name).is_file(), f"{folder}{name}"


def test_the_floors_on_the_architecture_page_are_those_of_the_imports():
    (contract,) = (one for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"] if one["name"] == "one question per floor")
    drawing = re.search(r"```text\n(.*?)^```", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL)[1]
    assert [line.split("  ")[0] for line in drawing.splitlines()] == contract["layers"]


def test_the_glossary_is_in_order_and_has_every_renamed_method_and_key():
    rows = [line.strip("| ").split(" | ") for line in GLOSSARY.read_text().splitlines() if line.startswith("| ")][1:]
    words = [row[0].lower() for row in rows]
    assert words == sorted(words) and all(row[1] for row in rows)
    before = " ".join(row[2] for row in rows if len(row) > 2)
    for names in CONFIG_METHODS.values():
        for old, new in names.items():
            assert f"`{old}()`" in before and any(f"`{new}()`" in row[1] for row in rows), f"{old} -> {new}"
    configs = [discover().config_class(one) for one in discover().components]
    keys = [old for config in configs for field in dataclasses.fields(config) for old in field.metadata.get("formerly", ())]
    for old in (*RENAMED, *keys):
        assert f"`{old}`" in before, old


# ------------------------------------------------------------------------------------------ blocks that run


def marks() -> list[tuple[str, str, str, str]]:
    """(page, language, mark, text) of the blocks that hold something to run."""
    pages = [page for page in PAGES if page not in (TUTORIAL, VERBS_PAGE)]
    return [(page.name, *found) for page in pages for found in FENCE.findall(page.read_text()) if found[0] in ("bash", "python")]


def test_a_block_runs_or_says_why_not():
    for page, language, mark, text in marks():
        assert not mark or re.fullmatch(r" not run: \S.+", mark), f"{page}: {mark!r}"
    assert sum(not mark for _, _, mark, _ in marks()) > len(marks()) / 2


def test_recipes_of_trainings_that_are_not_run_hold():
    for page, _, mark, text in marks():
        for words in commands(text) if mark else ():
            if words[:1] == ["train"]:
                arguments = parser("train").parse_intermixed_args(words[1:])
                assert not contract_problems(compose(arguments.recipe, arguments.overrides)), f"{page}: {words}"


def test_what_is_told_to_be_typed_runs(tmp_path):
    """Each page's blocks in order, in one process; `run_pages.py` says what is made smaller."""
    asked: dict[str, list] = {}
    for page, language, mark, text in marks():
        if not mark:
            asked.setdefault(page, []).append([language, text])
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "run_pages.py"), str(ROOT), str(tmp_path)], input=json.dumps(asked), capture_output=True, text=True,
        env={**os.environ, "DS_ACCELERATOR": "cpu", "MGZOO_HOME": str(tmp_path / "home")}, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    ran = [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith('["')]
    for page, found in asked.items():
        expected = [" ".join(words) for language, text in found if language == "bash" for words in commands(text)]
        assert [what for name, what in ran if name == page and what != "python"] == expected, page
        assert ran.count((page, "python")) == sum(language == "python" for language, _ in found)
    printed = {" ".join(line.split()) for line in done.stdout.splitlines()}
    for page, found in asked.items():
        for line in re.findall(r"^#> (.+)$", "\n".join(text for language, text in found if language == "bash"), re.MULTILINE):
            assert " ".join(line.split()) in printed, f"{page} shows output that no command prints: {line}"


# ------------------------------------------------------------------------------------------ hooks, verbs and flags


def test_every_hook_is_documented_and_tested():
    written = "\n".join(path.read_text() for path in sources())
    shown = "\n".join(text for _, text in blocks("python", [TUTORIAL]))
    for name, hook in vars(hooks).items():
        if name.startswith("mgzoo_"):
            assert inspect.getdoc(hook), name
            assert re.search(rf"^\| `{name}` \| \S", TUTORIAL.read_text(), re.MULTILINE), f"docs/plugin.md lacks the hook {name}"
            assert f"def {name}(" in written + shown, f"no test implements the hook {name}"


def test_every_verb_is_shown_in_a_page_and_used_in_a_test():
    shown = {words[0] for _, text in blocks("bash", [page for page in PAGES if page != VERBS_PAGE]) for words in commands(text) if words}
    used = {verb for path in sources() for verb in verbs_in(path.read_text())}
    assert not set(COMMANDS) - shown, "no page shows these verbs"
    assert not set(COMMANDS) - used, "no test uses these verbs"


def test_a_verb_in_passing_is_no_use_of_it():
    assert verbs_in("run(['train', x]); call('python', '-m', 'mgzoo', 'plan'); f('mgzoo lock a.yaml'); word = 'pull'; print('push')") == {"train", "plan", "lock"}


def sources() -> list[Path]:
    """The files of tests, ours and the plugins'."""
    return [*(ROOT / "tests").rglob("*.py"), *(ROOT / "plugins").glob("*/tests/*.py")]


def verbs_in(code: str) -> set[str]:
    """Verbs with which a list of words begins, or that follow `mgzoo`."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.List, ast.Tuple, ast.Call)):
            words = [one.value if isinstance(one, ast.Constant) else None for one in (node.args if isinstance(node, ast.Call) else node.elts)]
            after = [one for before, one in zip(words, words[1:]) if before == "mgzoo"]
            found.update(one for one in [*after, *([words[0]] if words and isinstance(node, ast.List) else [])] if one in COMMANDS)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(verb for verb in re.findall(r"\bmgzoo (\w+)", node.value) if verb in COMMANDS)
    return found


def verbs_page() -> str:
    """docs/verbs.md: every verb, its words and flags, and examples."""
    lines = ["# Verbs", "", "Written by `python tests/test_docs.py`; a test holds it against the command line, so that nothing changes unseen."]
    for name, verb in COMMANDS.items():
        lines += ["", f"## mgzoo {name}", "", verb.help[0].upper() + verb.help[1:] + ".", "", "| word or flag | meaning |", "|---|---|"]
        for action in parser(name)._actions:
            if action.help != argparse.SUPPRESS:
                value = "" if action.nargs == 0 or not action.option_strings else f" {action.metavar}"
                said = ", ".join(f"{option}{value}" for option in action.option_strings) or str(action.metavar)
                optional = action.nargs in ("?", "*") or (action.option_strings and not action.required)
                cells = f"`{said}`" + ("" if optional else ", needed"), action.help
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines += ["", *(f"    {line}" for line in verb.examples)]
    return "\n".join(lines) + "\n"


def test_verbs_and_flags_are_those_of_the_golden_file():
    assert VERBS_PAGE.read_text() == verbs_page(), "the command line has changed: if it was meant to, run `python tests/test_docs.py`"


if __name__ == "__main__":
    VERBS_PAGE.write_text(verbs_page())
    print(VERBS_PAGE.relative_to(ROOT))
