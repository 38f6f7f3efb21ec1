"""Recipes: YAML layers with origins, every problem at once, and a tree that composes to itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mgzoo
from mgzoo.discovery import discover
from mgzoo.recipe.compose import compose, copy_recipe
from mgzoo.recipe.overrides import as_text, parse_override_value
from mgzoo.recipe.recipe import explain
from mgzoo.recipe.shipped import find_recipe, recipe_folders, recipe_names
from mgzoo.recipe.yaml_tree import parse_yaml
from mgzoo.recipe.yaml_writer import dump_yaml
from mgzoo.spec import MgzooError, Origin, RecipeError

HERE = Path(__file__).parent
BROKEN = sorted((HERE / "broken_recipes").glob("*.yaml"))
WHOLE = "base/whole.yaml"


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    """Messages name files relative to the working folder, and ids of our own plugins only."""
    monkeypatch.chdir(HERE / "broken_recipes")
    monkeypatch.setenv("MGZOO_PLUGINS", "audio,autoencoders,backbones,edit,encoders,personalize,samplers,video")
    discover(refresh=True)
    yield
    monkeypatch.undo()
    discover(refresh=True)


def problems_of(source, overrides=()) -> list[str]:
    with pytest.raises(RecipeError) as error:
        compose(source, overrides)
    return [str(problem) for problem in error.value.problems]


def write(tmp_path, text: str, name: str = "recipe.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


# -- problems


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_recipe_gives_exactly_these_lines(path):
    assert "\n".join(problems_of(Path(path.name))) + "\n" == path.with_suffix(".txt").read_text()


def test_ten_different_mistakes_give_ten_problems_with_file_line_and_remedy():
    with pytest.raises(RecipeError) as error:
        compose(Path("ten_mistakes.yaml"))
    found = error.value.problems
    assert len(found) == 10 and len({problem.kind for problem in found}) == 9  # two unknown keys: the schema's, a part's
    assert all(problem.origin.source == "ten_mistakes.yaml" and problem.origin.line and problem.remedy for problem in found)
    assert str(error.value).startswith("10 problems\n")
    assert json.loads(json.dumps(found[0].to_dict()))["origin"] == {"source": "ten_mistakes.yaml", "line": 2}


def test_overrides_are_checked_like_lines():
    assert problems_of(WHOLE, ["train.lrr=1", "train.lr", "=3", "a b=1", "seed=[", "stages.0.steps=5", "parts.backbone.config.depth=two"]) == [
        "command line: the override 'train.lr' is not of the form a.b=value\n    -> for example train.lr=1e-4",
        "command line: the override '=3' is not of the form a.b=value\n    -> for example train.lr=1e-4",
        "command line: the override 'a b=1' is not of the form a.b=value\n    -> for example train.lr=1e-4",
        "command line: train.lrr: unknown key\n    -> did you mean lr?",
        "command line: stages: {'0': {'steps': 5}} is not a list\n    -> write a list of {name, steps, set}",
        "command line: seed: invalid YAML: expected the node content, but found '<stream end>'\n"
        "    -> correct the indentation, quotes or brackets at or before this line",
        "command line: parts.backbone.config.depth: Value 'two' of type 'str' could not be converted to Integer\n"
        "    -> depth takes int: transformer blocks",
    ]


AS_TYPED = ["clips #2", "#2", "a: b", "a:", "*.tar", "&x", "@x", "%x", "%YAML 1.2", "`x`", "!x", "!!int 3", " x ", "it's", "'it's", '"x', "[clips]", "{a: b}", "[clips",
            "null", "~", "~/clips", "", " ", "2026-11-28", "0x10", "1_000", "yes", "true", "007", "1e3", "1.50", "- x", "? x", "--- x", "|", ">", "> x", "-", "=", "<<",
            "x #", "one\ntwo", "one\n\n two\n", "'x' # y", "C:\\clips", "a\tb", "16:9", "\u2028", "...", "x\n..."]


@pytest.mark.parametrize("value", AS_TYPED)
def test_an_override_of_a_text_is_the_text_that_was_typed(value, tmp_path):
    """Whatever YAML would make of it, on every way to a key: of the schema, of a config, of a stage's, of a list of texts; and a
    saved recipe says the same."""
    recipe = compose(WHOLE, [f"description={value}", f"data.config.path={value}"])
    assert (recipe.description, recipe.data.config.path, recipe.tree["data"]["config"]["path"]) == (value,) * 3
    assert explain(recipe, "data.config.path").startswith(f"data.config.path = {json.dumps(value, ensure_ascii=False)}\n    command line\n    overrides ")
    again = compose(write(tmp_path, recipe.to_yaml()))
    assert (again.description, again.data.config.path) == (value, value)


def test_quotes_around_the_whole_of_an_override_are_yaml():
    for written, value in (('"clips #2"', "clips #2"), ("'007'", "007"), ('"a\\tb"', "a\tb"), ("''", ""), (' "x" ', "x"), ("|\n  one\n  two\n", "one\ntwo\n")):
        assert compose(WHOLE, [f"data.config.path={written}"]).data.config.path == value


def test_texts_inside_an_override_in_brackets_are_as_typed():
    recipe = compose(WHOLE, ["policy.licenses=[mit, apache-2.0, 007, yes, 1_000]", "data={config: {path: 007}}", "stages=[{name: 0x10, steps: 1, set: {train.lr: 1e-4}}]"])
    assert recipe.policy.licenses == ["mit", "apache-2.0", "007", "yes", "1_000"]
    assert (recipe.data.config.path, recipe.stages[0].name, recipe.at_stage(0).train.lr) == ("007", "0x10", 1e-4)


def test_what_may_be_left_out_is_left_out_by_null_or_nothing_and_is_text_otherwise():
    for written, value in (("null", None), ("", None), ("~", None), ('"null"', "null"), ("clips #2", "clips #2"), ("7", "7"), ("~/x", "~/x")):
        assert as_text(parse_override_value(written, []), str | None).value == value


def test_nothing_of_an_override_is_dropped_where_its_key_is_no_text():
    """What YAML would take for a comment, a mark or a second line is no part of a number: refused, with the value as it was typed."""
    for value in ("3 # high", "&x 3", "!!int 3", "--- 3", "3\n...", "3\n4", "*x", "%x"):
        (line,) = problems_of(WHOLE, [f"train.batch={value}"])
        first = value.split("\n")[0]
        assert line.startswith(f"command line: train.batch: Value '{first}") and "batch takes int" in line
    assert problems_of(WHOLE, ["policy.licenses=[mit] # x"])[0].startswith("command line: policy.licenses: ")
    assert [line.split("\n")[0] for line in problems_of(WHOLE, ["train={batch: 3", "zero=[1, # x]"])] == [
        "command line: train: invalid YAML: expected ',' or '}', but got '<stream end>'",
        "command line: zero: invalid YAML: expected the node content, but found '<stream end>'",
    ]
    assert compose(WHOLE, ["train.batch= 6 ", "train.betas=[0.8,\n 0.9]", "train={warmup: 3, lr: 1e-4}", "zero=stage: 1"]).train.betas == (0.8, 0.9)


@pytest.mark.parametrize("value", ["a\x1b[31mb", "a\x00", "\udcff", "\x7f"])
def test_an_override_that_no_file_can_hold_is_refused(value):
    (line,) = problems_of(WHOLE, [f"description={value}"])
    assert line.startswith("command line: description: ") and "contains a control character or invalid UTF-8" in line and value not in line


def test_an_index_beyond_the_list_and_unquoted_references_say_so():
    stages = "stages=[{name: a, steps: 1}]"
    assert problems_of(WHOLE, [stages, "stages.1.steps=2"]) == [
        "command line: stages.1.steps: the list has no such entry\n    -> count from 0, or replace the whole list"]
    assert problems_of(WHOLE, [stages, "stages.x.steps=2", "stages.-1=3"]) == [
        "command line: stages.x.steps: the list has no such entry\n    -> count from 0, or replace the whole list",
        "command line: stages.-1: the list has no such entry\n    -> count from 0, or replace the whole list"]
    assert problems_of(WHOLE, ["train={warmup: ${train.steps}}"]) == [
        "command line: train: invalid YAML: expected ',' or '}', but got '{'\n    -> put quotes around ${...} inside brackets"]


@pytest.mark.parametrize("value", ["3", "[a]", "null", "???", "text"])
def test_a_stage_that_sets_no_map_is_one_problem(value):
    (problem,) = problems_of(WHOLE, [f"stages=[{{name: a, steps: 1, set: {value}}}]"])
    assert problem.startswith("command line: stages.0.set: ")


def test_a_stage_that_reaches_beyond_a_list_is_a_problem():
    stage = "stages=[{name: a, steps: 1, set: {data.config.held_out.7: x}}]"
    assert problems_of(WHOLE, ["data.config.held_out=[a]", stage]) == [
        "command line: stages.0.set.data.config.held_out.7: the list has no such entry\n    -> count from 0, or replace the whole list"]


def test_numbers_that_are_not_finite_and_seeds_out_of_range_are_problems():
    wrong = ["train.lr=.nan", "train.max_grad_norm=.inf", "parts.sampler.config.guidance=nan", "train.weight_decay=1e999", "seed=-1"]
    assert [line.split("\n")[0] for line in problems_of(WHOLE, wrong)] == [
        "command line: train.lr: nan is not finite",
        "command line: train.weight_decay: inf is not finite",
        "command line: train.max_grad_norm: inf is not finite",
        "command line: parts.sampler.config.guidance: 'nan' is not finite",
        "command line: seed: -1 is out of range",
    ]
    assert problems_of(WHOLE, [f"seed={2**64}"]) == [f"command line: seed: {2**64} is out of range\n    -> choose one from 0 to {2**64 - 1}"]
    assert compose(WHOLE, [f"seed={2**64 - 1}"]).seed == 2**64 - 1


def test_all_that_is_wrong_with_a_map_of_the_schema_is_said_at_once():
    wrong = ["train.steps=0", "train.batch=-3", "train.warmup=-1", "zero.reduce_bucket_size=0", "zero.offload_parameters=true", "zero.stage=2"]
    assert [line.split("\n")[0] for line in problems_of(WHOLE, wrong)] == [
        "command line: train: steps must be at least 1, not 0",
        "command line: train: batch must be at least 1, not -3",
        "command line: train: warmup must not be negative, not -1",
        "command line: zero: reduce_bucket_size must be at least 1, not 0",
        "command line: zero: offload_parameters needs stage 3, not 2",
    ]


def test_what_is_wrong_in_every_stage_is_said_once():
    stages = "stages=[{name: a, steps: 1, set: {train.lr: 1e-3}}, {name: b, steps: 1, set: {data.config.shuffle: false}}]"
    (problem,) = problems_of(WHOLE, [stages, "data.config.frames=0"])
    assert "frames must be at least 1" in problem


def test_keys_and_defaults_that_are_no_text_are_shown_as_they_were_written(tmp_path):
    path = write(tmp_path, "schema: 1\n? [a, b]\n: 3\ndefaults: [{a: 1}]\nstages: [null]\n")
    assert [line.split(": ", 1)[1].split("\n")[0] for line in problems_of(path)] == [
        "a key is a list or a map", "defaults: unknown recipe \"{'a': 1}\"", "stages.0: null is not a map"]


def test_a_plugin_that_is_known_but_not_installed_gives_its_pip_line(monkeypatch):
    monkeypatch.setenv("MGZOO_PLUGINS", "backbones,samplers,video,encoders")
    discover(refresh=True)
    assert problems_of(WHOLE) == [
        "base/whole.yaml:5: parts.autoencoder.use: unknown component 'autoencoders.tae.v1'\n    -> pip install mgzoo-autoencoders"
    ]


def test_no_file_and_no_name_say_what_there_is():
    with pytest.raises(MgzooError, match="no such recipe file: base/hole.yaml"):
        compose("base/hole.yaml")
    with pytest.raises(MgzooError, match="unknown recipe 'tiny/emojit2v'\n    -> did you mean tiny/emoji_t2v"):
        compose("tiny/emojit2v")
    with pytest.raises(MgzooError, match="no such recipe file: tiny/emoji_t2v.yaml\n    -> did you mean tiny/emoji_t2v"):
        compose("tiny/emoji_t2v.yaml")
    with pytest.raises(MgzooError, match="no such recipe file: tiny/emoji_t2v.yaml\n    -> did you mean tiny/emoji_t2v"):
        compose("tiny/emoji_t2v.yaml")


# -- what a recipe says


def test_a_recipe_is_typed_and_complete():
    recipe = compose(WHOLE)
    assert list(recipe.parts) == ["autoencoder", "encoders.text", "backbone", "objective", "sampler", "task"]
    part = recipe.parts["encoders.text"]
    assert (part.name, part.kind, part.component.id, part.provider.distribution, part.weights, part.frozen) == (
        "encoders.text", "encoder", "encoders.bytes.v1", "mgzoo-encoders", None, False)
    config = discover().config_class("backbones.llama3.v1")
    assert recipe.parts["backbone"].config == config.tiny()
    assert recipe.data.name == recipe.data.kind == "data" and recipe.data.config.frames == 16
    assert recipe.train.batch == 8 and recipe.train.betas == (0.9, 0.95) and recipe.train.ema.decay == 0.999
    assert recipe.stages == () and recipe.zero.stage == 1 and recipe.seed == 0 and not recipe.invalid_parts


def test_numbers_and_text_are_those_of_yaml_1_2(tmp_path):
    text = "defaults: [WHOLE]\ndescription: 16:9\ntrain: {lr: 1e-4, weight_decay: 1E+0, batch: 0x10, debug: false}\nseed: 1_000\n"
    recipe = compose(write(tmp_path, text.replace("WHOLE", os.path.relpath(WHOLE, tmp_path))))
    assert (recipe.description, recipe.train.lr, recipe.train.weight_decay, recipe.train.batch, recipe.seed) == ("16:9", 1e-4, 1.0, 16, 1000)


@pytest.mark.parametrize("text", ["{path: ???}", "{a: ???, b: [???, ?x], c: ???x}", "path: ???", "? key\n: value", "{? key : value}"])
def test_question_marks_in_flow_maps_read_as_in_yaml_1_2(text):
    problems = []
    node = parse_yaml(text, "test", problems)
    assert not problems
    assert node.plain() in ({"path": "???"}, {"a": "???", "b": ["???", "?x"], "c": "???x"}, {"key": "value"})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co"))),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text("abcdefgh_.16:9 -", min_size=1), children, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text("abcdefgh_", min_size=1), plain, min_size=1, max_size=4))
def test_what_is_dumped_reads_back_the_same(tree):
    problems = []
    node = parse_yaml(dump_yaml(tree), "test", problems)
    assert not problems and node.plain() == tree and repr(node.plain()) == repr(tree)


@pytest.mark.parametrize("value", ["16:9", "1e-4", "yes", "null", "~", "", "???", "- a", "a: b", "#", "2020-01-01", "0o7", "1_0", ".inf", "é\u2028"])
def test_text_that_looks_like_something_else_stays_text(value):
    assert parse_yaml(dump_yaml({"a": value}), "test", []).plain() == {"a": value}


def test_layers_merge_in_order_lists_replace_and_the_file_itself_is_last(tmp_path):
    base = os.path.relpath(WHOLE, tmp_path)
    write(tmp_path, "train: {lr: 1.0, batch: 2}\npolicy: {licenses: [mit, apache-2.0]}\n", "one.yaml")
    write(tmp_path, "train: {lr: 2.0, steps: 3}\n", "two.yaml")
    recipe = compose(write(tmp_path, f"defaults: [{base}, one.yaml, two.yaml]\ntrain: {{steps: 4}}\npolicy: {{licenses: [apache-2.0, mit, cc0]}}\n"))
    assert (recipe.train.lr, recipe.train.batch, recipe.train.steps) == (2.0, 2, 4)
    assert recipe.policy.licenses == ["apache-2.0", "mit", "cc0"]


def test_another_component_keeps_the_settings_that_it_has_too(tmp_path, caplog):
    """Weights and adapter go; of the config what both have stays with its origin, and the rest is named."""
    base = os.path.relpath(WHOLE, tmp_path)
    write(tmp_path, f"defaults: [{base}]\nparts: {{backbone: {{weights: nobody/nothing, frozen: true, config: {{depth: 3}}}}}}\n", "base.yaml")
    same = compose(write(tmp_path, "defaults: [base.yaml]\nparts: {backbone: {use: backbones.llama3.v1, config: {heads: 2}}}\n")).parts["backbone"]
    assert (same.config.depth, same.config.heads, same.config.width, same.weights, same.frozen) == (3, 2, 128, "nobody/nothing", True)
    recipe = compose(write(tmp_path, "defaults: [base.yaml]\nparts: {backbone: {use: backbones.dit.v1}}\n"))
    changed = recipe.parts["backbone"]
    assert (changed.config.depth, changed.config.width, changed.weights, changed.frozen) == (3, 128, None, True)
    assert recipe.origins["parts.backbone.config.depth"][-1].origin.source.endswith("base.yaml")
    override = compose(WHOLE, ["parts.backbone.use=backbones.dit.v1", "parts.backbone.config.depth=5"]).parts["backbone"]
    assert (override.config.depth, override.config.width) == (5, 128)
    back = compose(WHOLE, ["parts.backbone.use=backbones.dit.v1", "parts.backbone.use=backbones.llama3.v1"])
    assert back.parts["backbone"].config == compose(WHOLE).parts["backbone"].config and not caplog.records
    swaps = ["parts.sampler.use=samplers.linear_quadratic.v1", "parts.sampler.config.linear_steps=100", "parts.sampler.config.steps=9", "parts.sampler.use=samplers.euler.v1"]
    assert compose(WHOLE, swaps).parts["sampler"].config.steps == 9
    assert [one.message for one in caplog.records] == ["samplers.euler.v1 does not take linear_steps of the component that it replaces: dropped; kept steps"]


def test_a_setting_that_the_other_component_cannot_hold_is_dropped(caplog):
    recipe = compose(WHOLE, ["parts.backbone.config.eps=0.5", "parts.backbone.use=backbones.dit.v1"])
    assert recipe.parts["backbone"].config.eps == 0.5
    assert compose(WHOLE, ["parts.backbone.config.width=wide", "parts.backbone.use=backbones.dit.v1"]).parts["backbone"].config.width == 128
    assert "does not take width" in caplog.text


def test_null_takes_a_part_out():
    assert "sampler" not in compose(WHOLE, ["parts.sampler=null", "parts.task=null"]).parts
    assert problems_of(WHOLE, ["parts.encoders.text=null"]) == [
        "base/whole.yaml:4: parts: video.text_to_video.v1 needs an encoder\n    -> add parts.encoders.NAME, one of audio.frames.v1, encoders.byt5.v1, encoders.bytes.v1, "
        "encoders.metaclip.v1, encoders.metaclip_vision.v1, encoders.patches.v1, encoders.t5.v1"
    ]


def test_tiny_is_the_start_and_fields_beside_it_win():
    for written in (["parts.sampler.config={size: tiny, guidance: 2}"], ["parts.sampler.config.guidance=2", "parts.sampler.config.size=tiny"]):
        config = compose(WHOLE, written).parts["sampler"].config
        assert (config.steps, config.guidance) == (4, 2.0)


def test_a_config_field_of_its_own_called_size_is_a_size(monkeypatch):
    vision = ["parts.task=null", "parts.encoders.text.use=encoders.metaclip_vision.v1"]
    assert compose(WHOLE, [*vision, "parts.encoders.text.config={size: 56}"]).parts["encoders.text"].config.size == 56
    assert compose(WHOLE, [*vision, "parts.encoders.text.config={size: tiny}"]).parts["encoders.text"].config.size == 32


def test_references_take_values_of_any_key_defaults_included():
    recipe = compose(WHOLE, ["train.warmup=${train.steps}", "description=${seed} of ${train.batch}", "parts.backbone.config.ffn=${parts.backbone.config.width}",
                             "train.betas=[0.5, '${train.min_lr_ratio}']", "data.config.held_out=[a, '${data.config.path}.txt']"])
    assert recipe.train.warmup == 10 and recipe.description == "0 of 8" and recipe.train.betas == (0.5, 0.05)
    assert recipe.parts["backbone"].config.ffn == 128 and recipe.data.config.held_out == ("a", "clips.txt")
    assert recipe.origins["train.warmup"][-1].raw == "${train.steps}"


# -- stages


STAGES = ["stages=[{name: a, steps: 5, set: {data.config.frames: 1, train.lr: '${train.weight_decay}'}}, {name: b, steps: 6}]", "stages.1.steps=7"]


def test_a_stage_is_the_recipe_with_its_settings_over_it():
    recipe = compose(WHOLE, [*STAGES, "train.weight_decay=0.5"])
    first, last = recipe.at_stage(0), recipe.at_stage(-1)
    assert (first.data.config.frames, first.train.lr, last.data.config.frames, last.train.lr) == (1, 0.5, 16, 1e-3)
    assert recipe.stages[1].steps == 7 and recipe.data.config.frames == 16 and first.stages == recipe.stages
    assert first.digest() != recipe.digest() == last.digest()
    with pytest.raises(IndexError):
        recipe.at_stage(2)


def test_a_value_that_only_a_stage_sets_is_checked_at_once():
    assert problems_of(WHOLE, ["stages=[{name: a, steps: 5, set: {data.config.height: 60}}]"]) == [
        "command line: data.config: height 60 is not a multiple of the autoencoder's stride 8 (data of 16x60x64)\n"
        "    -> change the size of the data, the stride or the patch"
    ]


# -- identity


@pytest.mark.parametrize("name", sorted(recipe_names()))
def test_every_shipped_recipe_composes_to_itself(name, tmp_path):
    recipe = compose(name)
    again = compose(write(tmp_path, recipe.to_yaml()))
    assert again.tree == recipe.tree and again.digest() == recipe.digest() and again.to_yaml() == recipe.to_yaml()
    assert again.parts == recipe.parts and again.train == recipe.train and again.stages == recipe.stages
    for index in range(len(recipe.stages)):
        assert again.at_stage(index).tree == recipe.at_stage(index).tree


def test_the_digest_knows_every_value_and_no_layout(tmp_path):
    digests = {compose(WHOLE, change).digest() for change in ([], ["seed=1"], ["parts.backbone.config.depth=3"], ["parts.backbone.frozen=true"], ["data.config.path=x"])}
    assert len(digests) == 5
    assert compose(WHOLE).digest() == compose(WHOLE, ["seed=0"]).digest() == compose(WHOLE, ["train.lr=0.1e-2"]).digest()




# -- explain, cp, names


def test_explain_tells_value_origin_and_what_it_overrode():
    recipe = compose(WHOLE, ["train.batch=4", "train.warmup=${train.steps}"])
    assert explain(recipe, "train.batch") == "train.batch = 4\n    command line\n    overrides 8    base/whole.yaml:13\n    overrides 32    default of Train"
    assert explain(recipe, "train.warmup") == "train.warmup = 10    (from ${train.steps})\n    command line\n    overrides 100    default of Train"
    assert explain(recipe, "parts.backbone.config.width") == (
        "parts.backbone.config.width = 128\n    Llama3Config.tiny()\n    overrides 6144    default of Llama3Config")
    assert explain(recipe, "parts.task").splitlines()[:2] == ["parts.task.use = \"video.text_to_video.v1\"", "    base/whole.yaml:11"]
    assert explain(recipe, "data.config.path") == "data.config.path = \"clips\"\n    base/whole.yaml:12"
    with pytest.raises(MgzooError, match="the recipe has no key 'train.bach'\n    -> did you mean train.batch"):
        explain(recipe, "train.bach")


def test_every_leaf_of_the_tree_has_an_origin():
    recipe = compose(WHOLE, STAGES)

    def under(value, key):
        if isinstance(value, dict) and value:
            return [leaf for name, child in value.items() for leaf in under(child, f"{key}.{name}" if key else name)]
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            return [leaf for i, child in enumerate(value) for leaf in under(child, f"{key}.{i}")]
        return [key]

    leaves = under(recipe.tree, "")
    assert len(leaves) > 100 and set(leaves) <= recipe.origins.keys()
    assert recipe.origin("train.batch") == Origin(source="base/whole.yaml", line=13)
    assert recipe.origin("parts.backbone.config.width").line == recipe.origin("parts.backbone.use").line == 8
    assert recipe.origin("parts.none").source == "base/whole.yaml"


def test_a_copy_composes_to_the_same_tree_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = copy_recipe("ablations/emoji_dit", "mine.yaml")
    assert path == Path("mine.yaml") and "defaults: [ablations/base]" in path.read_text() and path.read_text().startswith("# ")
    assert compose("mine.yaml").tree == compose("ablations/emoji_dit").tree
    with pytest.raises(MgzooError, match="mine.yaml exists"):
        copy_recipe("ablations/emoji_dit", "mine.yaml")
    assert copy_recipe("tiny/emoji_t2v", tmp_path / "folder" / "deep.yaml").is_file()


def test_of_two_recipes_of_one_name_equal_ones_are_one_and_else_the_working_folders_counts(tmp_path, monkeypatch, caplog):
    """As in a clone of the repository beside an installed mgzoo."""
    monkeypatch.chdir(tmp_path)
    own = find_recipe("tiny/emoji_t2v")
    path = tmp_path / "recipes" / "tiny" / "emoji_t2v.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(own.read_bytes())
    assert recipe_folders()[0] == Path("recipes") and find_recipe("tiny/emoji_t2v").read_bytes() == own.read_bytes() and not caplog.records
    path.write_text("defaults: [../base.yaml]\ntrain: {lr: 0.5}\n")
    path.parents[1].joinpath("base.yaml").write_bytes(own.read_bytes())
    for _ in range(2):
        assert find_recipe("tiny/emoji_t2v") == Path("recipes/tiny/emoji_t2v.yaml") and compose("tiny/emoji_t2v").train.lr == 0.5
    (record,) = caplog.records
    assert record.getMessage() == f"tiny/emoji_t2v is recipes/tiny/emoji_t2v.yaml, not {own} (different content): give the file to choose"


def test_a_plugins_recipe_of_a_name_that_is_taken_is_an_error_unless_it_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own, other = find_recipe("tiny/circle"), tmp_path / "plugin" / "tiny" / "circle.yaml"
    other.parent.mkdir(parents=True)
    monkeypatch.setitem(discover().recipe_folders, "acme", tmp_path / "plugin")
    other.write_bytes(own.read_bytes())
    assert find_recipe("tiny/circle") == own
    other.write_text("schema: 1\n")
    with pytest.raises(MgzooError, match="the recipe name 'tiny/circle' is ambiguous: .*circle.yaml and .*circle.yaml\n    -> give the path"):
        find_recipe("tiny/circle")


# -- laws


def test_composing_every_shipped_recipe_imports_nothing_heavy():
    code = ("import sys, mgzoo\nfrom mgzoo.recipe.shipped import recipe_names\nassert not {'omegaconf', 'ruamel.yaml'} & sys.modules.keys()\n"
            "for name in recipe_names(): mgzoo.compose(name).to_yaml()\n"
            "print(sorted({'torch', 'numpy', 'deepspeed', 'transformers', 'diffusers'} & sys.modules.keys()))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parent)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_public_verbs_are_there_and_imported_lazily():
    code = "import sys, mgzoo\nassert not [m for m in sys.modules if m.startswith('mgzoo.')], sys.modules\nprint(mgzoo.__version__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parent).stdout == f"{mgzoo.__version__}\n"
    assert {"compose", "build", "train", "load", "push", "pull", "Model", "Media"} <= set(dir(mgzoo))
    assert mgzoo.compose is compose
    with pytest.raises(AttributeError, match="module 'mgzoo' has no attribute 'decompose'"):
        mgzoo.decompose  # noqa: B018


@pytest.mark.parametrize("text, what", [
    ("%YAML 1.1\n---\nschema: yes\n", "YAML directives are not supported"),
    ("[" * 3000, "invalid YAML: maximum recursion depth exceeded"),
    ("seed: 1\n---\nseed: 2\n", "invalid YAML: but found another document"),
    ("seed: \x00\n", "invalid YAML: unacceptable character #x0000"),
])
def test_hostile_text_is_one_problem(tmp_path, text, what):
    (line,) = problems_of(write(tmp_path, text))
    assert what in line
    assert parse_yaml("a: 16:9", "test", []).plain() == {"a": "16:9"}


def test_numbers_that_are_none_are_told(tmp_path):
    text = f"defaults: [{os.path.relpath(WHOLE, tmp_path)}]\nseed: {'9' * 5000}\ntrain: {{betas: [0.5, '${{train.nothing}}']}}\n"
    first, second = problems_of(write(tmp_path, text))
    assert "seed: '9999999999999999999999999999999999999999' is not a number" in first and "train.betas.1: the recipe has no key ${train.nothing}" in second


def test_a_recipe_that_is_no_text_is_one_problem(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"schema: \xff\n")
    (line,) = problems_of(path)
    assert "the file cannot be read" in line and "save it as UTF-8 text" in line
    path.write_bytes(b"\xef\xbb\xbf" + compose(WHOLE).to_yaml().replace("\n", "\r\n").encode())
    assert compose(path).tree == compose(WHOLE).tree


def test_each_manifest_is_parsed_once(monkeypatch):
    """tiny/personalize names three artifacts in five stages and two of them share a manifest: not 72 times, as it once was."""
    from mgzoo.artifact import manifest
    from mgzoo.artifact.manifest import _parsed_manifest, parse_manifest

    _parsed_manifest.cache_clear()
    parsed, parse = [], parse_manifest
    monkeypatch.setattr(manifest, "parse_manifest", lambda data, source: parsed.append(source) or parse(data, source))
    compose(Path(__file__).parents[1] / "recipes/tiny/personalize.yaml")
    assert 0 < len(parsed) == len(set(parsed)) <= 3
    parsed.clear()
    compose(Path(__file__).parents[1] / "recipes/tiny/personalize.yaml")
    assert not parsed


def test_what_is_converted_once_is_a_copy_each_time():
    """Lists of a recipe are its own: changing them in one changes no other."""
    first, second = (compose("tiny/emoji_t2v") for _ in range(2))
    first.tree["data"]["config"]["held_out"].append("other")
    assert "other" not in second.tree["data"]["config"]["held_out"] and "other" not in compose("tiny/emoji_t2v").tree["data"]["config"]["held_out"]
    assert compose("tiny/emoji_t2v").digest() == second.digest() != first.digest()
