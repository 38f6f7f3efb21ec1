"""Parts that do not fit are found without torch; parameters that do not fit, on the meta device."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mgzoo.artifact.manifest import FileEntry, Manifest, PartEntry
from mgzoo.contracts import contract_of, contract_problems
from mgzoo.discovery import discover
from mgzoo.model.checks import meta_problems
from mgzoo.recipe.compose import compose
from mgzoo.spec import ConditionSpec, Contract, LatentSpec, RecipeError
from mgzoo.storage import digest_file

WHOLE = Path(__file__).parent / "broken_recipes" / "base" / "whole.yaml"
TAKE = "\n    -> use the parts of the training run of these weights, or remove `weights`"
LATENT = LatentSpec(space="autoencoders.tae16", channels=16, stride=(8, 8, 8))
TEXT = ConditionSpec(name="text", dim=128, max_len=64)


@pytest.fixture(autouse=True)
def ours_only(monkeypatch):
    monkeypatch.setenv("MGZOO_PLUGINS", "autoencoders,backbones,encoders,samplers,video")
    discover(refresh=True)
    yield
    monkeypatch.undo()
    discover(refresh=True)


def lines(overrides=()) -> list[str]:
    """Problems without their origin."""
    try:
        compose(WHOLE, overrides)
    except RecipeError as error:
        return [str(dataclasses.replace(problem, origin=None)) for problem in error.problems]
    return []


def artifact(folder: Path, part="backbone", use="backbones.llama3.v1", config=None, license="mit", contract=None) -> str:
    """What an artifact says of itself, without weights."""
    (folder / part).mkdir(parents=True)
    path = folder / part / "config.json"
    path.write_text(json.dumps(config if config is not None else dataclasses.asdict(discover().config_class(use).tiny())))
    files = {f"{part}/config.json": FileEntry(size=path.stat().st_size, blake3=digest_file(path))}
    manifest = Manifest(mgzoo="0.1.0", license=license, parts={part: PartEntry(use=use, trained=True)}, files=files,
                        contract=contract or Contract(latent=LATENT, conditions=(TEXT,)))
    (folder / "mgzoo.json").write_text(manifest.to_json())
    return str(folder)


def test_parts_that_fit_are_wired():
    recipe = compose(WHOLE)
    assert contract_of(recipe) == Contract(latent=LATENT, conditions=(TEXT,), concat_channels=0)
    assert contract_problems(recipe) == []
    alone = compose(WHOLE, [f"parts.{name}=null" for name in ("task", "encoders", "backbone", "objective", "sampler")])
    assert contract_of(alone) == Contract(latent=LATENT)


def test_encoders_keep_the_recipes_order():
    recipe = compose(WHOLE, ["parts.encoders.bytes={use: encoders.byt5.v1, config: {size: tiny}}"])
    assert [(c.name, c.dim) for c in contract_of(recipe).conditions] == [("text", 128), ("bytes", 64)]


def test_weights_that_fit_give_their_config_and_the_recipe_wins(tmp_path):
    tiny = dataclasses.asdict(discover().config_class("backbones.llama3.v1").tiny())
    ref = artifact(tmp_path / "a", config={**tiny, "depth": 3, "ffn": 64})
    part = f"parts.backbone={{use: backbones.llama3.v1, weights: '{ref}', config: {{ffn: 96}}}}"
    recipe = compose(WHOLE, ["parts.backbone=null", part])
    assert dataclasses.asdict(recipe.parts["backbone"].config) == {**tiny, "depth": 3, "ffn": 96}
    assert str(recipe.origins["parts.backbone.config.depth"][-1].origin) == f"{ref}/backbone/config.json"
    assert compose(WHOLE, [f"parts.backbone.weights={ref}"]).parts["backbone"].config.depth == 4  # the file says `size: tiny`


def test_a_field_that_the_component_no_longer_has_is_found_in_the_artifact(tmp_path):
    ref = artifact(tmp_path / "a", config={"depht": 3})
    assert lines(["parts.backbone=null", f"parts.backbone={{use: backbones.llama3.v1, weights: '{ref}'}}"]) == [
        "parts.backbone.config.depht: unknown key\n    -> did you mean depth?"]


@pytest.mark.parametrize("changed, line", [
    ({"space": "autoencoders.other"}, "latents of space autoencoders.other, the recipe's autoencoder has autoencoders.tae16"),
    ({"channels": 8}, "latents of channels 8, the recipe's autoencoder has 16"),
    ({"stride": (4, 8, 8)}, "latents of stride (4, 8, 8), the recipe's autoencoder has (8, 8, 8)"),
])
def test_a_backbone_of_other_latents_is_refused(tmp_path, changed, line):
    ref = artifact(tmp_path / "a", contract=Contract(latent=dataclasses.replace(LATENT, **changed), conditions=(TEXT,)))
    assert lines([f"parts.backbone.weights={ref}"]) == [f"parts.backbone.weights: {ref} was trained with {line}{TAKE}"]


@pytest.mark.parametrize("conditions, line", [
    ((dataclasses.replace(TEXT, dim=96),), "a condition 'text' of dim 96, the recipe's has 128"),
    ((dataclasses.replace(TEXT, kind="vector"),), "a condition 'text' of kind vector, the recipe's has tokens"),
    ((TEXT, dataclasses.replace(TEXT, name="face")), "the condition 'face', missing in the recipe"),
])
def test_a_backbone_of_other_conditions_is_refused(tmp_path, conditions, line):
    ref = artifact(tmp_path / "a", contract=Contract(latent=LATENT, conditions=conditions))
    assert lines([f"parts.backbone.weights={ref}"]) == [f"parts.backbone.weights: {ref} was trained with {line}{TAKE}"]


def test_a_widened_backbone_needs_its_feeds_and_a_plain_one_may_be_widened(tmp_path):
    ref = artifact(tmp_path / "a", contract=Contract(latent=LATENT, conditions=(TEXT,), concat_channels=17))
    assert lines([f"parts.backbone.weights={ref}"]) == [f"parts.backbone.weights: {ref} was trained with 17 extra input channels, the recipe has 0{TAKE}"]


def test_a_backbone_that_widens_goes_on_from_one_with_fewer_conditions_and_another_does_not(tmp_path, monkeypatch):
    ref = artifact(tmp_path / "a", contract=Contract(latent=LATENT, conditions=()))
    assert lines([f"parts.backbone.weights={ref}"]) == []
    from mgzoo_backbones.configs import Llama3Config

    monkeypatch.setattr(Llama3Config, "can_expand", lambda self: False)
    assert lines([f"parts.backbone.weights={ref}"]) == [f"parts.backbone.weights: {ref} was trained with no condition 'text'{TAKE}"]


def test_an_autoencoder_whose_config_leaves_its_weights_space_is_refused(tmp_path):
    ref = artifact(tmp_path / "a", "autoencoder", "autoencoders.tae.v1", contract=Contract(latent=LATENT))
    assert lines([f"parts.autoencoder.weights={ref}"]) == []
    assert lines([f"parts.autoencoder.weights={ref}", "parts.autoencoder.config.channels=8"]) == [
        f"parts.autoencoder.weights: {ref} was trained with latents of channels 16, the recipe's autoencoder has 8{TAKE}"]


def test_an_encoder_whose_width_leaves_its_weights_is_refused(tmp_path):
    ref = artifact(tmp_path / "a", "encoders.text", "encoders.bytes.v1")
    assert lines([f"parts.encoders.text.weights={ref}"]) == []
    assert lines([f"parts.encoders.text.weights={ref}", "parts.encoders.text.config.width=64"]) == [
        f"parts.encoders.text.weights: {ref} was trained with a condition 'text' of dim 128, the recipe's has 64{TAKE}"]


def test_weights_of_another_component_part_or_licence_are_refused(tmp_path):
    dit, text = artifact(tmp_path / "a", use="backbones.dit.v1"), artifact(tmp_path / "b", "encoders.text", "encoders.bytes.v1", license="cc-by-nc-4.0")
    assert lines([f"parts.backbone.weights={dit}"]) == [
        f"parts.backbone.weights: {dit} holds backbones.dit.v1, not backbones.llama3.v1\n    -> use: backbones.dit.v1, or other weights"]
    assert lines([f"parts.backbone.weights={text}"]) == ["parts.backbone.weights: the artifact has no part 'backbone'\n    -> it has encoders.text"]
    assert lines([f"parts.encoders.text.weights={text}", "policy.licenses=[apache-2.0, mit]"]) == [
        f"parts.encoders.text.weights: the licence of the weights {text} is cc-by-nc-4.0, not in policy.licenses"
        "\n    -> choose another, or add cc-by-nc-4.0 to policy.licenses"]


def test_a_damaged_manifest_is_one_problem(tmp_path):
    ref = artifact(tmp_path / "a")
    (tmp_path / "a" / "mgzoo.json").write_text("{")
    (line,) = lines([f"parts.backbone.weights={ref}"])
    assert line.startswith("parts.backbone") and "not JSON" in line


def test_weights_that_are_not_here_are_told_where_they_should_be(tmp_path):
    """Those of a network hub are fetched when they are needed, so that they are no problem yet."""
    (line,) = lines(["parts.backbone.weights=registry/nothing", "parts.autoencoder.weights=nobody/nothing"])
    assert line.startswith("parts.backbone.weights: registry has no artifact 'nothing'")
    assert lines([f"parts.backbone.weights={artifact(tmp_path / 'a')}"]) == []


PLUGIN = '''
from dataclasses import dataclass

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component, ConditionSpec, Problem, option


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    names: tuple[str, ...] = option(("text",), "conditions of its own")
    feed: int = option(0, "extra channels; negative ones are refused")

    def required_parts(self): return ("autoencoder", "encoder", "backbone")
    def modalities(self): return ("text",)
    def conditions(self): return tuple(ConditionSpec(name=name, dim=8, kind="vector") for name in self.names)
    def concat_channels(self, latent):
        if self.feed < 0:
            raise ValueError(f"feed {self.feed} of {latent.channels} channels makes no sense")
        return self.feed * latent.channels


@dataclass(frozen=True, kw_only=True)
class SilentConfig:
    pass


@hookimpl
def mgzoo_components():
    ids = {"task": "TaskConfig", "autoencoder": "SilentConfig", "data": "SilentConfig"}
    return [Component(id=f"stranger.{kind}.v1", kind=kind, config=f"stranger_plugin:{config}", target="stranger_plugin:Nothing",
                      summary="", license="gpl-3.0") for kind, config in ids.items()]


@hookimpl
def mgzoo_check(recipe):
    if recipe.seed == 13:
        return [Problem(what="13 is no lucky seed", remedy="take 7", key="seed", origin=recipe.origin("seed"), kind="luck")]
'''


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    folder = tmp_path / "stranger"
    (folder / "mgzoo_stranger-1.0.dist-info").mkdir(parents=True)
    (folder / "mgzoo_stranger-1.0.dist-info" / "METADATA").write_text("Name: mgzoo-stranger\nVersion: 1.0\n")
    (folder / "mgzoo_stranger-1.0.dist-info" / "entry_points.txt").write_text("[mgzoo]\nstranger = stranger_plugin\n")
    (folder / "stranger_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("MGZOO_PLUGINS", "autoencoders,backbones,encoders,samplers,video,stranger")
    discover(refresh=True)
    yield
    sys.modules.pop("stranger_plugin", None)


TASK = ["parts.objective=null", "parts.sampler=null", "parts.task=null"]


def test_a_strangers_task_brings_conditions_feeds_and_clashes(stranger):
    task = [*TASK, "parts.task={use: stranger.task.v1, config: {names: [fps], feed: 2}}"]
    wires = contract_of(compose(WHOLE, task))
    assert [(c.name, c.kind) for c in wires.conditions] == [("text", "tokens"), ("fps", "vector")] and wires.concat_channels == 32
    assert lines([*TASK, "parts.task={use: stranger.task.v1}"]) == [
        "parts.encoders.text: duplicate condition 'text', from encoder text and the task\n    -> rename the encoder",
        "data.config: condition text is given twice (data of 16x64x64)\n    -> change the size of the data, the stride or the patch"]
    assert lines([*TASK, "parts.task={use: stranger.task.v1, config: {names: [], feed: -1}}"]) == [
        "parts.task.config: feed -1 of 16 channels makes no sense\n    -> change the config of task"]


def test_a_config_that_lacks_a_method_names_its_distribution(stranger):
    assert lines(["parts.autoencoder={use: stranger.autoencoder.v1}"]) == [
        "parts.autoencoder: the config of stranger.autoencoder.v1 has no latent_spec()\n    -> upgrade or repair mgzoo-stranger"]
    with pytest.raises(RecipeError, match="has no latent"):
        contract_of(dataclasses.replace(compose(WHOLE), parts={"autoencoder": dataclasses.replace(
            compose(WHOLE).parts["autoencoder"], config=discover().config_class("stranger.autoencoder.v1")())}))


def test_a_strangers_licence_and_check_are_heard(stranger):
    assert lines([*TASK, "parts.task={use: stranger.task.v1, config: {names: []}}", "policy.licenses=[apache-2.0, mit]", "seed=13"]) == [
        "parts.task.use: the licence of the component stranger.task.v1 is gpl-3.0, not in policy.licenses"
        "\n    -> choose another, or add gpl-3.0 to policy.licenses",
        "seed: 13 is no lucky seed\n    -> take 7"]


def test_checking_contracts_needs_no_torch(tmp_path):
    ref = artifact(tmp_path / "a")
    code = f"import sys, mgzoo\nmgzoo.compose({str(WHOLE)!r}, ['parts.backbone.weights={ref}'])\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=WHOLE.parents[3]).stdout == "False\n"


def test_parameters_that_differ_from_the_headers_are_found_on_the_meta_device(tmp_path):
    from mgzoo.model.build import build
    from mgzoo.model.save import save

    small = ["parts.backbone.config={depth: 1, width: 32, heads: 1, ffn: 32}", "parts.encoders.text.config={depth: 1, width: 32, heads: 1, buckets: 64}"]
    ref = str(save(build(compose(WHOLE, small)), tmp_path / "a", golden=False))
    again = compose(WHOLE, [*small, f"parts.backbone.weights={ref}", f"parts.encoders.text.weights={ref}"])
    assert meta_problems(again) == []
    other = compose(WHOLE, [*small, f"parts.backbone.weights={ref}", "parts.backbone.config.depth=2", "parts.backbone.config.ffn=48"])
    found = [str(dataclasses.replace(problem, origin=None)) for problem in meta_problems(other)]
    assert len(found) > 3 and all(line.startswith(f"parts.backbone.weights: in {ref}, ") for line in found)
    assert any("missing tensor" in line for line in found) and any("has shape [32, 32], the part has" in line or "the part has [48, 32]" in line for line in found)
    assert all(problem.kind == "shape" and problem.origin.source == "command line" for problem in meta_problems(other))


def test_a_config_whose_answers_fail_is_a_problem_and_no_crash(stranger):
    registry = discover()
    config, task = registry.config_class("stranger.task.v1"), ["parts.task={use: stranger.task.v1, config: {names: []}}"]
    config.conditions = lambda self: 1 / 0
    config.modalities = lambda self: __import__("numpy").arange(3)
    repair = "\n    -> upgrade or repair mgzoo-stranger"
    assert sorted(lines([*TASK, *task])) == [
        f"parts.task: conditions() of the config of stranger.task.v1 failed: ZeroDivisionError: division by zero{repair}",
        f"parts.task: modalities() of the config of stranger.task.v1 failed: {__name__} imports numpy; plugin.py and configs must not import "
        f"torch, numpy, deepspeed, transformers or diffusers{repair}"]
    assert lines([*TASK, "parts.task={use: stranger.task.v1, config: {size: tiny}}"]) == [
        "parts.task.use: TaskConfig.tiny() failed: AttributeError: type object 'TaskConfig' has no attribute 'tiny'"
        "\n    -> repair the plugin, or set the fields"]
