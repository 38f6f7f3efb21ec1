"""What `mgzoo new` writes, for every kind: it holds the laws as generated, builds, installs, trains, travels through a hub, and leaves no trace."""

import ast
import json
import os
import re
import zipfile
from pathlib import Path

import pytest

from mgzoo import scaffold
from mgzoo.cli import run
from mgzoo.discovery import discover
from mgzoo.spec import KINDS, MgzooError

HERE = Path(__file__).parent
NAMES = {kind: f"ann_{kind}" for kind in KINDS}
TRAINED = [kind for kind in KINDS if kind not in ("filter", "metric")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """One generated plugin of each kind."""
    root = tmp_path_factory.mktemp("plugins")
    return {kind: scaffold.new(kind, name, root / kind) for kind, name in NAMES.items()}


@pytest.fixture(scope="module")
def wheels(folders, place, tmp_path_factory) -> list[Path]:
    out = tmp_path_factory.mktemp("wheels")
    place.pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, *folders.values(), cwd=out)
    return sorted(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheels, place):
    """The environment with all nine; the last test takes them out again."""
    place.pip("install", "--quiet", "--no-deps", *wheels, cwd=place.packages)
    return place


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def circles(installed, folders, work) -> dict[str, dict]:
    asked = json.dumps([(kind, NAMES[kind], str(folder)) for kind, folder in folders.items()])
    done = installed.run("python", HERE / "circle.py", asked, cwd=work, MGZOO_HOME=str(work / "home"))
    return {found["kind"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_whole_and_holds_no_word_of_the_template(kind, folders):
    texts = {path.relative_to(folders[kind]).as_posix(): path.read_text() for path in folders[kind].rglob("*") if path.is_file()}
    assert {"pyproject.toml", "README.md", "LICENSE", f"mgzoo_{NAMES[kind]}/plugin.py", f"mgzoo_{NAMES[kind]}/configs.py"} < set(texts)
    assert not [name for name, text in texts.items() if re.search("acme|Acme|KIND", name + text)]
    for name, text in texts.items():
        if name.endswith(".py"):
            ast.parse(text, name)
            assert max(map(len, text.splitlines())) <= 160, name
    recipe = f"mgzoo_{NAMES[kind]}/recipes/{NAMES[kind]}/tiny.yaml"
    assert (recipe in texts) == (kind in TRAINED)
    test = texts[f"tests/test_{NAMES[kind]}.py"]
    assert test == f'from mgzoo.testing import conformance\n\nTestAnn{kind.capitalize()} = conformance("{NAMES[kind]}")\n'


def test_a_wheel_carries_the_recipe_and_the_licence(wheels):
    assert len(wheels) == len(KINDS)
    for wheel in wheels:
        names = set(zipfile.ZipFile(wheel).namelist())
        kind = wheel.name.split("-")[0].rpartition("_")[2]
        assert any(name.endswith("licenses/LICENSE") for name in names), wheel.name
        assert (f"mgzoo_ann_{kind}/recipes/ann_{kind}/tiny.yaml" in names) == (kind in TRAINED)
        assert not [name for name in names if name.startswith(("tests/", "README"))], wheel.name


def test_all_are_listed_and_none_is_set_aside(installed, work):
    said = json.loads(installed.run("mgzoo", "list", "--json", cwd=work).stdout)
    assert said["set_aside"] == []
    for kind, name in NAMES.items():
        (row,) = [row for row in said[kind] if row["id"].startswith(f"{name}.")]
        assert row["provider"] == f"mgzoo-ann-{kind} 0.1.0" and row["license"] == "mit"
    assert {f"{NAMES[kind]}/tiny" for kind in TRAINED} <= {row["id"] for row in said["recipe"]}


def test_all_hold_the_laws_of_their_kind(installed, folders, work):
    tests = [folder / "tests" for folder in folders.values()]
    done = installed.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests, cwd=work, check=False)
    assert done.returncode == 0 and int(re.search(r"(\d+) passed", done.stdout)[1]) > 12 * len(KINDS), done.stdout[-6000:]


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_circle(kind, circles):
    found = circles[kind]
    if kind not in TRAINED:
        assert {"filter": "shapes-", "metric": "[0."}[kind] in found["printed"]
        return
    uses = {part["use"].split(".")[0]: part for part in found["parts"].values()}
    if kind != "data":  # data is no part of an artifact, and is required for all that
        assert NAMES[kind] in uses
    assert f"mgzoo-ann-{kind}" in [one["distribution"] for one in found["requires"]]
    if kind in ("autoencoder", "encoder", "backbone"):
        assert uses[NAMES[kind]]["trained"]
    assert found["artifact"] == f"runs/{kind}/artifact" and found["pushed"].startswith(f"./hub/{kind}@")
    if kind == "autoencoder":  # it starts from a fitted codec, so the loss has little way to go
        assert found["kept"]["psnr"] > 15
    else:
        assert found["losses"][-1] < found["losses"][0]
    assert (found["made"] is None) == (kind == "autoencoder")


def test_a_boomerang_comes_back(circles, work):
    from mgzoo import media

    assert media.probe(work / "task.mp4")["frames"] == 14  # 8 there, 6 back
    assert media.probe(work / "sampler.mp4")["frames"] == 8


def test_uninstalling_leaves_no_trace_and_recipes_say_what_is_missing(circles, installed, work):
    installed.pip("uninstall", "--quiet", "--yes", *(f"mgzoo-ann-{kind}" for kind in KINDS), cwd=work)
    assert not [path for path in installed.packages.rglob("*") if "ann_" in path.name]
    said = json.loads(installed.run("mgzoo", "list", "--json", cwd=work).stdout)
    assert not [row for rows in said.values() for row in rows if "ann_" in str(row)]
    gone = installed.run("mgzoo", "check", "ann_sampler/tiny", cwd=work, check=False)
    assert gone.returncode == 1 and "unknown recipe 'ann_sampler/tiny'" in gone.stderr

    unknown = installed.run("mgzoo", "check", "sampler.yaml", cwd=work, check=False)
    assert unknown.returncode == 1 and "unknown component 'ann_sampler.heun.v1'" in unknown.stdout
    (work / "registry").mkdir()
    (work / "registry" / "plugins.json").write_text(json.dumps({"ann_sampler": "mgzoo-ann-sampler", "ann_task": "--index-url http://evil ann"}))
    known = installed.run("mgzoo", "check", "sampler.yaml", cwd=work, check=False)
    assert "-> pip install mgzoo-ann-sampler (according to ./registry/plugins.json; check that you trust it)" in known.stdout
    hostile = installed.run("mgzoo", "check", "task.yaml", cwd=work, check=False)
    assert "unknown component 'ann_task.boomerang.v1'" in hostile.stdout and "evil" not in hostile.stdout
    pulled = installed.run("mgzoo", "verify", "./hub/sampler@v1", cwd=work, check=False)
    assert pulled.returncode == 1 and "pip install mgzoo-ann-sampler" in pulled.stdout


# ------------------------------------------------------------------------------------------ names and folders


@pytest.mark.parametrize(
    "name, what, remedy",
    [
        ("My-Noise", "'My-Noise' is not a valid plugin name", "for example my_noise"),
        ("mgzoo-noise", "'mgzoo-noise' is not a valid plugin name", "for example noise"),
        ("3d", "'3d' is not a valid plugin name", "a letter first"),
        ("ünicode", "'ünicode' is not a valid plugin name", "lower-case letters"),
        ("a" * 41, f"'{'a' * 41}' is not a valid plugin name", "at most 40"),
        ("../escape", "'../escape' is not a valid plugin name", "for example escape"),
        ("", "'' is not a valid plugin name", "a letter first"),
        ("class", "'class' is a Python keyword", "for example my_class"),
        ("mgzoo", "'mgzoo' is reserved for the core", "another name"),
        ("video", "the namespace 'video' is taken by mgzoo-video", "another name"),
    ],
)
def test_a_name_that_will_not_do(name, what, remedy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["new", "sampler", name]) == 1
    said = capsys.readouterr().err
    assert f"error: {what}" in said and remedy in said
    assert not os.listdir(tmp_path)


def test_a_name_known_from_the_registry_or_importable_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "plugins.json").write_text('{"noise": "their-noise"}')
    with pytest.raises(MgzooError, match="the namespace 'noise' belongs to their-noise"):
        scaffold.check_name("noise")
    (tmp_path / "registry" / "plugins.json").write_text("{")
    with pytest.raises(MgzooError, match="registry/plugins.json cannot be read"):
        scaffold.check_name("noise")
    (tmp_path / "registry" / "plugins.json").unlink()
    (tmp_path / "mgzoo_hum").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MgzooError, match="a module mgzoo_hum is installed already"):
        scaffold.check_name("hum")


def test_a_plugin_that_is_set_aside_keeps_its_name(monkeypatch):
    from mgzoo.discovery import DisabledPlugin

    monkeypatch.setattr(discover(), "disabled", [DisabledPlugin(name="broken", distribution="mgzoo-broken 1.0", reason="it raises")])
    with pytest.raises(MgzooError, match="taken by mgzoo-broken 1.0, a disabled plugin"):
        scaffold.check_name("broken")


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_nothing_that_exists_is_written_over(there, tmp_path):
    path = tmp_path / "mine"
    if there == "folder":
        path.mkdir()
        (path / "kept").touch()
    elif there == "file":
        path.write_text("kept")
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(MgzooError, match="exists"):
        scaffold.new("sampler", "fresh", path)
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


def test_an_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(self, *_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scaffold.new("sampler", "fresh", tmp_path / "fresh")
    assert not os.listdir(tmp_path)


def test_the_verb_prints_the_folder_and_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["new", "metrics", "quiet_one"]) == 0  # the plural is understood
    out, err = capsys.readouterr()
    assert out == "mgzoo-quiet-one\n" and err.startswith("next: cd mgzoo-quiet-one && pip install -e")
    assert run(["new", "filter", "other", "--json", "--out", "deep/er"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": "deep/er"} and (tmp_path / "deep" / "er" / "pyproject.toml").is_file()
    assert run(["new", "plugin", "other"]) == 2 and "unknown kind 'plugin'" in capsys.readouterr().err
    with pytest.raises(MgzooError, match="unknown kind 'plugin'"):
        scaffold.new("plugin", "other")
