"""Completion in shells: what is offered, that it costs no torch, and that bash and its script agree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mgzoo.cli import completion, run
from mgzoo.cli.parser import COMMANDS, SHELLS, parser

ROOT = Path(__file__).resolve().parents[1]
OFFERED = {
    "mgzoo ": ("list", "train", "--help"),
    "mgzoo tra": ("train",),
    "mgzoo lst": (),
    "mgzoo list ba": ("backbone",),
    "mgzoo list pl": ("plugin",),
    "mgzoo new pl": (),
    "mgzoo new samp": ("sampler",),
    "mgzoo new sampler ": (),
    "mgzoo train tiny/cir": ("tiny/circle",),
    "mgzoo train --out runs/x tiny/cir": ("tiny/circle",),
    "mgzoo train tiny/circle --re": ("--resume",),
    "mgzoo train tiny/circle --resume --re": (),
    "mgzoo train tiny/circle zero.st": ("zero.stage=",),
    "mgzoo train tiny/circle a.b=1 zero.st": ("zero.stage=",),
    "mgzoo train tiny/circle parts.backbone.use=backbones.ll": ("parts.backbone.use=backbones.llama3.v1",),
    "mgzoo train tiny/circle parts.encoders.text.use=encoders.by": (
        "parts.encoders.text.use=encoders.bytes.v1", "parts.encoders.text.use=encoders.byt5.v1",
    ),
    "mgzoo train tiny/circle zero.stage=": (),
    "mgzoo explain tiny/circle train.lr": ("train.lr",),
    "mgzoo show samplers.eu": ("samplers.euler.v1",),
    "mgzoo generate registry/emoji": ("registry/emoji-t2v",),
    "mgzoo pull registry/emoji-t2v@": ("registry/emoji-t2v@main", "registry/emoji-t2v@v2"),
    "mgzoo generate registry/emoji-t2v 'a rabbit' --task video.text": ("video.text_to_video.v1",),
    "mgzoo generate registry/emoji-t2v 'a rabbit --ta": (),
    "mgzoo generate registry/emoji-t2v --seed ": (),
    "mgzoo completion f": ("fish",),
    "mgzoo push runs/first registry/x --sign READ": ("README.md",),
    "mgzoo verify dat": ("data/",),
    "mgzoo verify README": ("README.md",),
    "mgzoo check READ": (),
}  # fmt: skip


@pytest.mark.parametrize("line", OFFERED)
def test_what_is_offered(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = completion.candidates(line)
    assert set(OFFERED[line]) <= set(found)
    assert OFFERED[line] or not found
    assert not line.endswith(("cir", "--re", "zero.st", "ba", "tra", "samp")) or len(found) == len(OFFERED[line])


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_of_every_verb_is_offered(verb):
    options = {name for action in parser(verb)._actions for name in action.option_strings if action.help != "==SUPPRESS=="}
    assert set(completion.candidates(f"mgzoo {verb} -")) == options


def test_files_of_a_folder_and_hidden_ones_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.yaml", "notes.txt", ".hidden.yaml", "deep/other.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    offered = completion.candidates("mgzoo check ")
    assert {"mine.yaml", "deep/", "tiny/circle"} <= set(offered) and not {"notes.txt", ".hidden.yaml"} & set(offered)
    assert completion.candidates("mgzoo check deep/o") == ["deep/other.yaml"]
    assert completion.candidates("mgzoo check .h") == [".hidden.yaml"]
    assert completion.candidates(f"mgzoo check {tmp_path}/m") == [f"{tmp_path}/mine.yaml"]


def test_verbs_of_plugins_are_offered(tmp_path, monkeypatch):
    (tmp_path / "greets-1.0.dist-info").mkdir()
    (tmp_path / "greets-1.0.dist-info" / "METADATA").write_text("Name: greets\nVersion: 1.0\n")
    (tmp_path / "greets-1.0.dist-info" / "entry_points.txt").write_text("[mgzoo]\ngreets = greets\n")
    (tmp_path / "greets.py").write_text(
        "from mgzoo.hooks import hookimpl\n@hookimpl\ndef mgzoo_commands():\n    return [('greet', 'say hello', 'greets:hello')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mgzoo", "completion", "bash", "--line", "mgzoo gr"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == "greet\n", done.stderr


def test_torch_is_not_imported():
    code = "import sys; from mgzoo.cli import run; run(['completion', 'bash', '--line', 'mgzoo generate registry/']); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "False False", done.stderr


def test_an_unknown_shell_is_named(capsys):
    assert run(["completion", "csh"]) == 2
    assert "csh" in capsys.readouterr().err and set(completion.SCRIPTS) == set(SHELLS)


def offered_by_bash(line: str) -> list[str]:
    """What the printed function puts in COMPREPLY, with the words split as readline splits them."""
    script = subprocess.run([sys.executable, "-m", "mgzoo", "completion", "bash"], capture_output=True, text=True, check=True).stdout
    words = 'eval "$SCRIPT"; mgzoo() { "$PYTHON" -m mgzoo "$@"; }; COMP_LINE=$LINE; COMP_POINT=${#LINE}; _mgzoo; printf "%s\\n" "${COMPREPLY[@]}"; complete -p mgzoo'
    done = subprocess.run(
        ["bash", "--norc", "-c", words], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "SCRIPT": script, "LINE": line, "PYTHON": sys.executable}, timeout=60,
    )  # fmt: skip
    *replies, registered = done.stdout.splitlines()
    assert registered == "complete -F _mgzoo mgzoo" and not done.stderr, done.stderr
    return [reply for reply in replies if reply]


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(
    "line, wanted",
    [
        ("mgzoo doc", ["doctor"]),
        ("mgzoo train tiny/cir", ["tiny/circle"]),
        ("mgzoo train tiny/circle parts.sampler.use=samplers.eu", ["samplers.euler.v1"]),  # what stands before = stays
        ("mgzoo pull registry/emoji-t2v@v", ["v2"]),
        ("mgzoo nothing ", []),
    ],
)
def test_bash(line, wanted):
    assert offered_by_bash(line) == wanted


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
def test_fish():
    code = 'function mgzoo; $PYTHON -m mgzoo $argv; end; mgzoo completion fish | source; complete -C "mgzoo train tiny/cir"; complete -C "mgzoo show samplers.eu"'
    done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHON": sys.executable}, timeout=60)
    assert done.stdout.split() == ["tiny/circle", "samplers.euler.v1"] and not done.stderr, done.stderr


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
def test_zsh_can_read_its_script(tmp_path):
    (tmp_path / "script").write_text(completion.SCRIPTS["zsh"])
    done = subprocess.run(["zsh", "-n", str(tmp_path / "script")], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
