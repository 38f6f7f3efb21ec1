"""Plugins are found one by one; a broken one is set aside with one line and stops nothing."""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mgzoo.discovery import Registry, discover, load_plugins
from mgzoo.distributions import entry_points
from mgzoo.errors import suggest
from mgzoo.import_guard import HEAVY, HeavyImport, heavy_imports_refused, run_guarded
from mgzoo.spec import MgzooError

BROKEN = Path(__file__).parent / "broken_plugins"
HEAVY_LINE = "; plugin.py and configs must not import torch, numpy, deepspeed, transformers or diffusers"
LINES = {
    "raises": ["raises (mgzoo-raises 1.0): RuntimeError: the licence server is away"],
    "exits": ["exits (mgzoo-exits 1.0): SystemExit: no graphics card"],
    "gone": ["gone (mgzoo-gone 1.0): ModuleNotFoundError: No module named 'gone_plugin'"],
    "imports_torch": [f"imports_torch (mgzoo-imports-torch 1.0): imports_torch_plugin imports torch{HEAVY_LINE}"],
    "imports_when_asked": [f"imports_when_asked (mgzoo-imports-when-asked 1.0): imports_when_asked_plugin imports torch{HEAVY_LINE}"],
    "hides_import_error": [f"hides_import_error (mgzoo-hides-import-error 1.0): hides_import_error_plugin imports deepspeed{HEAVY_LINE}"],
    "hides_everything": [f"hides_everything (mgzoo-hides-everything 1.0): hides_everything_plugin imports numpy{HEAVY_LINE}"],
    "outside": ["outside (mgzoo-outside 1.0): the id 'outsider.sampler.v1' is outside its namespace: it must start with 'outside.'"],
    "taken": ["taken (mgzoo-taken 1.0): the id 'healthy.sampler.v1' is taken: it is declared by mgzoo-healthy 1.0 and mgzoo-taken 1.0"],
    "twice": ["twice (mgzoo-twice 1.0): it declares the id 'twice.a.v1' twice"],
    "claimed": [
        "claimed (another-claimed 2.0): the namespace 'claimed' is also claimed by mgzoo-claimed 1.0; uninstall all but one",
        "claimed (mgzoo-claimed 1.0): the namespace 'claimed' is also claimed by another-claimed 2.0; uninstall all but one",
    ],
    "misspelled": ["misspelled (mgzoo-misspelled 1.0): mgzoo_recipe is not a hook; did you mean mgzoo_recipes?"],
    "marked": ["marked (mgzoo-marked 1.0): mgzoo_componets is not a hook; did you mean mgzoo_components?"],
    "unmarked": ["unmarked (mgzoo-unmarked 1.0): mgzoo_components is not marked with @hookimpl"],
    "argument": ["argument (mgzoo-argument 1.0): PluginValidationError: Plugin 'argument' for hook 'mgzoo_check' hookimpl definition: "
                 "mgzoo_check(receipt) Argument(s) {'receipt'} are declared in the hookimpl but can not be found in the hookspec"],
    "kind": ["kind (mgzoo-kind 1.0): kind.a.v1 has the unknown kind 'scheduler'; kinds are autoencoder, encoder, backbone, objective, sampler, "
             "task, data, filter, metric"],
    "form": ["form (mgzoo-form 1.0): the id 'form.a' is not of the form plugin.name.vN"],
    "place": ["place (mgzoo-place 1.0): the target of place.a.v1, 'healthy_parts.Healthy', is not of the form module:Class"],
    "no_component": ["no_component (mgzoo-no-component 1.0): mgzoo_components returned 'no_component.a.v1', not a Component"],
}


def of(monkeypatch, *folders, limit=None) -> Registry:
    for folder in reversed(folders):
        monkeypatch.syspath_prepend(str(folder))
    return load_plugins(list(entry_points([str(folder) for folder in folders])), limit)


def test_every_folder_of_broken_plugins_has_its_lines():
    assert {path.name for path in BROKEN.iterdir()} == {*LINES, "healthy"}


@pytest.mark.parametrize("case", LINES)
def test_a_broken_plugin_is_set_aside_and_its_neighbour_works(case, monkeypatch):
    registry = of(monkeypatch, BROKEN / "healthy", BROKEN / case)
    assert [str(bad) for bad in registry.disabled] == LINES[case]
    assert list(registry.components) == ["healthy.sampler.v1", "healthy.second.v1"]
    assert str(registry.provider("healthy.sampler.v1")) == "mgzoo-healthy 1.0"
    part = registry.build_class("healthy.sampler.v1")(registry.config_class("healthy.sampler.v1")(steps=3))
    assert part.config.steps == 3
    assert all(name.split("_")[0] == "healthy" for name, _ in registry.manager.list_name_plugin())


SURVEY = """
import sys, json
for name in {preload!r}: __import__(name)
loaded = dict(sys.modules)
from mgzoo.discovery import discover
registry = discover()
assert discover() is registry
print(json.dumps([sorted(registry.components), sorted(map(str, registry.disabled)), sorted({heavy!r} & sys.modules.keys())]))
assert all(sys.modules.get(name) is loaded[name] for name in loaded)
"""


@pytest.mark.parametrize("preload", [[], ["numpy"], ["torch"]])
def test_the_verdict_is_the_same_whatever_is_loaded_already(preload):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BROKEN.parent.parent), *(str(path) for path in sorted(BROKEN.iterdir()))]),
           "MGZOO_PLUGINS": ",".join(["healthy", *LINES])}
    code = SURVEY.format(preload=preload, heavy=set(HEAVY))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    components, set_aside, heavy = json.loads(done.stdout)
    assert components == ["healthy.sampler.v1", "healthy.second.v1"]
    assert set_aside == sorted(line for lines in LINES.values() for line in lines)
    assert heavy == {"": [], "numpy": ["numpy"], "torch": ["numpy", "torch"]}["".join(preload)]


def plugin(folder: Path, name: str, code: str, declares: str | None = None, **modules: str) -> Path:
    info = folder / f"mgzoo_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mgzoo-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(declares or f"[mgzoo]\n{name} = {name}_plugin\n")
    (folder / f"{name}_plugin.py").write_text(code)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    return folder


DECLARES = """
from mgzoo.hooks import hookimpl
from mgzoo.spec import Component, Problem

@hookimpl
def mgzoo_components():
    return [Component(id="{name}.part.v1", kind="sampler", config="{name}_configs:Config", target="{name}_parts:Part", summary="")]
"""


def test_a_config_may_not_import_numpy_and_is_refused_every_time(tmp_path, monkeypatch):
    configs = "try:\n    import numpy\nexcept Exception:\n    numpy = None\nclass Config: pass\n"
    registry = of(monkeypatch, plugin(tmp_path, "heavyconfig", DECLARES.format(name="heavyconfig"), heavyconfig_configs=configs))
    for _ in range(2):
        with pytest.raises(MgzooError) as error:
            registry.config_class("heavyconfig.part.v1")
        assert str(error.value) == (
            "mgzoo-heavyconfig 1.0: the config of heavyconfig.part.v1, heavyconfig_configs:Config, cannot be imported: heavyconfig_configs imports "
            f"numpy{HEAVY_LINE}\n    -> repair or upgrade mgzoo-heavyconfig"
        )


def test_a_target_that_is_not_there_names_its_provider(tmp_path, monkeypatch):
    registry = of(monkeypatch, plugin(tmp_path, "notarget", DECLARES.format(name="notarget"), notarget_configs="class Config: pass\n"))
    assert registry.config_class("notarget.part.v1").__name__ == "Config"
    with pytest.raises(MgzooError, match="the target of notarget.part.v1, notarget_parts:Part, cannot be imported: ModuleNotFoundError"):
        registry.build_class("notarget.part.v1")


def test_a_check_that_fails_is_one_problem_and_the_others_are_asked(tmp_path, monkeypatch):
    bad = DECLARES.format(name="badcheck") + "\n@hookimpl\ndef mgzoo_check(recipe):\n    return 1 / 0\n"
    odd = DECLARES.format(name="oddcheck") + "\n@hookimpl\ndef mgzoo_check(recipe):\n    return ['no problem']\n"
    good = DECLARES.format(name="goodcheck") + "\n@hookimpl\ndef mgzoo_check(recipe):\n    return [Problem(what=f'saw {recipe}', remedy='none')]\n"
    folders = [plugin(tmp_path / name, name, code) for name, code in {"badcheck": bad, "oddcheck": odd, "goodcheck": good}.items()]
    assert sorted(problem.what for problem in of(monkeypatch, *folders).check("it")) == [
        "saw it",
        "the check of plugin badcheck failed: ZeroDivisionError: division by zero",
        "the check of plugin oddcheck failed: it did not return a list of mgzoo.spec.Problem",
    ]


def test_recipes_of_a_plugin_are_found(tmp_path, monkeypatch):
    code = DECLARES.format(name="withrecipes") + f"\n@hookimpl\ndef mgzoo_recipes():\n    return {str(tmp_path)!r}\n"
    assert of(monkeypatch, plugin(tmp_path, "withrecipes", code)).recipe_folders == {"withrecipes": tmp_path}


def test_mgzoo_plugins_limits_discovery(monkeypatch):
    both = BROKEN / "healthy", BROKEN / "raises"
    assert not of(monkeypatch, *both, limit="healthy").disabled
    assert not of(monkeypatch, *both, limit="").components and not of(monkeypatch, *both, limit=" , ").components
    registry = of(monkeypatch, *both, limit="healthy, helthy")
    assert [str(bad) for bad in registry.disabled] == ["helthy: named in MGZOO_PLUGINS but not installed"]


def test_a_distribution_found_twice_counts_once(tmp_path):
    for place in ("a", "b"):
        plugin(tmp_path / place, "double", "")
    (found,) = entry_points([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "nowhere")])
    assert (found.namespace, found.module, found.distribution, found.version) == ("double", "double_plugin", "mgzoo-double", "1.0")


def test_only_our_section_of_entry_points_is_read(tmp_path):
    text = "[console_scripts]\nx = y:z\n\n[mgzoo]\n# a comment\na = b.plugin\n\n[other]\nc = d\n"
    plugin(tmp_path, "sections", "", declares=text)
    assert [(point.namespace, point.module) for point in entry_points([str(tmp_path)])] == [("a", "b.plugin")]


def test_the_standard_library_sees_the_same_entry_points():
    standard = {(point.name, point.value, point.dist.name, point.dist.version) for point in importlib.metadata.entry_points(group="mgzoo")}
    assert {(p.namespace, p.module, p.distribution, p.version) for p in entry_points(sys.path)} == standard


def test_the_guard_sees_every_way_in():
    ways = ["import torch", "import torch.nn as nn", "from numpy import array", "__import__('diffusers')",
            "import importlib; importlib.import_module('diffusers.models')"]
    for way in ways:
        answer, reason = run_guarded(lambda way=way: exec(way, {"__name__": "stranger"}))
        assert answer is None and reason.startswith("stranger imports ") and reason.endswith(HEAVY_LINE), way
    assert run_guarded(lambda: importlib.util.find_spec("deepspeed") is not None)[1] is None
    assert run_guarded(lambda: exec("import json, wave, mgzoo.spec") or 1) == (1, None)


def test_the_guard_refuses_this_thread_only_and_leaves_nothing_behind():
    real, finders, seen = __import__, list(sys.meta_path), []
    with heavy_imports_refused() as attempts:
        other = threading.Thread(target=lambda: seen.append(__import__("numpy")))
        other.start()
        other.join()
        with pytest.raises(HeavyImport):
            import numpy  # noqa: F401
    assert [module.__name__ for module in seen] == ["numpy"] and attempts == [(__name__, "numpy")]
    assert __import__ is real and sys.meta_path == finders and not issubclass(HeavyImport, ImportError)


def test_an_unknown_id_says_what_to_do(monkeypatch):
    registry = of(monkeypatch, BROKEN / "healthy", BROKEN / "raises")
    for wanted, remedy in {
        "healthy.sampler.v2": "did you mean healthy.sampler.v1 or healthy.second.v1?",
        "raises.a.v1": "repair it (RuntimeError: the licence server is away); see `mgzoo doctor`",
        "backbones.llama3.v1": "pip install mgzoo-backbones",
        "zzz.qqq.v1": "install the plugin with this component; `mgzoo list` shows the installed ones",
    }.items():
        with pytest.raises(MgzooError) as error:
            registry.get(wanted)
        assert error.value.remedy == remedy


def test_nearest_words_come_best_first():
    assert suggest("widht", ["depth", "width", "with", "height"]) == ["width", "with"]
    assert suggest("zzz", ["depth"]) == []


def test_every_installed_plugin_of_ours_holds():
    registry = discover()
    ours = {"autoencoders", "backbones", "encoders", "samplers", "video"}
    assert not [bad for bad in registry.disabled if bad.name in ours]
    for component in registry.components.values():
        config = registry.config_class(component.id)
        assert config.__dataclass_params__.frozen and config.tiny() is not None


def test_guards_of_two_threads_wait_for_each_other_and_leave_nothing_behind():
    real, failed = __import__, []

    def look():
        for _ in range(200):
            if run_guarded(lambda: exec("import numpy", {"__name__": "stranger"}))[1] is None:
                failed.append(threading.get_ident())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and __import__ is real
