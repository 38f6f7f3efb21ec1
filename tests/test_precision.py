"""Which precision a device computes in: without torch, obeying what limits torch, and the same for all who ask."""

import subprocess
import sys

import pytest
import torch

from mgzoo import precision
from mgzoo.recipe.schema import Train
from mgzoo.spec import MgzooError
from mgzoo.train.deepspeed_config import deepspeed_config

FLAGS = {
    "desktop": "sse4_2 avx avx2",
    "server": "sse4_2 avx avx2 avx512f avx512bw avx512vl",
    "genoa": "sse4_2 avx avx2 avx512f avx512bw avx512vl avx512_bf16",
    "sapphire": "sse4_2 avx avx2 avx512f avx512bw avx512vl avx512_bf16 amx_tile amx_bf16",
}


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", precision.VARIABLE):
        monkeypatch.delenv(name, raising=False)


def on(monkeypatch, machine: str, **variables: str) -> tuple[str, str]:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(FLAGS[machine].split()))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return precision.cpu_level(), precision.preferred("cpu")


@pytest.mark.parametrize(
    "machine, level, wanted",
    [("desktop", "AVX2", "fp32"), ("server", "AVX512", "fp32"), ("genoa", "AVX512-BF16", "bf16"), ("sapphire", "AMX", "bf16")],
)
def test_bf16_where_the_cpu_has_instructions_for_it(monkeypatch, machine, level, wanted):
    assert on(monkeypatch, machine) == (level, wanted)


@pytest.mark.parametrize(
    "variables, level, wanted",
    [
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, "AVX2", "fp32"),
        ({"ONEDNN_MAX_CPU_ISA": "avx512_core_vnni"}, "AVX512", "fp32"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "AVX512-BF16", "bf16"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "AMX", "bf16"),
        ({"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, "AMX", "bf16"),
        ({"DNNL_MAX_CPU_ISA": "AVX2_VNNI"}, "AVX2", "fp32"),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, "AVX2", "fp32"),
        ({"ATEN_CPU_CAPABILITY": "avx512"}, "AMX", "bf16"),
    ],
)
def test_what_limits_torch_limits_the_answer(monkeypatch, variables, level, wanted):
    assert on(monkeypatch, "sapphire", **variables) == (level, wanted)


def test_the_variable_answers_in_place_of_the_device_and_takes_two_words(monkeypatch):
    assert on(monkeypatch, "desktop", MGZOO_PRECISION="bf16")[1] == "bf16"
    assert on(monkeypatch, "sapphire", MGZOO_PRECISION="fp32")[1] == "fp32"
    with pytest.raises(MgzooError, match="MGZOO_PRECISION is 'half'"):
        on(monkeypatch, "desktop", MGZOO_PRECISION="half")


def test_torch_reports_the_same_of_this_cpu():
    assert precision.computes_bf16("cpu") == bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def test_the_answer_for_a_cpu_needs_no_torch():
    code = "import sys; from mgzoo import precision; precision.preferred(), precision.processor(), precision.reason(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_engine_is_never_made_of_a_precision_that_is_not_settled():
    from mgzoo.recipe.schema import Zero

    with pytest.raises(AssertionError, match="settled"):
        deepspeed_config(Train(), Zero(), 1, "cpu")
