"""`mgzoo new KIND NAME --into PLUGIN`: a part of another kind in a plugin that is there, and nothing written over."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mgzoo import scaffold
from mgzoo.cli import run
from mgzoo.scaffold.into import add_part
from mgzoo.spec import KINDS, MgzooError


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    """A filter's plugin that was given a part of every kind."""
    folder = scaffold.new("filter", "manifold", tmp_path_factory.mktemp("plugins") / "mgzoo-manifold")
    for kind in KINDS:
        add_part(kind, f"my_{kind}", folder)
    info = folder / "mgzoo_manifold-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mgzoo-manifold\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[mgzoo]\nmanifold = mgzoo_manifold.plugin\n")
    return folder


def inside(folder: Path, code: str) -> str:
    code = "import sys; sys.path.insert(0, sys.argv[1])\n" + code
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_part_of_every_kind_is_declared_under_its_own_name(everything):
    said = json.loads(inside(everything, "from mgzoo.cli import run; run(['list', '--json'])"))
    assert not [line for line in said["set_aside"] if "manifold" in line]
    for kind in KINDS:
        assert f"manifold.my_{kind}.v1" in [row["id"] for row in said[kind]]
    assert {f"manifold/my_{kind}" for kind in KINDS if kind not in ("filter", "metric")} <= {row["id"] for row in said["recipe"]}
    for name, text in texts(everything).items():
        assert not re.search("acme|Acme|KIND", name + text), name
    rows = re.findall(r"^\| `manifold\.(\w+)\.v1` \| (\w+) \|", (everything / "README.md").read_text(), re.MULTILINE)
    assert rows == [("exposure", "filter"), *((f"my_{kind}", kind) for kind in KINDS)]


def test_the_laws_and_the_new_tests_hold(everything):
    code = "import pytest; raise SystemExit(pytest.main(['-q', '-p', 'no:cacheprovider', '--import-mode=importlib', sys.argv[1] + '/tests']))"
    said = inside(everything, code)
    assert int(re.search(r"(\d+) passed", said)[1]) > 12 * len(KINDS)


def test_nothing_is_written_over_and_a_second_time_is_refused(tmp_path):
    folder = scaffold.new("sampler", "noise", tmp_path / "mgzoo-noise")
    before = texts(folder)
    component_id, files = add_part("metric", "grain", folder)
    after = texts(folder)
    assert component_id == "noise.grain.v1"
    assert set(after) - set(before) == {"mgzoo_noise/grain.py", "mgzoo_noise/grain_configs.py", "tests/test_grain.py"}
    assert {name for name in before if before[name] != after[name]} == {"mgzoo_noise/plugin.py", "README.md"}
    assert {path.relative_to(folder).as_posix() for path in files} == (set(after) - set(before)) | {"mgzoo_noise/plugin.py", "README.md"}
    for again in ("grain", "heun"):
        with pytest.raises(MgzooError, match=f"mgzoo_noise/{again}_?c?o?n?f?i?g?s?.py exists\n    -> choose another name"):
            add_part("metric", again, folder)
    (folder / "mgzoo_noise" / "grain.py").unlink()
    (folder / "mgzoo_noise" / "grain_configs.py").unlink()
    (folder / "tests" / "test_grain.py").unlink()
    with pytest.raises(MgzooError, match="declares noise.grain.v1 already"):
        add_part("metric", "grain", folder)


def test_a_failed_writing_leaves_the_plugin_as_it_was(tmp_path, monkeypatch):
    from mgzoo import storage

    folder = scaffold.new("sampler", "noise", tmp_path / "mgzoo-noise")
    before = texts(folder)

    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr(storage, "atomic_write", full)
    with pytest.raises(OSError, match="no space"):
        add_part("data", "grain", folder)
    assert texts(folder) == before


@pytest.mark.parametrize("listed", ["[]", "[Component(**SHARED)]", "[\n        Component(**SHARED),  # the first\n    ]", "[Component(**SHARED)  # ünïcode\n    ]"])
def test_a_list_written_otherwise_gets_its_declaration_too(listed, tmp_path):
    folder = scaffold.new("sampler", "noise", tmp_path / "mgzoo-noise")
    plugin = folder / "mgzoo_noise" / "plugin.py"
    plugin.write_text(f"from mgzoo.hooks import hookimpl\nfrom mgzoo.spec import Component\n\nSHARED = {{}}\n\n\n@hookimpl\ndef mgzoo_components():\n    return {listed}\n")
    add_part("sampler", "other", folder)
    tree = ast.parse(plugin.read_text())
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "mgzoo_components")
    assert len(function.body[0].value.elts) == 1 + ("SHARED" in listed)
    assert "def mgzoo_recipes():" in plugin.read_text() and plugin.read_text().startswith("from pathlib import Path\n\nfrom mgzoo.hooks import")


@pytest.mark.parametrize("spoil, message", [
    (lambda folder: (folder / "pyproject.toml").unlink(), "is no plugin's folder: it has no pyproject.toml"),
    (lambda folder: (folder / "pyproject.toml").write_text("[project"), "pyproject.toml cannot be read"),
    (lambda folder: (folder / "pyproject.toml").write_text('[project]\nname = "x"\n'), "declares no plugin"),
    (lambda folder: (folder / "pyproject.toml").write_text('[project]\nname = "x"\n[project.entry-points.mgzoo]\na = "a.b"\nc = "c.d"\n'), "declares 2 plugins: a, c"),
    (lambda folder: (folder / "mgzoo_noise" / "plugin.py").unlink(), "names the module mgzoo_noise.plugin, which is not in"),
    (lambda folder: (folder / "mgzoo_noise" / "plugin.py").write_text("def mgzoo_components(): return parts()\n"), r"returns a list of Component\(...\)\n    -> add it by hand"),
    (lambda folder: (folder / "mgzoo_noise" / "plugin.py").write_text("def ("), "is not valid Python"),
])
def test_a_plugin_of_another_make_is_refused(spoil, message, tmp_path):
    folder = scaffold.new("sampler", "noise", tmp_path / "mgzoo-noise")
    spoil(folder)
    before = texts(folder)
    with pytest.raises(MgzooError, match=message):
        add_part("metric", "grain", folder)
    assert texts(folder) == before


@pytest.mark.parametrize("name, message", [("My-Part", "'My-Part' is not a valid part name"), ("class", "is a Python keyword"), ("media", "the class Media would take the name")])
def test_a_name_that_will_not_do_for_a_part(name, message, tmp_path):
    with pytest.raises(MgzooError, match=message):
        add_part("metric", name, scaffold.new("sampler", "noise", tmp_path / "mgzoo-noise"))


def test_the_verb_prints_the_files_and_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["new", "sampler", "noise"]) == 0
    capsys.readouterr()
    assert run(["new", "metrics", "grain", "--into", "mgzoo-noise"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "mgzoo-noise/mgzoo_noise/grain_configs.py" and err.startswith("next: cd mgzoo-noise && pip install -e")
    assert run(["new", "filter", "dim", "--into", "mgzoo-noise", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "noise.dim.v1"
    assert run(["new", "filter", "dim", "--into", "mgzoo-noise", "--out", "x"]) == 2 and "leave out --out" in capsys.readouterr().err
    assert run(["new", "filter", "dim", "--into", "nowhere"]) == 1 and "has no pyproject.toml" in capsys.readouterr().err
