"""Renamed components and config keys: recipes and artifacts with the old names still load; a component's old id with one line of warning."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgzoo import compose, scaffold
from mgzoo.discovery import discover, load_plugins
from mgzoo.distributions import entry_points
from mgzoo.recipe.lock import lock_recipe, recipe_changes
from mgzoo.recipe.recipe import explain
from mgzoo.recipe.renamed_keys import first_names
from mgzoo.recipe.schema import SECTIONS
from mgzoo.spec import MgzooError

RECIPE = """\
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, config: {size: tiny, widths: [16, 16, 16, 16], groups: 1}, frozen: true}
  encoders:
    text: {use: encoders.bytes.v1, config: {size: tiny}}
  backbone: {use: ren.mixer.v1, config: {size: tiny}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 16, width: 16}}
"""
LINE = "ren.mixer.v1 was renamed to ren.blender.v1; the old name still works, but use the new one\n"


def plugin(folder: Path, name: str, components: str, version: str = "1.0") -> Path:
    """A plugin as pip would leave it."""
    info = folder / f"mgzoo_{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mgzoo-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[mgzoo]\n{name} = {name}_plugin\n")
    (folder / f"{name}_plugin.py").write_text(
        "from mgzoo.hooks import hookimpl\nfrom mgzoo.spec import Component\n"
        f"def part(id, **more):\n    return Component(id=id, kind='sampler', config='{name}_configs:Config', target='{name}_parts:Part', summary='', **more)\n"
        f"@hookimpl\ndef mgzoo_components():\n    return [{components}]\n"
    )
    return folder


def python(code: str, plugins: Path, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(plugins), "DS_ACCELERATOR": "cpu"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """old/ and new/: a plugin before and after its backbone was renamed. saved/ and hub/: what was saved and pushed before."""
    root = tmp_path_factory.mktemp("renamed")
    for age, change in (("old", lambda text: text), ("new", lambda text: text.replace('id="ren.mixer.v1",', 'id="ren.blender.v1",\n            formerly=("ren.mixer.v1",),'))):
        folder = scaffold.new("backbone", "ren", root / age)
        declared = folder / "mgzoo_ren" / "plugin.py"
        declared.write_text(change(declared.read_text()))
        info = folder / f"mgzoo_ren-{'1.0' if age == 'old' else '2.0'}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mgzoo-ren\nVersion: {'1.0' if age == 'old' else '2.0'}\n")
        (info / "entry_points.txt").write_text("[mgzoo]\nren = mgzoo_ren.plugin\n")
    (root / "old.yaml").write_text(RECIPE)
    (root / "layered.yaml").write_text("schema: 1\ndefaults: [old.yaml]\nparts:\n  backbone: {use: ren.blender.v1}\n")
    (root / "start.yaml").write_text("schema: 1\ndefaults: [old.yaml]\nparts:\n  backbone: {weights: ./saved, config: {depth: 3}}\n")
    code = "import mgzoo; mgzoo.build(mgzoo.compose('old.yaml')).save('saved'); print(mgzoo.push('saved', './hub/ren@v1'))"
    done = python(code, root / "old", root)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((root / "saved" / "mgzoo.json").read_text())["parts"]["backbone"]["use"] == "ren.mixer.v1"
    return root


def test_an_old_recipe_checks_with_one_line(world):
    done = python("from mgzoo.cli import run; print(run(['check', 'old.yaml', '--meta']), run(['show', 'ren.mixer.v1']))", world / "new", world)
    assert done.stdout.startswith("old.yaml: OK\n") and done.stdout.endswith("0 0\n"), done.stdout
    assert "id        ren.blender.v1\n" in done.stdout and "formerly  ren.mixer.v1\n" in done.stdout
    assert done.stderr == LINE


def test_a_later_layer_with_the_new_name_keeps_the_config(world):
    code = "from mgzoo import compose; print(compose('layered.yaml').parts['backbone'].config.depth, compose('layered.yaml', ['parts.backbone.use=backbones.dit.v1']).parts['backbone'].config.depth)"
    kept, swapped = map(int, python(code, world / "new", world).stdout.split())
    assert kept == 3 and swapped == 4  # both of `size: tiny`, which the swap to another component keeps


def test_an_artifact_saved_under_the_old_id_loads_verifies_and_is_pulled(world):
    code = (
        "from mgzoo.cli import run; import mgzoo, torch\n"
        "for words in (['verify', 'saved'], ['pull', './hub/ren@v1'], ['generate', './hub/ren@v1', 'a disc', '--out', 'disc.mp4'], ['check', 'start.yaml', '--meta']):\n"
        "    assert run(words) == 0, words\n"
        "model = mgzoo.load('saved')\n"
        "print(model.recipe.parts['backbone'].component.id, torch.equal(mgzoo.build(mgzoo.compose('start.yaml')).backbone.embed.weight, model.backbone.embed.weight))\n"
        "print(model.save('again'))\n"
    )
    done = python(code, world / "new", world)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ren.blender.v1 True" in done.stdout and done.stderr.count("was renamed to") == 1
    again = json.loads((world / "again" / "mgzoo.json").read_text())
    assert again["parts"]["backbone"]["use"] == "ren.blender.v1"
    before = python("from mgzoo.cli import run; print(run(['verify', 'again']))", world / "old", world)
    assert before.stdout.endswith("1\n") and "ren.blender.v1" in before.stdout  # the older plugin does not know the new name


def settings(tmp_path: Path, sampler: str, *overrides: str):
    (tmp_path / "keys.yaml").write_text(RECIPE.replace("ren.mixer.v1", "backbones.llama3.v1").replace("{use: samplers.euler.v1, config: {steps: 2}}", sampler))
    recipe = compose(tmp_path / "keys.yaml", list(overrides))
    return recipe, recipe.parts["sampler"].config


def test_a_key_by_its_old_name_sets_the_field_that_has_a_new_one(tmp_path):
    old = "{use: samplers.linear_quadratic.v1, config: {steps: 4, emulates: 100, join: square, scales: {text: 3}}}"
    recipe, config = settings(tmp_path, old)
    assert (config.linear_steps, config.continuity, config.guidance_scales) == (100, "square", {"text": 3.0})
    assert recipe.origins["parts.sampler.config.linear_steps"][-1].value == 100
    assert "emulates" not in recipe.tree["parts"]["sampler"]["config"]
    with pytest.raises(MgzooError, match="linear_steps takes int"):
        settings(tmp_path, old.replace("100", "many"))


@pytest.mark.parametrize("written, override", [("emulates", "linear_steps"), ("linear_steps", "emulates"), ("emulates", "emulates")])
def test_of_an_old_and_a_new_name_the_later_layer_counts(tmp_path, written, override):
    sampler = f"{{use: samplers.linear_quadratic.v1, config: {{steps: 4, {written}: 100, scales: {{text: 3}}}}}}"
    _, config = settings(tmp_path, sampler, f"parts.sampler.config.{override}=200", "parts.sampler.config.guidance_scales.text=5")
    assert config.linear_steps == 200 and config.guidance_scales == {"text": 5.0}


OLD = """
train: {batch: 8, micro: 4, final_lr: 0.2, clip: 3.0, keep: 5, schedule: cosine, weight_decay: "${train.final_lr}"}
zero: {bucket: 1000}
stages: [{name: one, steps: 2, set: {train.clip: 2.0}}, {name: two, steps: 2, set: {train.max_grad_norm: 1.5}}]
"""
NEW = OLD
for name, now in {"micro:": "micro_batch:", "final_lr": "min_lr_ratio", "clip:": "max_grad_norm:", "keep:": "keep_checkpoints:", "bucket:": "reduce_bucket_size:"}.items():
    NEW = NEW.replace(name, now)


def sections(tmp_path: Path, text: str, *overrides: str):
    tiny = RECIPE.replace("ren.mixer.v1", "backbones.llama3.v1").replace("samplers.euler.v1, config: {steps: 2}", "samplers.linear_quadratic.v1, config: {steps: 4, emulates: 100}")
    (tmp_path / "sections.yaml").write_text(tiny + text)
    return compose(tmp_path / "sections.yaml", list(overrides))


def test_old_keys_of_training_are_the_new_ones(tmp_path):
    old, new = sections(tmp_path, OLD), sections(tmp_path, NEW)
    train = old.train
    assert (train.micro_batch, train.min_lr_ratio, train.max_grad_norm, train.keep_checkpoints, train.weight_decay, old.zero.reduce_bucket_size) == (4, 0.2, 3.0, 5, 0.2, 1000)
    assert [old.at_stage(i).train.max_grad_norm for i in (0, 1)] == [2.0, 1.5]
    assert old.tree == new.tree and old.digest() == new.digest() and old.to_yaml() == new.to_yaml()
    assert explain(old, "train.clip") == explain(old, "train.max_grad_norm") and explain(old, "train.clip").startswith("train.max_grad_norm = 3.0\n")
    with pytest.raises(MgzooError, match="sections.yaml:11: train.micro_batch: a batch of 8 is not divisible"):
        sections(tmp_path, OLD.replace("micro: 4", "micro: 3"))


@pytest.mark.parametrize("overrides, norm", [(["train.clip=9"], 9), (["train.max_grad_norm=9", "train.clip=8"], 8), (["train.clip=9", "train.max_grad_norm=8", "train={clip: 7}"], 7)])
@pytest.mark.parametrize("text", [OLD, NEW], ids=["old", "new"])
def test_of_two_names_of_a_training_key_the_later_layer_counts(tmp_path, text, overrides, norm):
    assert sections(tmp_path, text, *overrides).train.max_grad_norm == norm


def test_a_lock_and_a_run_of_before_hold_when_a_key_is_renamed(tmp_path):
    recipe = sections(tmp_path, NEW)
    before = first_names(recipe)
    assert before["train"]["clip"] == 3.0 and "max_grad_norm" not in before["train"] and before["stages"][1]["set"] == {"train.clip": 1.5}
    assert before["parts"]["sampler"]["config"]["emulates"] == 100
    now = lock_recipe(recipe)
    assert recipe_changes(recipe, now, now, before) == []
    before["train"]["clip"] = 4.0
    assert [change.what.partition("    ")[0] for change in recipe_changes(recipe, now, now, before)] == ["train.max_grad_norm 4.0 -> 3.0"]


RENAMING = [cls for cls in (*SECTIONS.values(), *(discover().config_class(id) for id in sorted(discover().components)))
            if any(f.metadata.get("formerly") for f in dataclasses.fields(cls))]  # fmt: skip


@pytest.mark.parametrize("cls", RENAMING, ids=lambda cls: cls.__name__)
def test_python_too_takes_the_old_names_of_every_field(cls):
    """With a warning; and not together with the new ones."""
    whole = cls.tiny() if hasattr(cls, "tiny") else cls()
    for f in dataclasses.fields(cls):
        for old in f.metadata.get("formerly", ()):
            value = getattr(whole, f.name)
            with pytest.warns(DeprecationWarning, match=rf"{old}=…\) is {f.name}=…"):
                assert cls(**{old: value}) == cls(**{f.name: value})
            with pytest.raises(TypeError, match=f"got '{f.name}' and its old name '{old}'"):
                cls(**{f.name: value, old: value})


@pytest.mark.parametrize("name", ["audio", "edit", "tae-emoji"])
def test_the_locks_of_shipped_models_still_hold(name):
    """Their recipes say train.clip and zero.bucket."""
    (locked,) = (Path(__file__).parents[1] / "registry" / name).glob("*/recipe.lock.json")
    assert "clip: " in (locked.parent / "recipe.yaml").read_text()
    assert compose(locked.parent / "recipe.yaml").digest() == json.loads(locked.read_text())["recipe"]


@pytest.mark.parametrize(
    "components, reason",
    [
        ("part('bad.a.v1'), part('bad.b.v1', formerly=('bad.a.v1',))", "the old id 'bad.a.v1' of bad.b.v1 is also the id of bad.a.v1; an id means one component"),
        ("part('bad.b.v1', formerly=('bad.b.v1',))", "the old id 'bad.b.v1' of bad.b.v1 is also the id of bad.b.v1; an id means one component"),
        (
            "part('bad.a.v2', formerly=('bad.a.v1',)), part('bad.b.v1', formerly=('bad.a.v1',))",
            "the old id 'bad.a.v1' of bad.b.v1 is also an old id of bad.a.v2; an id means one component",
        ),
        (
            "part('bad.b.v1', formerly=('samplers.euler.v1',))",
            "the old id 'samplers.euler.v1' of bad.b.v1 is outside its namespace: it must start with 'bad.'",
        ),
        ("part('bad.b.v1', formerly=('bad.a',))", "an old id of bad.b.v1, 'bad.a', is not of the form plugin.name.vN"),
        ("part('bad.b.v1', formerly='bad.a.v1')", "the old ids of bad.b.v1, 'bad.a.v1', are not a tuple"),
    ],
    ids=["live", "its own", "two", "foreign", "form", "text"],
)
def test_an_old_id_that_means_two_things_is_an_error_that_names_both(components, reason, tmp_path, monkeypatch):
    plugin(tmp_path, "bad", components)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bad_plugin", raising=False)
    registry = load_plugins(list(entry_points([str(tmp_path)])))
    assert [str(bad) for bad in registry.disabled] == [f"bad (mgzoo-bad 1.0): {reason}"]
    assert not registry.components and not registry.renamed
