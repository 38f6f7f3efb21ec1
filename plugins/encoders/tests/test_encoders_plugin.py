"""Declaring costs no torch, and names what exists."""

import importlib
import subprocess
import sys

from mgzoo_encoders.plugin import mgzoo_components

FREE = """
import sys
from mgzoo_encoders.plugin import mgzoo_components
from mgzoo_encoders import configs
for name in ("BytesConfig", "T5Config", "ByT5Config", "MetaClipConfig", "MetaClipVisionConfig", "PatchesConfig"):
    config = getattr(configs, name)()
    config.condition_spec("text"), config.num_parameters(), config.input_modality()
heavy = {"torch", "numpy", "transformers", "tokenizers"} & set(sys.modules)
assert not heavy, f"declaring imported {heavy}"
"""


def test_declaring_and_planning_import_no_torch():
    subprocess.run([sys.executable, "-c", FREE], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_every_component_can_be_built_tiny():
    for component in mgzoo_components():
        assert component.namespace == "encoders" and component.kind == "encoder"
        places = (path.partition(":") for path in (component.config, component.target))
        config, target = (getattr(importlib.import_module(module), name) for module, _, name in places)
        assert target(config.tiny(), name="here").spec.name == "here"
