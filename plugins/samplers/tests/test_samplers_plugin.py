"""Declaring costs no torch, and names what exists."""

import importlib
import subprocess
import sys

import pytest

from mgzoo.recipe.compose import compose
from mgzoo.spec import RecipeError
from mgzoo_samplers.plugin import mgzoo_components

FREE = """
import sys
from mgzoo_samplers.plugin import mgzoo_components
import mgzoo_samplers.configs
mgzoo_samplers.configs.EulerConfig.tiny().prediction_types()
assert not {"torch", "numpy"} & set(sys.modules), "declaring imported " + str({"torch", "numpy"} & set(sys.modules))
"""


def test_declaring_and_configuring_import_no_torch():
    subprocess.run([sys.executable, "-c", FREE], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_every_component_can_be_built_tiny():
    for component in mgzoo_components():
        assert component.namespace == "samplers"
        places = (path.partition(":") for path in (component.config, component.target))
        config, target = (getattr(importlib.import_module(module), name) for module, _, name in places)
        assert target(config.tiny()).config == config.tiny()
        assert config.tiny().num_parameters() == 0


RECIPE = """schema: 1
parts:
  encoders:
    text: {{use: encoders.bytes.v1, config: {{size: tiny}}}}
  objective: {objective}
  sampler: {sampler}
"""


def found(tmp_path, objective, sampler):
    """What our check says of a recipe of an encoder named text and these two parts."""
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(objective=objective, sampler=sampler))
    try:
        compose(path)
    except RecipeError as error:
        return [str(problem).replace(str(path), "r.yaml") for problem in error.problems if problem.kind == "sampler"]
    return []


@pytest.mark.parametrize(
    ("objective", "sampler"),
    [
        ("{use: samplers.v_diffusion.v1}", "{use: samplers.ddim.v1}"),
        ("{use: samplers.v_diffusion.v1, config: {schedule: cosine}}", "{use: samplers.ddim.v1, config: {schedule: cosine}}"),
        ("{use: samplers.flow_matching.v1}", "{use: samplers.euler.v1, config: {guidance_scales: {text: 3}}}"),
    ],
)
def test_parts_that_fit_have_no_problem(tmp_path, objective, sampler):
    assert found(tmp_path, objective, sampler) == []


def test_another_noise_schedule_than_the_objectives_is_found(tmp_path):
    objective = "{use: samplers.v_diffusion.v1, config: {schedule: cosine}}"
    assert found(tmp_path, objective, "{use: samplers.ddim.v1, config: {schedule: scaled_linear}}") == [
        "r.yaml:6: parts.sampler.config.schedule: the noise schedule of the sampler is scaled_linear, but that of the objective is cosine\n"
        "    -> set it to cosine"
    ]
    assert len(found(tmp_path, objective, "{use: samplers.ddim.v1}")) == 1  # nobody wrote the default that is wrong


def test_a_scale_for_no_condition_is_found(tmp_path):
    assert found(tmp_path, "{use: samplers.flow_matching.v1}", "{use: samplers.euler.v1, config: {guidance_scales: {text: 2, txet: 3}}}") == [
        "r.yaml:6: parts.sampler.config.guidance_scales: unknown condition txet\n    -> the conditions are text"
    ]
