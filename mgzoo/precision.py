"""Default precision of devices. Never imports torch for a CPU.

bfloat16 needs instructions of its own. A CPU with AVX2 alone (most desktops, many servers) emulates it: a matrix product takes
about 60 times the time of float32's, a convolution 40 to 130 times. What is stored in bfloat16 is computed in float32 there.
"""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Literal

from mgzoo.spec import MgzooError

Precision = Literal["bf16", "fp32"]
VARIABLE = "MGZOO_PRECISION"
"""Environment variable that answers in place of the device: ``bf16`` or ``fp32``."""
CPU_LEVELS = {"AMX": ("amx_bf16", "amx_tile"), "AVX512-BF16": ("avx512_bf16",), "AVX512": ("avx512f",), "AVX2": ("avx2",)}
"""Name of an instruction set -> the flags in ``/proc/cpuinfo`` that it takes, the widest first."""
WITH_BF16 = ("AMX", "AVX512-BF16")


@functools.cache
def cpu_info() -> dict[str, str]:
    """The first processor's entries in ``/proc/cpuinfo``; empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return dict(reversed([[word.strip() for word in line.split(":", 1)] for line in lines if ":" in line]))


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of the CPU as Linux names them; empty on other systems."""
    info = cpu_info()
    return frozenset(info.get("flags", info.get("Features", "")).split())


def cpu_level() -> str:
    """The widest instruction set of `CPU_LEVELS` that torch may use here, else the machine's name (``aarch64``).

    oneDNN (products, convolutions) obeys ``ONEDNN_MAX_CPU_ISA``, torch's own loops ``ATEN_CPU_CAPABILITY``; the narrower one counts.
    """
    onednn = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL"
    return _widest(cpu_flags(), onednn.upper(), os.environ.get("ATEN_CPU_CAPABILITY", "").lower())


@functools.cache
def _widest(flags: frozenset[str], onednn: str, aten: str) -> str:
    for level, needed in CPU_LEVELS.items():
        if all(flag in flags for flag in needed) and _allowed(level, onednn, aten):
            return level
    return platform.machine()


def _allowed(level: str, onednn: str, aten: str) -> bool:
    """Whether both variables let torch use an instruction set."""
    if aten in ("default", "avx2") and level.startswith(("AVX512", "AMX")):
        return False
    if level == "AMX":
        return onednn in ("ALL", "DEFAULT") or "AMX" in onednn
    if level == "AVX512-BF16":
        return onednn in ("ALL", "DEFAULT") or any(word in onednn for word in ("BF16", "FP16", "AMX", "AVX10"))
    if level == "AVX512":
        return not onednn.startswith(("SSE", "AVX2")) and onednn != "AVX"
    return not onednn.startswith("SSE") and onednn != "AVX" and aten != "default"


def computes_bf16(device: str = "cpu") -> bool:
    """Whether a device (``cpu``, ``cuda``, ``meta``) has instructions for bfloat16; nothing is emulated in the answer.

    `VARIABLE` answers in its place. Raises `MgzooError` where that holds another word.
    """
    said = os.environ.get(VARIABLE)
    if said:
        if said not in ("bf16", "fp32"):
            raise MgzooError(f"{VARIABLE} is {said!r}", remedy="set it to bf16 or fp32, or unset it")
        return said == "bf16"
    kind = str(device).partition(":")[0]
    if kind == "cuda":
        import torch

        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return kind != "cpu" or cpu_level() in WITH_BF16


def preferred(device: str = "cpu") -> Precision:
    """The precision for ``train.precision: auto`` on a device."""
    return "bf16" if computes_bf16(device) else "fp32"


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU, as its driver says; torch is not asked."""
    return any(Path("/proc/driver/nvidia/gpus").glob("*"))


def reason(device: str = "cpu") -> str:
    """The reason for the result of `preferred`, as text."""
    if os.environ.get(VARIABLE):
        return f"{VARIABLE} is set"
    what = {"cpu": f"this CPU ({cpu_level()})", "cuda": "this GPU"}.get(str(device).partition(":")[0], f"the device {device}")
    return f"{what} {'has' if computes_bf16(device) else 'has no'} bfloat16 instructions"


def processor(device: str = "cpu") -> str:
    """The kind of processor that results depend on in their last bits: ``x86_64 AVX2``, ``cuda 9.0``."""
    if str(device).startswith("cuda"):
        import torch

        return "cuda {}.{}".format(*torch.cuda.get_device_capability(device))
    level = cpu_level()
    return level if level == platform.machine() else f"{platform.machine()} {level}"


def of(model) -> dict[str, str]:
    """What a loaded `mgzoo.model.model.Model` computes in and where, as generated files record it: {precision, processor}."""
    kind = str(model.device)
    halves = any(str(value.dtype) == "torch.bfloat16" for value in model.parameters())
    return {"precision": "bf16" if halves else "fp32", "processor": processor(kind)}
