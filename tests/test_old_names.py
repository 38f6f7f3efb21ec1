"""A plugin written against the names of before (kept as it was in old_names/) works for a release, and says in one line a class what to rename."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgzoo import spec
from mgzoo.old_names import CONFIG_METHODS, accept_old_names, accepted_arguments

FROZEN = Path(__file__).parent / "old_names"
RECIPE = """\
schema: 1
parts:
  autoencoder: {use: frozen.patches.v1, config: {size: tiny}}
  encoders: {text: {use: frozen.words.v1, config: {size: tiny}}}
  backbone: {use: frozen.mixer.v1, config: {size: tiny}}
  objective: {use: frozen.weighted_flow.v1}
  sampler: {use: frozen.heun.v1, config: {steps: 2}}
  task: {use: frozen.boomerang.v1, config: {size: tiny}}
data: {use: frozen.stripes.v1, config: {size: tiny}}
train: {batch: 2, steps: 2}
"""


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(FROZEN), "DS_ACCELERATOR": "cpu"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=600)


def test_a_plugin_of_the_old_names_is_checked_built_and_generates_with_a_line_for_each_class(tmp_path):
    (tmp_path / "old.yaml").write_text(RECIPE)
    done = python("-m", "mgzoo", "check", "old.yaml", "--meta", cwd=tmp_path)
    assert done.stdout == "old.yaml: OK\n", done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if "uses old names; the next release removes them: rename" in line]
    classes = ("MixerConfig", "PatchesConfig", "WordsConfig", "WeightedFlowConfig", "HeunConfig", "BoomerangConfig", "StripesConfig")
    assert all(sum(name in line for line in said) == 1 for name in classes) and len(said) == len(classes), done.stderr
    code = "import mgzoo; print(len(mgzoo.build(mgzoo.compose('old.yaml')).generate('a red ball').video))"
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0 and int(done.stdout) > 1, done.stderr


def test_the_laws_hold_for_a_plugin_of_the_old_names(tmp_path):
    (tmp_path / "test_frozen.py").write_text("from mgzoo.testing import conformance\n\nTestFrozen = conformance('frozen')\n")
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_frozen.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_name_of_now_wins_over_the_old_one():
    said = []

    class Base:
        def latent_spec(self):
            return "now"

    class Both(Base):
        def latent(self):
            return "before"

    class Old:
        latent = 3

        def better(self):
            return "lower"

    assert accept_old_names(Both, CONFIG_METHODS["autoencoder"], said.append)().latent_spec() == "before"  # nearer to the class
    assert accept_old_names(Base, CONFIG_METHODS["autoencoder"], said.append)().latent_spec() == "now" and len(said) == 1
    assert not hasattr(accept_old_names(Old, CONFIG_METHODS["autoencoder"], said.append), "latent_spec")  # a value is no method
    assert accept_old_names(Old, CONFIG_METHODS["metric"], said.append)().higher_is_better() is False
    assert said[-1].endswith("Old uses old names; the next release removes them: rename better -> higher_is_better")


def test_a_config_of_now_answers_by_the_old_names_and_its_subclasses_are_of_now():
    said = []

    class Now:
        def latent_spec(self):
            return "now"

    class Below(Now):
        pass

    assert accept_old_names(Now, CONFIG_METHODS["autoencoder"], said.append)().latent() == "now" and len(said) == 1
    assert accept_old_names(Below, CONFIG_METHODS["autoencoder"], said.append)().latent_spec() == "now" and len(said) == 1


def test_a_part_is_given_the_argument_that_it_takes():
    assert accepted_arguments(lambda config, feeds: None, {"concat_channels": 3}) == {"feeds": 3}
    assert accepted_arguments(lambda config, concat_channels: None, {"concat_channels": 3}) == {"concat_channels": 3}


@pytest.mark.parametrize("old, new", [("Ask", "RequestOption"), ("FILES", "FILE_KINDS"), ("SEEDS", "SEED_LIMIT")])
def test_old_names_of_spec(old, new):
    with pytest.warns(DeprecationWarning, match=new):
        assert getattr(spec, old) is getattr(spec, new)


def test_the_old_kind_of_a_request_option():
    with pytest.warns(DeprecationWarning, match="integer"):
        assert spec.RequestOption(name="n", kind="whole", help="how many") == spec.RequestOption(name="n", kind="integer", help="how many")
