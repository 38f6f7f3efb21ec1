"""What every benchmark shares: cases taken in turn, figures with their spread, JSON and a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def arguments(doc: str, **defaults: int) -> argparse.ArgumentParser:
    """A parser with --out (folder of the JSON and the plot, default benchmarks/results) and whole-number options with these defaults."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON and the plot")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"default {value}")
    return parser


def take_turns(cases: Mapping[str, Callable[[], Any]], runs: int, warmup: int = 1) -> dict[str, list[tuple[float, float]]]:
    """Call every case `runs` times, in turn (A, B, C, A, B, C, …), so that a busy moment touches all of them.

    Returns wall and CPU seconds of each counted call."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(runs + warmup):
        for name, case in cases.items():
            wall, cpu = time.perf_counter(), time.process_time()
            case()
            sample = time.perf_counter() - wall, time.process_time() - cpu
            if number >= warmup:
                measured[name].append(sample)
    return measured


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": round(statistics.median(values), 5), "min": round(min(values), 5), "max": round(max(values), 5)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Of one round each: theirs / ours, so that more than 1 means that we are faster."""
    return spread([b / a for a, b in zip(ours, theirs, strict=True)])


def machine() -> dict[str, Any]:
    """What the figures were taken on; no name, no path."""
    import torch

    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "extensions": [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name} " in f"{flags.strip()} "],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write(out: Path, name: str, report: Mapping[str, Any], draw: tuple[str, str, str] | None = None) -> Path:
    """Write `name`.json into `out`, with the command that made it, and return its path.

    draw: the columns of ``report["rows"]`` that `name`.png shows: of the groups (empty: one group; several, with commas), of the bars, of their lengths."""
    out.mkdir(parents=True, exist_ok=True)
    if draw:
        group, label, value = draw
        groups: dict[str, dict[str, float]] = {}
        for row in report["rows"]:
            groups.setdefault(", ".join(str(row[column]) for column in group.split(", ") if column), {})[str(row[label])] = float(row[value])
        if all(len(drawn) == len(report["rows"]) for drawn in groups.values()):  # one group: its bars are the groups
            groups = {label: {value: length} for label, length in groups[""].items()}
        bars(out, name, groups, unit=value, title=sys.modules["__main__"].__doc__.splitlines()[0])
    path = out / f"{name}.json"
    command = " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    path.write_text(json.dumps({"command": command, "machine": machine(), **report}, indent=2) + "\n")
    return path


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as aligned text: the keys of the first row are the columns."""
    columns = list(rows[0])
    cells = [columns] + [[f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells)


def bars(out: Path, name: str, groups: Mapping[str, Mapping[str, float]], *, unit: str, title: str, limits: Mapping[str, float] | None = None) -> Path:
    """Draw `name`.png: one group of bars for each key of `groups`, one bar in it for each of its entries. limits: dashed lines with a name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = list(dict.fromkeys(label for bars in groups.values() for label in bars))
    height = 0.8 / len(labels)
    figure, axes = pyplot.subplots(figsize=(8, 0.8 + 0.28 * len(labels) * len(groups) + 0.3), layout="constrained")
    for i, label in enumerate(labels):
        places = [(g - 0.4 + (i + 0.5) * height, bars[label]) for g, bars in enumerate(groups.values()) if label in bars]
        drawn = axes.barh([y for y, _ in places], [value for _, value in places], height * 0.9, label=label)
        axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=8)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.margins(x=0.12)
    for label, value in (limits or {}).items():
        axes.axvline(value, linestyle="--", color="0.4", linewidth=1)
        axes.text(value, 1.01, label, transform=axes.get_xaxis_transform(), ha="center", fontsize=8, color="0.4")
    axes.set_xlabel(unit)
    axes.set_title("\n".join(textwrap.wrap(title, 90)), fontsize=10, pad=16 if limits else 6)
    if len(labels) > 1:
        axes.legend(fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    path = out / f"{name}.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
