"""`mgzoo doctor`: what a bug report needs to say about a machine, without importing torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from mgzoo.cli import output
from mgzoo.cli.plugins import commands

DISTRIBUTIONS = (
    "torch", "deepspeed", "safetensors", "huggingface_hub", "transformers", "diffusers", "omegaconf", "pluggy", "av", "numpy",
)
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")
VARIABLES = ("MGZOO_", "HF_", "DS_", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NO_COLOR", "RANK", "WORLD_SIZE", "LOCAL_RANK")
SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD")


def doctor(arguments) -> int:
    """Print the report; exit code 1 when a plugin was set aside or what mgzoo needs is missing."""
    report = examine()
    if arguments.json:
        output.emit_json(report)
    else:
        print(_text(report))
    return 1 if report["problems"] else 0


def examine() -> dict:
    """The report as data: versions, machine, disk, plugins, environment, and `problems` in words."""
    from mgzoo.discovery import discover

    registry = discover()
    versions = {name: _version(name) for name in ("mgzoo", *DISTRIBUTIONS)}
    problems = [
        f"{name} is not installed: pip install {name}" for name in ("torch", "deepspeed") if versions[name] is None
    ]
    problems += [str(one) for one in (*registry.set_aside, *commands(registry)[1])]
    disk = shutil.disk_usage(Path.cwd())
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "cpu": {"cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), **_cpu()},
        "memory": _memory(),
        "gpus": len(list(Path("/proc/driver/nvidia/gpus").glob("*"))),
        "disk": {"folder": str(Path.cwd()), "free": disk.free, "total": disk.total},
        "plugins": [
            {"namespace": provider.namespace, "distribution": provider.distribution, "version": provider.version}
            for _, provider in sorted(registry.providers.items())
        ],
        "environment": _environment(),
        "problems": problems,
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> dict:
    """Model name and the instruction sets that decide how fast bfloat16 is, from ``/proc/cpuinfo`` where there is one."""
    found = Path("/proc/cpuinfo")
    lines = found.read_text(errors="replace").splitlines() if found.is_file() else []
    values = dict(reversed([[word.strip() for word in line.split(":", 1)] for line in lines if ":" in line]))
    flags = values.get("flags", values.get("Features", "")).split()
    return {"model": values.get("model name", platform.machine()), "flags": {flag: flag in flags for flag in FLAGS}}


def _memory() -> dict:
    found = Path("/proc/meminfo")
    lines = found.read_text().splitlines() if found.is_file() else []
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    return {"total": values.get("MemTotal"), "available": values.get("MemAvailable")}


def _environment() -> dict:
    """Variables that change what mgzoo does; a secret's value is never shown."""
    shown = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}
    return {name: "(set)" if any(word in name for word in SECRET) else value for name, value in shown.items()}


def _bf16(flags: dict) -> str:
    if flags["amx_bf16"]:
        return "fast (AMX)"
    return "fast (AVX512-BF16)" if flags["avx512_bf16"] else "no instructions of its own: consider train.precision=fp32"


def _text(report: dict) -> str:
    cpu, memory, disk = report["cpu"], report["memory"], report["disk"]
    rows = [
        ("python", report["python"]),
        ("platform", report["platform"]),
        *((name, version or "not installed") for name, version in report["versions"].items()),
        ("cpu", f"{cpu['model']}, {cpu['cores']} cores"),
        ("flags", " ".join(flag for flag, there in cpu["flags"].items() if there) or "none of " + " ".join(FLAGS)),
        ("bfloat16", _bf16(cpu["flags"])),
        ("memory", f"{output.size(memory['available'])} available of {output.size(memory['total'])}" if memory["total"] else "unknown"),
        ("gpus", str(report["gpus"])),
        ("disk", f"{output.size(disk['free'])} free of {output.size(disk['total'])} at {disk['folder']}"),
        *(("plugin", f"{one['namespace']} ({one['distribution']} {one['version']})") for one in report["plugins"]),
        *(("env", f"{name}={value}") for name, value in report["environment"].items()),
        *(("problem", problem) for problem in report["problems"]),
    ]
    return output.table(rows, indent=0)
