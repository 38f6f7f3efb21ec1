"""Runs the blocks of documentation pages. Started by `test_docs.py`: ``run_pages.py ROOT FOLDER`` with {page: [[language, text] …]} on stdin.

Each page has a folder of its own with copies of what a clone holds, so that nothing here is changed. Every command line and every
Python block is run as written, but trainings take two steps of two samples and generating two steps. Prints what was run.
"""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import mgzoo
from mgzoo.cli import run

SMALL = ["stages=[]", "train.steps=2", "train.batch=2", "train.micro_batch=null", "train.validate_every=0", "train.save_every=0",
         "train.validation_samples=2", "train.validation_batch=2", "train.warmup=1", "train.log_every=1"]  # fmt: skip


def shrunk(words: list[str]) -> list[str]:
    """A command line that costs little."""
    if words[0] == "train":
        return [*words, *SMALL]
    return [*words, "--steps", "2"] if words[0] == "generate" and not {"--steps", "--from"} & set(words) else words


def type_in(page: str, text: str) -> None:
    """A bash block, line by line; only mgzoo is called in these pages."""
    for line in re.sub(r"source <\((.*?)\)", r"\1", text.replace("\\\n", " ")).splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "mgzoo", f"{page}: {line}"
        code = run(shrunk(words[1:]))
        assert code == 0, f"{page}: {line}: exit code {code}"
        print("\n" + json.dumps([page, " ".join(words[1:])]), flush=True)


root, work = map(Path, sys.argv[1:])
compose = mgzoo.compose
mgzoo.compose = lambda source, overrides=(): compose(source, [*overrides, *SMALL])
for page, blocks in json.load(sys.stdin).items():
    here = work / page.removesuffix(".md")
    here.mkdir()
    os.chdir(here)
    shutil.copytree(root / "registry", "registry")
    for name in ("recipes", "data"):
        os.symlink(root / name, name)
    for language, text in blocks:
        if language == "bash":
            type_in(page, text)
        else:
            exec(compile(text, page, "exec"), {"__name__": "__main__"})
            print("\n" + json.dumps([page, "python"]), flush=True)
