"""Start-up time of the command line: whole processes, from start to exit, against the bare interpreter and the help of three peers.

    python benchmarks/startup.py [--runs 9]

Every command is started `runs` times, in turn (A, B, C, A, B, C, …), so that a busy moment touches all of them. A ratio is
of one round: its time over `python -c pass` of the same round, and for the peers over `mgzoo --help` too. The peers are
diffusers, huggingface_hub and llm, where they are installed beside mgzoo; one that is not is said and left out.
Left out: a cold disk (one round is run first and not counted) and the shell's own start.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from common import arguments, ratios, spread, table, write

RECIPE = "tiny/emoji_t2v"
OURS = {
    "mgzoo --help": ("-m", "mgzoo", "--help"),
    "mgzoo list": ("-m", "mgzoo", "list"),
    "mgzoo check": ("-m", "mgzoo", "check", RECIPE),
    "mgzoo plan": ("-m", "mgzoo", "plan", RECIPE),
}
PEERS = {"llm --help": "llm", "hf --help": "huggingface_hub", "diffusers-cli --help": "diffusers"}
TARGETS = {"mgzoo --help": 0.15, "mgzoo list": 0.3, "mgzoo check": 0.5}


def commands() -> dict[str, tuple[str, ...]]:
    """What is started, by name: the interpreter, our verbs, and the peers' help where they are installed."""
    found = {"python -c pass": (sys.executable, "-c", "pass")}
    found |= {name: (sys.executable, *rest) for name, rest in OURS.items()}
    for name in PEERS:
        program, flag = name.split()
        beside = Path(sys.executable).parent / program
        if path := str(beside) if beside.exists() else shutil.which(program):
            found[name] = (path, flag)
        else:
            print(f"{program} is not installed: left out", file=sys.stderr)
    return found


def once(command: tuple[str, ...]) -> tuple[float, float]:
    """Wall and CPU seconds of one process; a command that fails ends the benchmark."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    options = arguments(__doc__, runs=9).parse_args()
    started = commands()
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in started}
    for number in range(options.runs + 1):
        for name, command in started.items():
            sample = once(command)
            if number:
                samples[name].append(sample)
    wall = {name: [one for one, _ in pairs] for name, pairs in samples.items()}
    report, rows = {}, []
    for name, pairs in samples.items():
        over = ratios(wall["python -c pass"], wall[name])
        entry = {"wall": spread(wall[name]), "cpu": spread([cpu for _, cpu in pairs]), "over_bare_interpreter": over}
        if name in TARGETS:
            entry |= {"target": TARGETS[name], "met": entry["wall"]["median"] < TARGETS[name]}
        if name in PEERS:
            entry |= {"version": metadata.version(PEERS[name]), "over_mgzoo_help": ratios(wall["mgzoo --help"], wall[name])}
        report[name] = entry
        peer = entry.get("over_mgzoo_help")
        rows.append({
            "command": name,
            "wall s": entry["wall"]["median"],
            "least": entry["wall"]["min"],
            "most": entry["wall"]["max"],
            "cpu s": entry["cpu"]["median"],
            "x interpreter": f"{over['median']:.1f} ({over['min']:.1f}-{over['max']:.1f})",
            "x mgzoo --help": f"{peer['median']:.1f} ({peer['min']:.1f}-{peer['max']:.1f})" if peer else "",
            "target": f"< {entry['target']} s: {'met' if entry['met'] else 'MISSED'}" if "target" in entry else "",
        })  # fmt: skip
    print(table(rows))
    print(write(options.out, "startup", {"runs": options.runs, "rows": rows, "seconds": report}, ("", "command", "wall s")))


if __name__ == "__main__":
    main()
