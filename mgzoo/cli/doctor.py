"""`mgzoo doctor`: machine report for bug reports, without a torch import, secrets or home folder names."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from pathlib import Path

from mgzoo import machine, precision, storage
from mgzoo.cli import output
from mgzoo.cli.plugins import commands

DISTRIBUTIONS = (
    "torch", "deepspeed", "safetensors", "huggingface_hub", "transformers", "diffusers", "omegaconf", "pluggy", "av", "numpy",
)
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")
VARIABLES = ("MGZOO_", "HF_", "DS_", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NO_COLOR", "RANK", "WORLD_SIZE", "LOCAL_RANK")
SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD")
LEAST_DISK = 2**30
"""Bytes: a run's checkpoints and a pulled model seldom take less."""


def doctor(arguments) -> int:
    """Print the report; exit code 1 for a disabled plugin, or missing or outdated requirements."""
    report = redact(examine())
    if arguments.json:
        output.emit_json(report)
    else:
        print(f"```text\n{_text(report)}\n```")  # as a bug report shows it
    return 1 if report["problems"] else 0


def examine() -> dict:
    """The report as data: versions, machine, disk, plugins, environment, and `problems` in words."""
    from mgzoo.discovery import discover

    registry = discover()
    versions = {name: _version(name) for name in ("mgzoo", *DISTRIBUTIONS)}
    needed_by = ["mgzoo", *sorted({provider.distribution for provider in registry.providers.values()})]
    disk = shutil.disk_usage(Path.cwd())
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    problems = [one for name in needed_by for one in _unmet(name)]
    problems += [str(one) for one in (*registry.disabled, *commands(registry)[1])]
    problems += _machine_problems(disk.free, gpus, versions["torch"] or "")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "cpu": {"cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), **_cpu()},
        "memory": machine.memory(),
        "gpus": gpus,
        "disk": {"folder": str(Path.cwd()), "free": disk.free, "total": disk.total},
        "plugins": [
            {"namespace": provider.namespace, "distribution": provider.distribution, "version": provider.version}
            for _, provider in sorted(registry.providers.items())
        ],
        "environment": _environment(),
        "problems": problems,
    }


def _unmet(distribution: str) -> list[str]:
    """What a distribution asks for and is not there, or not in a version that it takes, each with the pip line."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        asked = importlib.metadata.requires(distribution) or ()
    except importlib.metadata.PackageNotFoundError:
        return []
    problems = []
    for text in asked:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            problems.append(f"{distribution} has an invalid requirement {text!r}: upgrade {distribution}")
            continue
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        found = _version(wanted.name)
        if found is None:
            problems.append(f"{wanted.name} is required by {distribution} and not installed: pip install '{wanted.name}{wanted.specifier}'")
        elif not wanted.specifier.contains(found, prereleases=True):
            problems.append(f"{wanted.name} {found} does not meet the requirement of {distribution}: pip install '{wanted.name}{wanted.specifier}'")
    return list(dict.fromkeys(problems))


def _machine_problems(free: int, gpus: int, torch: str) -> list[str]:
    """What stands in a training's way on this machine, each with what to do."""
    problems = []
    if free < LEAST_DISK:
        problems.append(f"only {output.size(free)} free on this disk: free some space, or work on another disk")
    cache = storage.output_cache().absolute()
    above = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        problems.append(f"the cache is not writable: {above} is not a writable folder; set MGZOO_HOME to a writable folder")
    extensions = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions")
    if not gpus and not any(shutil.which(name) for name in ("c++", "g++", "clang++")) and not any(extensions.rglob("cpu_adam*.so")):
        problems.append("no C++ compiler found; DeepSpeed compiles its CPU optimizer at the first training: install g++ (apt-get install g++)")
    if gpus and torch.endswith("+cpu"):
        problems.append(f"{gpus} GPUs found, but torch {torch} is built without CUDA: install a CUDA build of torch")
    elif gpus and os.environ.get("DS_ACCELERATOR") == "cpu":
        problems.append(f"{gpus} GPUs found, but DS_ACCELERATOR=cpu disables them for DeepSpeed: unset it")
    return problems


def redact(value):
    """The report without the path of the home folder and without passwords in addresses, wherever they stand."""
    if isinstance(value, dict):
        return {key: redact(one) for key, one in value.items()}
    if isinstance(value, list):
        return [redact(one) for one in value]
    if not isinstance(value, str):
        return value
    home = str(Path.home())
    if home not in ("/", ""):
        value = re.sub(rf"{re.escape(home)}(?=/|$|[^\w.-])", "~", value)
    return re.sub(r"(\w+://)[^/\s@]+@", r"\1(set)@", value)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> dict:
    """Model name and the instruction sets that decide how fast bfloat16 is, from ``/proc/cpuinfo`` where there is one."""
    flags = precision.cpu_flags()
    return {
        "model": precision.cpu_info().get("model name", platform.machine()),
        "flags": {flag: flag in flags for flag in FLAGS},
        "precision": precision.preferred("cpu"),
        "reason": precision.reason("cpu"),
    }


def _environment() -> dict:
    """Variables that change what mgzoo does; a secret's value is never shown."""
    shown = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}
    return {name: "(set)" if any(word in name for word in SECRET) else value for name, value in shown.items()}


def _text(report: dict) -> str:
    cpu, memory, disk = report["cpu"], report["memory"], report["disk"]
    rows = [
        ("python", report["python"]),
        ("platform", report["platform"]),
        *((name, version or "not installed") for name, version in report["versions"].items()),
        ("cpu", f"{cpu['model']}, {cpu['cores']} cores"),
        ("flags", " ".join(flag for flag, there in cpu["flags"].items() if there) or "none of " + " ".join(FLAGS)),
        ("precision", f"{cpu['precision']} on the CPU: {cpu['reason']}"),
        ("memory", f"{output.size(memory['available'])} available of {output.size(memory['total'])}" if memory["total"] else "unknown"),
        ("gpus", str(report["gpus"])),
        ("disk", f"{output.size(disk['free'])} free of {output.size(disk['total'])} at {disk['folder']}"),
        *(("plugin", f"{one['namespace']} ({one['distribution']} {one['version']})") for one in report["plugins"]),
        *(("env", f"{name}={value}") for name, value in report["environment"].items()),
        *(("problem", problem) for problem in report["problems"]),
    ]
    return output.table(rows, indent=0)
