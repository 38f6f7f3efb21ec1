"""How long the command line takes to answer: whole processes, from start to exit, against the bare interpreter.

    python benchmarks/startup.py [--runs 9] > startup.json

Every command is started `runs` times, in turn (A, B, C, A, B, C, …), so that a busy moment touches all of them. Printed as
JSON: median, least and largest wall time in seconds, the same of CPU time, and the median's ratio to `python -c pass`.
Left out: a cold disk (one round is run first and not counted) and the shell's own start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

RECIPE = "tiny/emoji_t2v"
COMMANDS = {
    "interpreter": (sys.executable, "-c", "pass"),
    "help": (sys.executable, "-m", "mgzoo", "--help"),
    "list": (sys.executable, "-m", "mgzoo", "list"),
    "check": (sys.executable, "-m", "mgzoo", "check", RECIPE),
    "plan": (sys.executable, "-m", "mgzoo", "plan", RECIPE),
}
TARGETS = {"help": 0.15, "list": 0.3, "check": 0.5}


def once(command: tuple[str, ...]) -> tuple[float, float]:
    """Wall and CPU seconds of one process; a command that fails ends the benchmark."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def summary(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="counted runs of each command")
    runs = parser.parse_args().runs
    measured = {name: [] for name in COMMANDS}
    for number in range(runs + 1):
        for name, command in COMMANDS.items():
            sample = once(command)
            if number:
                measured[name].append(sample)
    bare = statistics.median(wall for wall, _ in measured["interpreter"])
    report = {"python": platform.python_version(), "platform": platform.platform(), "cores": os.cpu_count(), "runs": runs, "commands": {}}
    for name, samples in measured.items():
        wall, cpu = summary([one for one, _ in samples]), summary([one for _, one in samples])
        row = {"wall": wall, "cpu": cpu, "ratio": round(wall["median"] / bare, 2)}
        if name in TARGETS:
            row |= {"target": TARGETS[name], "met": wall["median"] < TARGETS[name]}
        report["commands"][name] = row
    json.dump(report, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
