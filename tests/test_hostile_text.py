"""Texts that strangers write: whatever a recipe or a manifest holds, it is read, or refused with problems, within bounds."""

import json
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgzoo.artifact.manifest import MAX_RECIPE_BYTES, Manifest, parse_manifest
from mgzoo.errors import ArtifactError
from mgzoo.recipe.compose import compose
from mgzoo.recipe.recipe import Recipe
from mgzoo.spec import RecipeError

RECIPE = """\
schema: 1
description: smallest
seed: 0
parts:
  autoencoder: {use: autoencoders.tae.v1, config: {size: tiny}, frozen: true}
  encoders: {text: {use: encoders.bytes.v1, config: {size: tiny}}}
  backbone: {use: backbones.llama3.v1, config: {size: tiny}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2, guidance: 2.0}}
  task: {use: video.text_to_video.v1, config: {frames: 8, height: 32, width: 32, fps: 8.0}}
data: {use: video.clips.v1, config: {path: clips, frames: 8, height: 32, width: 32, license: mit}}
train: {batch: 4, micro_batch: 4, lr: 1.0e-3, steps: 2}
stages:
  - {name: a, steps: 5, set: {data.config.frames: 1, train.lr: 1.0e-3}}
policy: {licenses: [mit, apache-2.0]}
zero: {stage: 2}
"""
SPOTS = [match.span() for match in re.finditer(r"(?<=: )[^,{}\[\]\n]+|(?<=[{ ])\w+(?=:)", RECIPE)]
ODD = st.sampled_from([
    "null", "[]", "{}", "[1, 2]", "{a: 1}", "-1", "1e999", ".nan", "!!python/object:os.system x", "!!binary aGk=", "&a", "*a", "? x", "%YAML 1.1\n---",
    "${seed}", "${parts}", "${stages.0.name}", "${oc.env:HOME}", "${a.b", "???", "true", "1:2", "2020-01-01", "[[[[", "}", "9" * 5000, "\t", "\0", "\u2028",
    "\ufeff", '"\\ud800"', "'", "|", "- ", "<<: x", "../x", "org/name", "x" * 300, "\\", "tiny", "registry/none@v1",
]) | st.text(max_size=6)  # fmt: skip


def composed(path: Path) -> Recipe | None:
    """The recipe, or None where it was refused with problems; nothing else may come out of it."""
    try:
        return compose(path)
    except RecipeError as error:
        assert error.problems and all(one.what and one.remedy for one in error.problems)
        return None


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.sampled_from(SPOTS), ODD), min_size=1, max_size=2))
def test_a_recipe_with_odd_values_in_it_is_a_recipe_or_has_problems(tmp_path_factory, changes):
    text, path = RECIPE, tmp_path_factory.getbasetemp() / "odd.yaml"
    for (start, end), odd in sorted(dict(changes).items(), reverse=True):
        text = text[:start] + odd + text[end:]
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    composed(path)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=60) | st.text(alphabet="{}[]:-?&*!|>'\"#%@,$ \n\tab1.", max_size=60).map(str.encode), place=st.integers(0, len(RECIPE)))
def test_any_bytes_anywhere_in_a_recipe_do_no_more(tmp_path_factory, data, place):
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(RECIPE[:place].encode() + data + RECIPE[place:].encode())
    composed(path)


def deep(opening: str, closing: str, times: int) -> str:
    return opening * times + "1" + closing * times


@pytest.mark.parametrize("line", [
    "stages: " + deep("[", "]", 300), "train: " + deep("{a: ", "}", 300), "description: " + deep("[", "]", 1500),
    "policy: {licenses: " + deep("[", "]", 90) + "}", "\n".join(" " * i + "a:" for i in range(700)),
    "stages: [{name: [x], steps: 1}, {name: {a: b}, steps: 2}]", "seed: ${" + "a." * 1000 + "a}",
], ids=range(7))  # fmt: skip
def test_deep_and_strange_recipes_are_refused(tmp_path, line):
    (tmp_path / "deep.yaml").write_text(f"schema: 1\n{line}\n")
    assert composed(tmp_path / "deep.yaml") is None


def test_references_that_multiply_are_stopped(tmp_path):
    """Thirty lines that each name the next one twice would be a text of ten gigabytes."""
    stages = "".join(f"  - {{name: '${{stages.{i + 1}.name}}${{stages.{i + 1}.name}}', steps: 1}}\n" for i in range(30))
    (tmp_path / "bomb.yaml").write_text(f"schema: 1\nstages:\n{stages}  - {{name: xxxxxxxxxx, steps: 1}}\n")
    with pytest.raises(RecipeError, match="the recipe is too large after interpolation") as caught:
        compose(tmp_path / "bomb.yaml")
    assert len(str(caught.value)) < 10_000


def test_a_recipe_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "large.yaml", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RecipeError, match=f"the file cannot be read: it has more than {MAX_RECIPE_BYTES:,} bytes"):
        compose(tmp_path / "large.yaml")


def test_the_recipe_of_an_artifact_reads_no_other_file(tmp_path):
    (tmp_path / "secret.yaml").write_text("password: hunter2\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mgzoo.json").write_text("{}")
    (tmp_path / "model" / "recipe.yaml").write_text("schema: 1\ndefaults: [../secret.yaml]\n")
    with pytest.raises(RecipeError, match="the recipe of an artifact must not have `defaults`") as caught:
        compose(tmp_path / "model" / "recipe.yaml")
    assert "hunter2" not in str(caught.value)


# ------------------------------------------------------------------------------------------- manifests

DIGEST = "a" * 64
MANIFEST = {
    "schema": 1, "mgzoo": "0.1.0", "description": "tiny", "license": "mit", "requires": [{"distribution": "mgzoo-video", "version": "0.1.0"}],
    "parts": {"backbone": {"use": "backbones.llama3.v1", "trained": True, "weights": ["backbone/model.safetensors"]},
              "autoencoder": {"use": "autoencoders.tae.v1", "trained": False, "weights": {"repo": "a/b", "commit": "0" * 12, "part": "autoencoder", "digest": DIGEST}}},
    "contract": {"latent": {"space": "s", "channels": 4, "stride": [1, 2, 2], "layout": "video"}, "feeds": 0,
                 "conditions": [{"name": "text", "dim": 8, "kind": "tokens", "max_len": 4, "optional": True}]},
    "metrics": {"loss": 0.5}, "files": {"backbone/model.safetensors": {"size": 1, "blake3": DIGEST}},
}  # fmt: skip


def parsed(data: bytes) -> Manifest | None:
    try:
        manifest = parse_manifest(data)
    except ArtifactError as error:
        assert error.problems and all(one.what and one.remedy and str(one).encode() for one in error.problems)
        return None
    assert parse_manifest(manifest.to_json().encode()) == manifest
    return manifest


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(child, (*path, key))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10) | st.sampled_from(["\ud800", "a\x1b[2J", "\u202e", "x" * 30_000, 10**300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_the_manifest_that_is_changed_below_is_a_good_one():
    assert parsed(json.dumps(MANIFEST).encode())


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from(list(places(MANIFEST))), value=anything, key=st.none() | st.text(max_size=8))
def test_any_value_anywhere_in_a_manifest_is_read_or_refused(path, value, key):
    """value stands in the place of what was there, or, with a key, beside it."""
    content = json.loads(json.dumps(MANIFEST))
    around = content
    for step in path[:-1]:
        around = around[step]
    if not path:
        content = value
    elif key is not None and isinstance(around, dict):
        around[key] = value
    else:
        around[path[-1]] = value
    parsed(json.dumps(content).encode())


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=8), place=st.integers(0, len(json.dumps(MANIFEST))))
def test_any_bytes_anywhere_in_a_manifest_are_read_or_refused(data, place):
    text = json.dumps(MANIFEST).encode()
    parsed(text[:place] + data + text[place:])


@pytest.mark.parametrize("data", [
    b'{"a":' * 100_000, b"[" * 999_999, b'{"files": {' + b'"a": 1, ' * 120_000 + b'"b": 1}}', b'{"schema": ' + b"9" * 900_000 + b"}",
    b'{"files": {' + b", ".join(b'"%d": 1' % i for i in range(70_000)) + b"}}", b'{"description": "' + rb"\ud800" * 100_000 + b'"}', b"[" + b"{}, " * 200_000 + b"{}]",
], ids=["deep", "brackets", "twice", "digits", "many", "surrogates", "list"])  # fmt: skip
def test_a_manifest_made_to_cost_much_costs_little(data):
    """Time that grew with the square of its length would be hours."""
    tracemalloc.start()
    assert parsed(data) is None
    assert tracemalloc.get_traced_memory()[1] < 400_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("text", ["red\x1b[31m", "a\rb", "bell\a", "\x9b2J", "right \u202e to left", "\x00"])
def test_text_that_could_forge_what_a_terminal_shows_is_refused(text):
    for change in ({"description": text}, {"license": text}, {"metrics": {"note": text}}, {"metrics": {text: 1}}):
        assert parsed(json.dumps({**MANIFEST, **change}).encode()) is None
    assert parsed(json.dumps({**MANIFEST, "description": "zwei\nZeilen\tund 👩🏽‍🚀"}).encode())
