"""A lock names plugins, weights and data; what differs from it is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mgzoo
from mgzoo.artifact.manifest import commit_of
from mgzoo.recipe import lock as locks
from mgzoo.recipe.compose import compose
from mgzoo.recipe.lock import lock_drift, lock_recipe, read_lock, write_lock
from mgzoo.spec import MgzooError
from mgzoo.storage import digest_file

WHOLE = Path(__file__).parent / "broken_recipes" / "base" / "whole.yaml"
AGAIN = "or lock the recipe again: mgzoo lock RECIPE"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe with data and weights on this machine."""
    from mgzoo.model.build import build
    from mgzoo.model.save import save

    monkeypatch.chdir(tmp_path)
    small = ["parts.backbone.config={depth: 1, width: 32, heads: 1, ffn: 32}", "parts.encoders.text.config={depth: 1, width: 32, heads: 1, buckets: 64}"]
    save(build(compose(WHOLE, small)), tmp_path / "base", golden=False)
    (tmp_path / "clips" / "deep").mkdir(parents=True)
    (tmp_path / "clips" / "a.txt").write_text("a rabbit")
    (tmp_path / "clips" / "deep" / "b.txt").write_text("a hat")
    return compose(WHOLE, [*small, "parts.backbone.weights=base", "parts.encoders.text.weights=nobody/nothing"])


def drifted(recipe, locked) -> list[str]:
    return [str(problem) for problem in lock_drift(recipe, locked, "recipe.lock.json")]


def test_a_lock_pins_everything_and_is_deterministic(recipe, tmp_path):
    locked = lock_recipe(recipe)
    assert locked["mgzoo"] == mgzoo.__version__ and locked["recipe"] == recipe.digest() and locked["schema"] == 1
    assert locked["plugins"] == {f"mgzoo-{name}": "0.1.0" for name in ("autoencoders", "backbones", "encoders", "samplers", "video")}
    assert locked["weights"] == {"base": {"commit": commit_of("base"), "digest": digest_file("base/mgzoo.json")}, "nobody/nothing": None}
    assert (locked["data"]["clips"]["files"], locked["data"]["clips"]["bytes"], locked["data"]["clips"]["of"]) == (2, 13, "content")
    first, second = write_lock(tmp_path / "1.json", locked), write_lock(tmp_path / "deep" / "2.json", lock_recipe(recipe))
    assert first.read_bytes() == second.read_bytes() and read_lock(first) == locked
    assert lock_drift(recipe, read_lock(first)) == []


def test_only_the_plugins_that_are_used_are_pinned():
    recipe = compose(WHOLE, ["data=null", "parts.task=null"])
    assert "mgzoo-video" not in lock_recipe(recipe)["plugins"] and lock_recipe(recipe)["data"] == {}


def test_another_version_of_anything_is_drift(recipe):
    locked = lock_recipe(recipe)
    old = {**locked, "mgzoo": "0.0.9", "plugins": {**locked["plugins"], "mgzoo-video": "0.0.1", "mgzoo-gone": "1.0"}}
    del old["plugins"]["mgzoo-encoders"]
    assert drifted(recipe, old) == [
        f"recipe.lock.json: mgzoo: locked to mgzoo 0.0.9, installed: {mgzoo.__version__}\n    -> pip install mgzoo==0.0.9, {AGAIN}",
        f"recipe.lock.json: plugins.mgzoo-encoders: the lock lacks mgzoo-encoders; the recipe uses it\n    -> revert the change, {AGAIN}",
        f"recipe.lock.json: plugins.mgzoo-gone: the lock has mgzoo-gone; the recipe no longer uses it\n    -> revert the change, {AGAIN}",
        f"recipe.lock.json: plugins.mgzoo-video: locked to mgzoo-video 0.0.1, installed: 0.1.0\n    -> pip install mgzoo-video==0.0.1, {AGAIN}",
    ]


def test_another_recipe_is_drift(recipe):
    locked = lock_recipe(recipe)
    other = compose(WHOLE, ["seed=1"])
    assert [problem.key for problem in lock_drift(other, locked)] == ["weights.base", "weights.nobody/nothing", "recipe"]
    assert all(problem.kind == "drift" and problem.origin is None for problem in lock_drift(other, locked))


@pytest.mark.parametrize("change", ["content", "name", "new"])
def test_data_that_changed_is_drift(recipe, tmp_path, change):
    locked = lock_recipe(recipe)
    if change == "content":
        (tmp_path / "clips" / "a.txt").write_text("a rabbIt")
    elif change == "name":
        (tmp_path / "clips" / "a.txt").rename(tmp_path / "clips" / "c.txt")
    else:
        (tmp_path / "clips" / "new.txt").write_text("")
    now = lock_recipe(recipe)["data"]["clips"]["digest"][:12]
    assert drifted(recipe, locked) == [
        f"recipe.lock.json: data.clips: locked to data {locked['data']['clips']['digest'][:12]}, found {now}\n    -> restore the locked version, {AGAIN}"]


def test_data_and_weights_that_went_away_are_drift(recipe, tmp_path):
    locked = lock_recipe(recipe)
    (tmp_path / "clips").rename(tmp_path / "moved")
    (tmp_path / "base").rename(tmp_path / "away")
    assert drifted(recipe, locked) == [
        f"recipe.lock.json: weights.base: the locked weights are not on this machine\n    -> mgzoo pull base, {AGAIN}",
        f"recipe.lock.json: data.clips: the locked data are not on this machine\n    -> restore them, {AGAIN}"]


def test_weights_that_changed_are_drift(recipe, tmp_path):
    locked = lock_recipe(recipe)
    path = tmp_path / "base" / "mgzoo.json"
    old, content = commit_of("base"), json.loads(path.read_text())
    path.write_text(json.dumps({**content, "description": "another"}))
    assert drifted(recipe, locked) == [
        f"recipe.lock.json: weights.base: locked to weights {old}, found {commit_of('base')}\n    -> restore the locked version, {AGAIN}"]


def test_large_data_is_pinned_by_names_and_sizes(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "CONTENT_BYTES", 12)
    locked = lock_recipe(recipe)
    assert locked["data"]["clips"]["of"] == "names and sizes"
    (tmp_path / "clips" / "a.txt").write_text("a rabbIt")
    assert lock_drift(recipe, locked) == []
    (tmp_path / "clips" / "a.txt").write_text("a rabbits")
    assert len(lock_drift(recipe, locked)) == 1


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 2}', '{"schema": 9, "recipe": "", "mgzoo": "", "plugins": {}, "weights": {}, "data": {}}'])
def test_a_file_that_is_no_lock_is_refused(tmp_path, text):
    path = tmp_path / "x.lock.json"
    path.write_text(text)
    with pytest.raises(MgzooError, match="is not a lock"):
        read_lock(path)
    with pytest.raises(MgzooError, match="no such lock file: .*\n    -> create it: mgzoo lock RECIPE"):
        read_lock(tmp_path / "nothing.json")


def test_locking_imports_no_torch():
    code = f"import sys, mgzoo\nfrom mgzoo.recipe.lock import lock_recipe\nlock_recipe(mgzoo.compose({str(WHOLE)!r}))\nprint({{'torch', 'numpy'}} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=WHOLE.parents[3]).stdout == "set()\n"
