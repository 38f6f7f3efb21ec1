"""Everything a person does with generated plugins, in one process; prints one JSON object a line. Started by `test_scaffold.py`."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

from mgzoo.cli import run

GENERATES = ("encoder", "backbone", "objective", "sampler", "task", "data")


def said(*words: str) -> str:
    """What a verb prints; it must succeed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run(words)
    assert code == 0, f"{words}: {code}"
    return out.getvalue().strip()


def circle(kind: str, name: str) -> dict:
    """Check, train, push, pull, verify, and generate where the task takes a prompt."""
    recipe, run_folder = f"{name}/tiny", f"runs/{kind}"
    said("check", recipe, "--meta")
    said("cp", recipe, f"{kind}.yaml")
    said("plan", recipe)
    artifact = said("train", recipe, "--out", run_folder)
    lines = [json.loads(line) for line in (Path(run_folder) / "metrics.jsonl").read_text().splitlines()]
    pushed = said("push", run_folder, f"./hub/{kind}@v1")
    pulled = said("pull", f"./hub/{kind}@v1")
    said("verify", f"./hub/{kind}@v1")
    shown = json.loads(said("show", pulled, "--json"))
    made = said("generate", pulled, "a red disc moving left", "--out", f"{kind}.mp4") if kind in GENERATES else None
    return {"artifact": artifact, "pushed": pushed, "made": made, "parts": shown["parts"], "requires": shown["requires"],
            "losses": [line["loss"] for line in lines if "loss" in line], "kept": next(line["kept"] for line in lines if "kept" in line)}  # fmt: skip


def read_aloud(readme: Path) -> str:
    """Run the Python that a README shows; returns what it prints."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, str(readme), "exec"), {"__name__": "readme"})
    return out.getvalue()


for kind, name, folder in json.loads(sys.argv[1]):
    result = {"printed": read_aloud(Path(folder) / "README.md")} if kind in ("filter", "metric") else circle(kind, name)
    print(json.dumps({"kind": kind, **result}), flush=True)
