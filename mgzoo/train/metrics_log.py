"""`metrics.jsonl` of a run, one line of JSON each, and the training curve drawn from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mgzoo import storage


def truncate_log(path: Path, step: int) -> None:
    """Remove entries after `step`, for a resumed run."""
    if not path.exists():
        return
    lines = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line)
        except json.JSONDecodeError:  # the last line of a killed run
            continue
    storage.atomic_write(path, "".join(line + "\n" for line in lines))


def append_entry(path: Path, entry: Mapping) -> None:
    """Append one line of JSON."""
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def read_log(path: Path) -> list[dict]:
    """All lines of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def plot_curve(metrics: Path, picture: Path) -> None:
    """Training and held-out loss over steps, with the learning rate, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = read_log(metrics)
    trained = [line for line in lines if "loss" in line]
    held = [line for line in lines if "validation" in line]
    figure, axis = pyplot.subplots(figsize=(7, 4), constrained_layout=True)
    axis.plot([line["step"] for line in trained], [line["loss"] for line in trained], linewidth=0.9, label="training loss")
    if held:
        axis.plot([line["step"] for line in held], [line["validation"]["loss"] for line in held], "o-", markersize=3, label="held-out loss")
    losses = [line["loss"] for line in trained]
    if losses and min(losses) > 0 and max(losses) > 10 * min(losses):
        axis.set_yscale("log")
    axis.set_xlabel("optimiser step")
    axis.grid(alpha=0.3)
    rate = axis.twinx()
    rate.plot([line["step"] for line in trained], [line["lr"] for line in trained], color="0.7", linewidth=0.8)
    rate.set_ylabel("learning rate", color="0.5")
    axis.legend(loc="upper right")
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
