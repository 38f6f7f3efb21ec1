"""What a third party sees of the kit: a class of tests, messages, and errors where there is no plugin."""

import dataclasses
import json
import re
import subprocess
import sys
import unittest
from pathlib import Path

import pytest

from mgzoo.discovery import DisabledPlugin, discover
from mgzoo.spec import KINDS, MgzooError
from mgzoo.testing import Subject, conformance, inputs, laws, models, suite
from mgzoo.testing.component_under_test import LawViolation
from mgzoo.testing.reference import COMPONENTS
from mgzoo.testing.subprocess_runner import run_in_subprocess


def test_a_plugin_gets_one_test_per_law_with_the_law_as_its_docstring():
    made = conformance("samplers")
    wanted = {f"test_{law.name}": law.text for law in laws() if {"objective", "sampler"} & set(law.kinds)}
    assert {name: test.__doc__ for name, test in vars(made).items() if name.startswith("test_")} == wanted
    assert made.__name__ == "TestSamplers" and [name for name in vars(made) if name.startswith("test_")][:2] == ["test_light", "test_named"]


def test_each_test_runs_for_the_components_that_its_law_is_about():
    for name, test in vars(conformance("samplers")).items():
        if name.startswith("test_"):
            (mark,) = test.pytestmark
            ids = {str(subject) for subject in mark.args[1]}
            kinds = next(law.kinds for law in laws() if f"test_{law.name}" == name)
            assert ids == {c.id for c in discover().components.values() if c.namespace == "samplers" and c.kind in kinds}


def test_a_broken_law_is_told_without_a_traceback():
    subject = Subject(component=COMPONENTS["sampler"], namespace="acme")
    law = next(law for law in laws("sampler") if law.name == "named")
    with pytest.raises(pytest.fail.Exception) as failure:
        suite._test(law, [subject])(None, subject)
    assert failure.value.pytrace is False
    assert failure.value.msg == (
        "reference.sampler.v1 breaks a law: Its id is namespace.name.vN in its plugin's namespace; a one-line summary and a licence in lower case are given.\n"
        "    the id 'reference.sampler.v1' does not start with 'acme.'"
    )


def test_an_error_of_the_part_names_the_authors_own_line(tmp_path, monkeypatch):
    (tmp_path / "mgzoo_loud").mkdir()
    (tmp_path / "mgzoo_loud" / "parts.py").write_text(
        "from mgzoo.testing.reference import ReferenceSampler\n\n\nclass Loud(ReferenceSampler):\n    def velocity(self, denoise, x, t, conditions):\n"
        "        return scaled(super().velocity(denoise, x, t, conditions))\n\n\ndef scaled(v):\n    return v @ v.new_ones(7, 7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    subject = Subject(component=dataclasses.replace(COMPONENTS["sampler"], target="mgzoo_loud.parts:Loud"), namespace="reference")
    law = next(law for law in laws("sampler") if law.name == "samples_are_as_specified")
    with pytest.raises(pytest.fail.Exception) as failure:
        suite._test(law, [subject])(None, subject)
    first, place, error = failure.value.msg.split("\n")
    assert failure.value.pytrace is False and first == f"reference.sampler.v1 raises where a law is tried: {law.text}"
    assert re.fullmatch(r"    \S*mgzoo_loud/parts\.py:10 in scaled: return v @ v\.new_ones\(7, 7\)", place)
    assert error.startswith("    RuntimeError: ") and "\n" not in error
    saved = next(law for law in laws("sampler") if law.name == "saved_and_loaded")
    with pytest.raises(LawViolation, match=r"mgzoo_loud/parts\.py:10 in scaled"):
        saved(subject)


def test_a_result_that_differs_says_which_law_of_randomness_is_broken(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent / "bad")
    for law, kind, part, said in (
        ("same_seed_same_bits", "encoder", "CountsItsCalls", "given the same twice, the values differs: it depends on the calls before"),
        ("draws_from_its_generator", "encoder", "Jitters", "forward draws from the global random state of torch, or seeds it: in eval mode it must draw nothing"),
        ("draws_from_its_generator", "sampler", "DrawsFromNumpy", "sample draws from the global random state of numpy, or seeds it: draw from the generator that it is given"),
        ("another_seed_gives_another_result", "sampler", "AlwaysTheSameNoise", "sample gives the same latents from two generators"),
        ("saved_and_loaded", "encoder", "Forgets", "it depends on something that is in no parameter and no buffer"),
    ):
        subject = Subject(component=dataclasses.replace(COMPONENTS[kind], target=f"bad_parts:{part}"), namespace="reference")
        with pytest.raises(LawViolation, match=re.escape(said)):
            next(one for one in laws(kind) if one.name == law)(subject)


def test_an_error_outside_the_part_keeps_its_traceback():
    subject = Subject(component=dataclasses.replace(COMPONENTS["sampler"], target="nowhere:Nothing"), namespace="reference")
    law = next(law for law in laws("sampler") if law.name == "samples_are_as_specified")
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        suite._test(law, [subject])(None, subject)


def test_a_plugin_that_is_not_installed_is_named():
    with pytest.raises(MgzooError, match="no plugin nobodys is installed\n    -> pip install -e . first"):
        conformance("nobodys")


def test_a_plugin_that_is_set_aside_says_why(monkeypatch):
    monkeypatch.setattr(discover(), "disabled", [DisabledPlugin(name="acme", distribution="mgzoo-acme 1.0", reason="acme.plugin imports torch")])
    with pytest.raises(MgzooError, match="mgzoo-acme 1.0: the plugin acme is disabled: acme.plugin imports torch"):
        conformance("acme")


def test_importing_the_kit_imports_neither_torch_nor_pytest():
    code = "import sys, json, mgzoo.testing, mgzoo.testing.component_under_test; print(json.dumps([m for m in ('torch', 'numpy', 'pytest') if m in sys.modules]))"
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == []


def test_a_request_that_the_kit_cannot_make_is_skipped_and_said():
    class Strange:
        def generate(self, model, *, melody): ...

    subject = Subject(component=COMPONENTS["task"], namespace="reference")
    subject.__dict__["target"] = Strange
    with pytest.raises(unittest.SkipTest, match="must be told melody, which the kit does not know"):
        models.example_request(subject)


def test_a_process_that_ends_says_so_and_another_takes_its_place(tmp_path, monkeypatch):
    (tmp_path / "ends_there.py").write_text(
        "import os, mgzoo.testing.reference\nclass Ends(mgzoo.testing.reference.ReferenceSampler):\n    pass\n"
        "if os.environ['HOME'].endswith('home'):\n    print('no more', flush=True)\n    os._exit(3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    subject = Subject(component=dataclasses.replace(COMPONENTS["sampler"], target="ends_there:Ends"), namespace="reference")
    error = run_in_subprocess(subject).error
    assert error.startswith("the process ended with exit code 3\n") and "no more" in error
    assert not run_in_subprocess(Subject(component=COMPONENTS["sampler"], namespace="reference")).error


def test_clips_of_the_kit_are_all_different():
    clips = [inputs.clip(i).load() for i in range(6)]
    assert len({clip.numpy().tobytes() for clip in clips}) == 6
    assert clips[0].float().diff(dim=0).abs().mean() > 1


def test_the_documentation_lists_every_law():
    page = (Path(__file__).parents[2] / "docs" / "plugin.md").read_text()
    table = page.partition("\n## Conformance tests\n")[2]
    listed = {word: row.split("|")[1] for row in table.splitlines() if row.startswith("| ") for word in re.findall(r"`(\w+)`", row)}
    assert set(listed) == {law.name for law in laws()}
    for law in laws():
        told, _, but = listed[law.name].partition("but ")
        kinds = set(re.findall(r"\w+", told)) - {"every"} or set(KINDS) - set(re.findall(r"\w+", but))
        assert kinds == set(law.kinds), law.name
