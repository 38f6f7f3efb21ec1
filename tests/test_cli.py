"""The command line: what each verb takes, prints and returns."""

import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mgzoo import cli
from mgzoo.cli import doctor, output, run
from mgzoo.cli.parser import COMMANDS, parser
from mgzoo.generation.output import slug, unused_path

ROOT = Path(__file__).resolve().parents[1]

SEE = "    -> `mgzoo {} --help` shows the usage and examples\n"


def python(*argv: str, **environment: str) -> subprocess.CompletedProcess:
    """A whole process, with this checkout importable and its plugins found as installed."""
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, timeout=120
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_has_a_function_and_examples_that_parse(name):
    module, _, function = COMMANDS[name].run.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    for example in COMMANDS[name].examples:
        words = shlex.split(example)
        assert words[words.index("mgzoo") + 1] == name
        cli._parse(name, words[words.index("mgzoo") + 2 :])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_verb_shows_examples_and_goes_to_stdout(name, capsys):
    assert run([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: mgzoo {name} ") and "examples:\n" in out and err == ""


def test_help_lists_every_verb(capsys):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


def test_nothing_to_do_is_wrong_usage_on_stderr(capsys):
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("usage: mgzoo VERB")


def test_version_is_the_distributions(capsys):
    from importlib.metadata import version

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"mgzoo {version('mgzoo')}\n"


@pytest.mark.parametrize(
    "argv, message",
    [
        (["lits"], "mgzoo: unknown verb 'lits'\n    -> did you mean `mgzoo list`?\n"),
        (
            ["list", "backbnes"],
            "mgzoo list: argument KIND: unknown kind 'backbnes'; did you mean backbone?\n" + SEE.format("list"),
        ),
        (
            ["check", "tiny/circle", "--jsn"],
            "mgzoo check: unrecognized arguments: --jsn\n    -> did you mean --json?\n" + SEE.format("check"),
        ),
        (
            ["train", "tiny/circle"],
            "mgzoo train: the following arguments are required: --out\n"
            "    -> usage: mgzoo train --out RUN [--resume] [--accept-changes] [--force] [--debug] [-h] RECIPE [a.b=value ...]\n" + SEE.format("train"),
        ),
        (
            ["check"],
            "mgzoo check: the following arguments are required: RECIPE\n"
            "    -> usage: mgzoo check [--meta] [--json] [--debug] [-h] RECIPE [a.b=value ...]\n" + SEE.format("check"),
        ),
        (["LIST"], "mgzoo: unknown verb 'LIST'\n    -> did you mean `mgzoo list`?\n"),
        (["train", "tiny/circle", "--out", ""], "mgzoo train: argument --out: the path is empty\n" + SEE.format("train")),
        (
            ["plan", "tiny/circle", "--gpus", "²"],
            "mgzoo plan: argument --gpus: '²' is not an integer >= 1\n" + SEE.format("plan"),
        ),
        (
            ["generate", "m", "p", "--seed", str(2**64)],
            f"mgzoo generate: argument --seed: '{2**64}' is neither random nor an integer from 0 to {2**64 - 1}\n" + SEE.format("generate"),
        ),
        (
            ["generate", "m", "p", "--size", "64"],
            "mgzoo generate: argument --size: '64' is not WIDTHxHEIGHT, e.g. 64x64\n" + SEE.format("generate"),
        ),
        (
            ["generate", "m", "p", "--frames", "0"],
            "mgzoo generate: argument --frames: '0' is not an integer >= 1\n"
            + SEE.format("generate"),
        ),
        (
            ["generate", "m", "p", "--fps", "0"],
            "mgzoo generate: argument --fps: '0' is not positive\n" + SEE.format("generate"),
        ),
        (
            ["generate", "m", "p", "--guidance", "nan"],
            "mgzoo generate: argument --guidance: 'nan' is not a number\n" + SEE.format("generate"),
        ),
        (
            ["plan", "tiny/circle", "--gpu", "2"],
            "mgzoo plan: unrecognized arguments: --gpu 2\n    -> did you mean --gpus?\n" + SEE.format("plan"),
        ),
    ],
)
def test_wrong_usage_says_what_was_meant(argv, message, capsys):
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", message)


@pytest.mark.parametrize(
    "argv, message",
    [
        (
            ["generate", "registry/x", "  "],
            'error: the prompt is empty\n    -> describe the output, e.g. mgzoo generate MODEL "a rabbit hopping"\n',
        ),
        (
            ["generate", "registry/x", "a cat", "--out", "cat.avi"],
            "error: cat.avi does not have the suffix of a media file\n    -> use one of .mp4, .png, .gif, .webp, .wav\n",
        ),
        (["cp", "tiny/circel", "a.yaml"], "error: unknown recipe 'tiny/circel'\n    -> did you mean tiny/circle"),
        (
            ["show", "samplers.eulr.v1"],
            "error: 'samplers.eulr.v1' is not a component, model, run or file\n    -> did you mean samplers.euler.v1",
        ),
    ],
)
def test_an_error_of_the_user_is_told_without_a_traceback(argv, message, capsys):
    assert run(argv) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(message) and "Traceback" not in err


@pytest.mark.parametrize("argv", [["check", "no.yaml"], ["show", "nothing"], ["plan", "tiny/circle", "train.lrr=1"], ["verify", "nothing"]])
def test_an_error_is_as_machine_readable_as_an_answer(argv, capsys):
    assert run([*argv, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert not said["ok"] and all(problem["what"] and problem["remedy"] for problem in said["problems"])


@pytest.mark.parametrize("out", ["folder.png", "file.txt/a.png"])
def test_a_file_that_cannot_be_written_is_told_before_a_model_is_loaded(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.txt").touch()
    assert run(["generate", "registry/nothing", "a cat", "--out", out]) == 1
    assert capsys.readouterr().err.startswith(f"error: {out} ")


def test_debug_shows_where_an_error_came_from():
    from mgzoo.spec import MgzooError

    with pytest.raises(MgzooError, match="unknown recipe"):
        run(["cp", "tiny/circel", "--debug"])


def test_options_may_stand_between_overrides():
    arguments = parser("plan").parse_intermixed_args(["tiny/circle", "a=1", "--gpus", "8", "b.c=x=y"])
    assert (arguments.recipe, arguments.overrides, arguments.gpus) == ("tiny/circle", ["a=1", "b.c=x=y"], 8)


# ------------------------------------------------------------------------------------------------ reading


def test_list_names_every_component_once_under_its_kind(capsys):
    from mgzoo.discovery import discover

    assert run(["list"]) == 0
    text = capsys.readouterr().out
    assert run(["list", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    declared = discover().components
    for component in declared.values():
        assert [row["id"] for row in said[component.kind]].count(component.id) == 1
        assert len(re.findall(rf"^  {re.escape(component.id)} ", text, re.MULTILINE)) == 1
    assert {"tiny/circle", "tiny/emoji_t2v", "movie_gen/t2v_30b"} <= {row["id"] for row in said["recipe"]}


def test_list_of_one_kind_shows_no_other(capsys):
    assert run(["list", "samplers", "--quiet"]) == 0
    names = capsys.readouterr().out.split()
    assert "samplers.euler.v1" in names and "backbones.llama3.v1" not in names


def test_show_documents_every_option_of_every_component(capsys):
    from mgzoo.discovery import discover

    for identity in discover().components:
        assert run(["show", identity, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["id"] == identity and all(option["help"] for option in said["options"]), identity
        assert run(["show", identity]) == 0
        text = capsys.readouterr().out
        assert all(f"  {option['name']} " in text for option in said["options"])


def test_show_of_a_recipe_is_the_whole_recipe(tmp_path, capsys):
    assert run(["show", "tiny/circle"]) == 0
    whole = tmp_path / "whole.yaml"
    whole.write_text(capsys.readouterr().out)
    assert run(["show", "tiny/circle", "--json"]) == 0
    tree = capsys.readouterr().out
    assert run(["show", str(whole), "--json"]) == 0
    assert capsys.readouterr().out == tree


def test_show_of_a_run_that_was_killed_while_it_wrote(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "latest").write_bytes(b"\xff\xfe\0")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert run(["show", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["last metrics"] == {"step": 2} and said["latest"] is None


@pytest.mark.parametrize("header", [b"", b"[1]", b'{"a": 3}', b'{"a": {"dtype": "F32"}}', b"[" * 100_000, b"\xff"])
def test_show_of_damaged_tensors_says_so(header, tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert run(["show", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {path} is damaged")


def test_check_of_a_sound_recipe(capsys):
    assert run(["check", "tiny/emoji_t2v"]) == 0
    assert capsys.readouterr() == ("tiny/emoji_t2v: OK\n", "")
    assert run(["check", "tiny/emoji_t2v", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "problems": []}


def test_check_prints_all_problems_and_fails(capsys):
    argv = ["check", "tiny/emoji_t2v", "train.lrr=1", "zero.stage=7", "parts.backbone.use=backbones.lama3.v1"]
    assert run(argv) == 1
    out, err = capsys.readouterr()
    assert err == "3 problems\n"
    for word in ("train.lrr", "zero.stage", "backbones.lama3.v1", "did you mean"):
        assert word in out
    assert run([*argv, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert not said["ok"] and {"train.lrr", "zero.stage"} <= {problem["key"] for problem in said["problems"]}
    assert all(problem["remedy"] and problem["origin"] for problem in said["problems"])


def test_other_verbs_tell_the_same_problems_on_stderr(capsys):
    assert run(["plan", "tiny/emoji_t2v", "train.lrr=1"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "train.lrr" in err and "Traceback" not in err


def test_explain_names_the_file_and_what_was_overridden(capsys):
    assert run(["explain", "tiny/circle", "train.lr", "train.lr=1e-4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("train.lr = 0.0001") and "command line" in out and "circle.yaml:" in out and "emoji_t2v.yaml:" in out
    assert run(["explain", "tiny/circle", "train.lr", "train.lr=1e-4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["train.lr"]
    assert said["value"] == 1e-4 and said["source"] == "command line" and [old["value"] for old in said["overrides"]][:2] == [2e-3, 1e-3]


def test_explain_of_an_unknown_key_names_the_nearest(capsys):
    assert run(["explain", "tiny/circle", "train.lrr"]) == 1
    assert "did you mean train.lr" in capsys.readouterr().err


def test_plan_is_printed_and_machine_readable(capsys):
    assert run(["plan", "tiny/circle", "--gpus", "2"]) == 0
    assert "backbone" in capsys.readouterr().out
    assert run(["plan", "tiny/circle", "--gpus", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_cp_then_check_the_copy(tmp_path, monkeypatch, capsys):
    dest = tmp_path / "mine.yaml"
    assert run(["cp", "tiny/circle", str(dest)]) == 0
    assert capsys.readouterr().out == f"{dest}\n"
    assert run(["check", str(dest)]) == 0
    capsys.readouterr()
    assert run(["cp", "tiny/circle", str(dest)]) == 1
    assert "exists" in capsys.readouterr().err


def test_lock_is_written_where_it_is_asked_for(tmp_path, capsys):
    recipe, out = tmp_path / "mine.yaml", tmp_path / "other.json"
    assert run(["cp", "tiny/tae_emoji", str(recipe)]) == 0
    capsys.readouterr()
    assert run(["lock", str(recipe)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mine.lock.json'}\n"
    assert run(["lock", str(recipe), "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == json.loads((tmp_path / "mine.lock.json").read_text())


def test_what_cannot_be_written_whole_leaves_what_was_there(tmp_path):
    """A limit on the size of files, in the place of a full disk."""
    kept = tmp_path / "kept.json"
    kept.write_text("before")
    for words in (f"lock tiny/tae_emoji --out {kept}", f"cp tiny/circle {tmp_path}/new.yaml"):
        script = f"ulimit -f 0; exec {sys.executable} -B -m mgzoo {words}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert done.returncode == 1 and done.stderr == f"error: {words.split()[-1]}: File too large\n"
    assert kept.read_text() == "before" and os.listdir(tmp_path) == ["kept.json"]


def test_a_device_is_written_to_and_not_replaced(capsys):
    assert run(["lock", "tiny/tae_emoji", "--out", os.devnull]) == 0
    assert Path(os.devnull).is_char_device()


def test_doctor_tells_versions_and_hides_secrets(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("MGZOO_PLUGINS", os.environ.get("MGZOO_PLUGINS", "samplers"))
    code = run(["doctor"])
    out = capsys.readouterr().out
    assert code in (0, 1) and "hf_verysecret" not in out and "HF_TOKEN=(set)" in out
    report = doctor.examine()
    assert report["versions"]["mgzoo"] and report["disk"]["free"] > 0 and set(report["cpu"]["flags"]) == set(doctor.FLAGS)
    assert out.startswith("```text\npython ") and out.endswith("\n```\n")


def test_doctor_shows_no_home_folder_and_no_password_of_an_address(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "ann" / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "anna"))
    monkeypatch.setenv("HF_ENDPOINT", "https://ann:pass-word@hub.example/api")
    for words in (["doctor"], ["doctor", "--json"]):
        run(words)
        out = capsys.readouterr().out
        assert "pass-word" not in out and "https://(set)@hub.example/api" in out
        assert "~/hub" in out and f"{tmp_path}/ann/" not in out and f"{tmp_path}/anna" in out


def test_doctor_names_what_to_fix(monkeypatch, capsys, tmp_path):
    info = tmp_path / "mgzoo_greedy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mgzoo-greedy\nVersion: 1.0\nRequires-Dist: numpy>=99\nRequires-Dist: no-such-thing<2\n"
                                   'Requires-Dist: also-none; extra == "test"\nRequires-Dist: torch>=2\n')
    monkeypatch.syspath_prepend(tmp_path)
    numpy, absent = doctor._unmet("mgzoo-greedy")
    assert numpy.startswith("numpy ") and numpy.endswith("does not meet the requirement of mgzoo-greedy: pip install 'numpy>=99'")
    assert absent == "no-such-thing is required by mgzoo-greedy and not installed: pip install 'no-such-thing<2'"
    assert doctor._unmet("mgzoo") == [] == doctor._unmet("nobody-has-this")

    monkeypatch.setenv("MGZOO_HOME", str(Path(__file__) / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    disk, cache, compiler = doctor._machine_problems(2**20, 0, "2.13.0+cpu")
    assert disk == "only 1.0 MiB free on this disk: free some space, or work on another disk"
    assert cache.startswith("the cache is not writable: ") and "apt-get install g++" in compiler
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path))
    assert doctor._machine_problems(2**40, 2, "2.13.0+cpu") == ["2 GPUs found, but torch 2.13.0+cpu is built without CUDA: install a CUDA build of torch"]
    assert doctor._machine_problems(2**40, 2, "2.13.0") == ["2 GPUs found, but DS_ACCELERATOR=cpu disables them for DeepSpeed: unset it"]
    (tmp_path / "cpu_adam.so").touch()
    assert doctor._machine_problems(2**40, 0, "2.13.0+cpu") == []


# ------------------------------------------------------------------------------------------ whole processes

IMPORTED = "import sys; from mgzoo.cli import run; code = run(sys.argv[1:]); print(*sorted(sys.modules), file=sys.stderr); sys.exit(code)"
HEAVY = {"torch", "numpy", "deepspeed", "transformers", "diffusers"}


@pytest.mark.parametrize(
    "argv",
    [
        ["list"],
        ["check", "tiny/emoji_t2v"],
        ["explain", "tiny/emoji_t2v", "train.lr"],
        ["plan", "tiny/emoji_t2v"],
        ["plan", "movie_gen/t2v_30b", "--gpus", "6144"],
        ["show", "backbones.llama3.v1"],
        ["doctor"],
        ["lock", "tiny/tae_emoji", "--out", "/dev/null"],
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_reading_never_imports_torch(argv):
    done = python("-c", IMPORTED, *argv)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not HEAVY & set(done.stderr.split())


def test_help_imports_neither_plugins_nor_yaml():
    done = python("-c", IMPORTED, "--help")
    loaded = set(done.stderr.split())
    assert not {"pluggy", "omegaconf", "ruamel", "rich", "mgzoo.discovery"} & loaded


def test_the_test_above_would_see_torch():
    done = python("-c", "import torch; " + IMPORTED, "--help")
    assert "torch" in done.stderr.split()


def test_a_reader_that_goes_away_is_no_failure():
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m mgzoo list | head -1"], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stderr == "" and done.returncode == 0


def test_so_is_one_of_help():
    script = f"set -o pipefail; {sys.executable} -m mgzoo train --help | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == "" and done.returncode == 0


@pytest.mark.parametrize("ending", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_failure(ending):
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m mgzoo list plugin {ending}"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("option", ["", "--json"])
def test_a_full_disk_behind_stdout_is_an_error_and_no_traceback(option):
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m mgzoo list plugin {option} > /dev/full"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("error: No space left on device\n") and "Traceback" not in done.stderr


def test_a_terminal_of_ascii_shows_what_it_can():
    done = python("-m", "mgzoo", "--help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "usage: mgzoo VERB \\u2026" in done.stdout


def test_the_deepspeed_launcher_puts_its_option_before_the_verb():
    done = python("-m", "mgzoo", "--local_rank=1", "train", "no.yaml", "--out", "nowhere")
    assert (done.returncode, done.stderr) == (1, "error: no such recipe file: no.yaml\n    -> check the path; `mgzoo list recipes` shows the shipped names\n")


def test_module_and_script_are_the_same_verb():
    done = python("-m", "mgzoo", "lits")
    assert (done.returncode, done.stdout) == (2, "") and "did you mean" in done.stderr


INTERRUPTED = """
import sys, mgzoo.cli.listing as listing
from mgzoo.cli import run
def interrupt(arguments):
    raise KeyboardInterrupt
listing.list_ = interrupt
sys.exit(run(["list"]))
"""


def test_interruption_is_one_line_and_130():
    done = python("-c", INTERRUPTED)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


# -------------------------------------------------------------------------------------------- plugins' verbs


def plugin(folder: Path, namespace: str, body: str) -> str:
    """A real installed distribution in a folder of its own; returns what goes on PYTHONPATH."""
    info = folder / f"{namespace}_zoo-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {namespace}-zoo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mgzoo]\n{namespace} = {namespace}_zoo\n")
    (folder / f"{namespace}_zoo.py").write_text("from mgzoo.hooks import hookimpl\n" + body)
    return str(folder)


def with_plugins(*folders: str) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}


HELLO = """
@hookimpl
def mgzoo_commands():
    return [("{verb}", "greet", "{module}:greet")]

def greet(words):
    print("hello", *words)
    return 0
"""


def test_a_plugin_adds_a_verb(tmp_path):
    environment = with_plugins(plugin(tmp_path, "polite", HELLO.format(verb="hello", module="polite_zoo")))
    done = python("-m", "mgzoo", "hello", "you", "--loud", **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello you --loud\n", "")
    assert "hello  greet" in python("-m", "mgzoo", "list", "verb", **environment).stdout
    assert "did you mean `mgzoo hello`?" in python("-m", "mgzoo", "helo", **environment).stderr


def test_two_plugins_with_one_verb_are_both_named_and_neither_wins(tmp_path):
    environment = with_plugins(
        plugin(tmp_path / "a", "polite", HELLO.format(verb="hello", module="polite_zoo")),
        plugin(tmp_path / "b", "rude", HELLO.format(verb="hello", module="rude_zoo")),
    )
    done = python("-m", "mgzoo", "hello", **environment)
    assert done.returncode == 2 and "declared by polite-zoo 1.0 and rude-zoo 1.0" in done.stderr


def test_a_plugin_cannot_take_a_verb_of_ours(tmp_path):
    environment = with_plugins(plugin(tmp_path, "polite", HELLO.format(verb="list", module="polite_zoo")))
    done = python("-m", "mgzoo", "list", **environment)
    assert done.returncode == 0 and "the verb 'list' is disabled: declared by mgzoo and polite-zoo 1.0" in done.stdout


def test_a_broken_commands_hook_costs_the_plugin_its_verbs_only(tmp_path):
    environment = with_plugins(plugin(tmp_path, "polite", "@hookimpl\ndef mgzoo_commands():\n    return [('hello', 'greet')]\n"))
    done = python("-m", "mgzoo", "list", **environment)
    assert done.returncode == 0 and "polite (polite-zoo 1.0): its verbs are disabled: " in done.stdout
    assert "samplers.euler.v1" in done.stdout


# ------------------------------------------------------------------------------------------------- printing


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colour_only_on_a_terminal_that_wants_it(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.coloured(Terminal()) and not output.coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.coloured(Terminal())


@pytest.mark.parametrize(
    "prompt, name",
    [
        ("A rabbit, hopping!", "a-rabbit-hopping"),
        ("woman running: medium-dark skin tone", "woman-running-medium-dark-skin-tone"),
        ("ein Fuß über dem Fluß", "ein-fuß-über-dem-fluß"),
        ("../../etc/passwd", "etc-passwd"),
        ("???", "clip"),
        ("x" * 200, "x" * 60),
    ],
)
def test_a_prompt_gives_a_safe_file_name(prompt, name):
    assert slug(prompt) == name


def test_a_default_name_never_overwrites(tmp_path):
    first = unused_path(tmp_path / "a.mp4")
    first.touch()
    assert unused_path(tmp_path / "a.mp4").name == "a-2.mp4"


@pytest.mark.parametrize("count, text", [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")])
def test_sizes_have_binary_units(count, text):
    assert output.size(count) == text
