"""docs/plugin.md, typed as it stands: from nothing to a published plugin."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mgzoo import scaffold
from mgzoo.cli import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugin.md"
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The page's blocks of a language, but for those marked `not run`."""
    return [text for found, mark, text in FENCE.findall(PAGE.read_text()) if found == language and "not run" not in mark]


@pytest.fixture(scope="module")
def typed(place, tmp_path_factory) -> tuple[str, Path]:
    """What the page's commands print, typed in one shell, and the folder they were typed in."""
    folder = tmp_path_factory.mktemp("tutorial")
    done = place.run("bash", "-e", "-c", "\n".join(blocks("bash")), cwd=folder, MGZOO_HOME=str(folder / "home"))
    return done.stdout, folder


def test_every_command_works(typed):
    said, folder = typed
    assert said.startswith("mgzoo-noise\n")
    assert len(re.findall(r"noise\.heun\.v1 +Heun's method", said)) == 2  # listed after either way of installing
    assert " passed in " in said and " failed" not in said
    assert "noise/tiny: OK" in said and "tiny/circle: OK" in said and "./hub/first@v1: OK" in said
    assert (folder / "mgzoo-noise" / "disc.mp4").is_file()
    (wheel,) = (folder / "mgzoo-noise" / "dist").iterdir()
    assert wheel.name == "mgzoo_noise-0.1.0-py3-none-any.whl"
    assert "-> pip install mgzoo-noise (according to ./registry/plugins.json" in said and said.endswith("expected: the plugin is missing\n")


def test_the_folder_is_the_one_that_is_shown(tmp_path):
    folder = scaffold.new("sampler", "noise", tmp_path / "mgzoo-noise")
    (shown,) = blocks("text")
    listed = {word for line in shown.splitlines()[1:] for word in re.split(r"\s{2,}", line.strip())[0:2] if re.search(r"\.\w+$|^LICENSE$", word)}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != "__init__.py"}
    assert listed == there


def test_the_hooks_that_are_shown_work(tmp_path, monkeypatch):
    folder = scaffold.new("sampler", "noise", tmp_path / "mgzoo-noise")
    for text in blocks("python"):
        path = folder / re.match(r"# (\S+\.py)", text)[1]
        path.write_text((path.read_text() if path.exists() else "") + "\n\n" + text)
    info = folder / "mgzoo_noise-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mgzoo-noise\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[mgzoo]\nnoise = mgzoo_noise.plugin\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from mgzoo.cli import run; assert run(['hum', 'softly']) == 0; assert run(['list', 'verb']) == 0\n"
        "import mgzoo; model = mgzoo.build(mgzoo.compose('noise/tiny')); print((model.save(sys.argv[1] + '/saved', golden=False) / 'README.md').read_text())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("hum softly\nverb\n  hum  print the given words\n")
    assert re.search(r"^#+ Noise\n+Sampled with `noise\.heun\.v1`\.$", done.stdout, re.MULTILINE)


def test_blocks_that_are_not_run_say_why():
    marked = [mark.strip() for _, mark, _ in FENCE.findall(PAGE.read_text()) if mark]
    assert marked == ["not run: it would publish", "not run: an excerpt of what `mgzoo new task noise` writes", "not run: the model is another task's"]


def test_the_request_options_that_are_shown_are_those_of_the_template(tmp_path):
    (shown,) = [text for language, mark, text in FENCE.findall(PAGE.read_text()) if language == "python" and "excerpt" in mark]
    folder = scaffold.new("task", "noise", tmp_path / "mgzoo-noise")
    assert shown in (folder / "mgzoo_noise" / "configs.py").read_text()


def test_a_plugin_written_by_the_verb_is_not_listed_until_it_is_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["new", "sampler", "noise"]) == 0 and run(["list", "sampler", "--quiet"]) == 0
    assert "noise." not in capsys.readouterr().out
