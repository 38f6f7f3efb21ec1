"""Search for secrets in artifacts: tokens, keys, passwords, and paths of home folders. Never imports torch.

All texts of an artifact are searched, including tensor headers and picture metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mgzoo.artifact.manifest import MANIFEST_NAME, Manifest
from mgzoo.artifact.strict_json import problem
from mgzoo.spec import Problem

_REVOKE = "remove it, save again, and revoke it: anybody with a copy can use it"
_NAME = rb"(api[_-]?key|secret|token|passw(or)?d|secret[_-]?access[_-]?key|client[_-]?secret|auth[_-]?token)"
SECRETS = (
    ("a Hugging Face token", re.compile(rb"\b(hf|api_org)_[A-Za-z0-9]{20,}")),
    ("a GitHub token", re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{40,}")),
    ("a GitLab token", re.compile(rb"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("an AWS key", re.compile(rb"\b(AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("an API key", re.compile(rb"\bsk-[A-Za-z0-9_-]{20,}|\bAIza[A-Za-z0-9_-]{35}")),
    ("a Slack token", re.compile(rb"\bxox[abposr]-[A-Za-z0-9-]{10,}")),
    ("a package registry's token", re.compile(rb"\bpypi-AgE[A-Za-z0-9_-]{20,}|\bnpm_[A-Za-z0-9]{30,}")),
    ("a JSON Web Token", re.compile(rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.")),
    ("a private key", re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a password in an address", re.compile(rb"://[!#-&(-.0-9;-?A-~]{1,200}:[!#-&(-.0-?A-~]{1,200}@")),
    ("a password", re.compile(rb"(?i)(?<![a-z])" + _NAME + rb"[\"']?\s{0,9}[:=]\s{0,9}[\"']?[A-Za-z0-9/+_.-]{16,}")),
)
"""(kind, what it looks like); each pattern takes time that grows with the length of the text and no faster."""
_HOME = re.compile(rb"(?<![\w.~-])(/home/[^/\s\"'<>]+|/Users/[^/\s\"'<>]+|/root)(?=/|[\s\"',}\]]|$)|\b[A-Za-z]:\\{1,2}Users\\", re.ASCII)


def find_secrets(folder: Path, manifest: Manifest) -> list[Problem]:
    """Problems for all lines of the artifact's texts with a likely secret or a home folder.

    They contain file, line and kind, never the secret.
    """
    problems = []
    for name in [MANIFEST_NAME, *(name for name in manifest.files if (folder / name).is_file())]:
        for number, line in _lines(folder / name):
            where = {"where": folder / name, "line": number}
            problems += [problem("secret", f"the line seems to contain {what}", _REVOKE, **where) for what, pattern in SECRETS if pattern.search(line)]
            if _HOME.search(line):
                problems.append(problem("home-path", "the line contains the path of a home folder", _home_remedy(name), **where))
    return problems


def _home_remedy(name: str) -> str:
    if name in ("recipe.yaml", "recipe.lock.json"):
        return "replace it by a relative path: mgzoo.share.describe.describe(FOLDER, overrides=['data.config.path=PATH'])"
    return "use a relative path, and save again"


def _lines(path: Path) -> Iterator[tuple[int | None, bytes]]:
    """(line number, line) of a text, or (None, …) of what a file of tensors or pictures holds beside its values."""
    if path.suffix == ".safetensors":
        with open(path, "rb") as file:
            yield None, file.read(min(int.from_bytes(file.read(8), "little"), path.stat().st_size))
    elif path.suffix in (".png", ".mp4"):
        yield None, path.read_bytes()
    else:
        yield from enumerate(path.read_bytes().splitlines(), 1)
