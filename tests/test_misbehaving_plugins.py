"""Plugins that misbehave: what they print, how long they take, which namespace they claim, what they leave running."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mgzoo import discovery
from mgzoo.discovery import load_plugins
from mgzoo.distributions import entry_points

DECLARES = """
from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [Component(id="{name}.a.v1", kind="sampler", config="{module}:Config", target="{module}:Part", summary={summary!r})]
"""


def plugin(folder: Path, name: str, code: str = "", distribution: str = "", summary: str = "a sampler", module: str = "") -> Path:
    """A plugin of one sampler, whose module runs `code` first."""
    module, distribution = module or f"{name}_plugin", distribution or f"mgzoo-{name}"
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mgzoo]\n{name} = {module}\n")
    (folder / f"{module}.py").write_text(code + DECLARES.format(name=name, module=module, summary=summary))
    return folder


def mgzoo(folder: Path, *words: str, plugins: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(folder), "MGZOO_PLUGINS": plugins}
    return subprocess.run([sys.executable, "-m", "mgzoo", *words], env=env, capture_output=True, text=True, timeout=60)


def test_a_shipped_namespace_stays_with_the_distribution_that_is_listed(tmp_path, monkeypatch):
    plugin(tmp_path / "ours", "video", distribution="MGZoo_video", module="ours_plugin")
    plugin(tmp_path / "theirs", "video", distribution="evil-video", module="theirs_plugin")
    for folder in ("ours", "theirs"):
        monkeypatch.syspath_prepend(tmp_path / folder)
    for folders in (["ours", "theirs"], ["theirs", "ours"]):
        registry = load_plugins(list(entry_points([str(tmp_path / folder) for folder in folders])))
        assert registry.components["video.a.v1"].config == "ours_plugin:Config" and str(registry.providers["video"]) == "MGZoo_video 1.0"
        assert [str(bad) for bad in registry.disabled] == [
            "video (evil-video 1.0): the namespace 'video' is that of MGZoo_video 1.0, which registry/plugins.json lists; uninstall evil-video"
        ]


def test_a_folder_hub_s_list_decides_nothing(tmp_path, monkeypatch):
    """./registry may be anybody's: of two claimants that only it knows neither is used."""
    plugin(tmp_path / "one", "acme", distribution="acme-one", module="one_plugin")
    plugin(tmp_path / "two", "acme", distribution="acme-two", module="two_plugin")
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "plugins.json").write_text('{"acme": "acme-one"}')
    monkeypatch.chdir(tmp_path)
    registry = load_plugins(list(entry_points(["one", "two"])))
    assert not registry.components and [bad.distribution for bad in registry.disabled] == ["acme-one 1.0", "acme-two 1.0"]


PRINTS = """
import os, sys
print("hello from the plugin \\x1b[31m")
os.write(1, b"hello from below\\n")
os.system("echo hello from a child")
"""


def test_what_a_plugin_prints_goes_to_stderr_and_json_stays_json(tmp_path):
    done = mgzoo(plugin(tmp_path, "loud", PRINTS), "list", "--json", plugins="loud")
    assert done.returncode == 0 and json.loads(done.stdout)["sampler"][0]["id"] == "loud.a.v1"
    assert all(f"hello from {one}" in done.stderr for one in ("the plugin [31m", "below", "a child")) and "\x1b" not in done.stderr


def test_prints_in_a_config_and_in_a_part_go_to_stderr_too(tmp_path, monkeypatch, capsys):
    code = "print('hello from the import')\nclass Config:\n    pass\nclass Part:\n    pass\n"
    (tmp_path / "speaks.py").write_text(code)
    plugin(tmp_path, "quiet")
    text = (tmp_path / "quiet_plugin.py").read_text()
    (tmp_path / "quiet_plugin.py").write_text(text.replace("quiet_plugin:", "speaks:"))
    monkeypatch.syspath_prepend(tmp_path)
    registry = load_plugins(list(entry_points([str(tmp_path)])))
    for find in (registry.config_class, registry.build_class):
        sys.modules.pop("speaks", None)
        find("quiet.a.v1")
        out, err = capsys.readouterr()
        assert out == "" and err == "hello from the import\n"


def test_a_closed_stdout_stops_no_listing(tmp_path):
    folder = plugin(tmp_path, "loud", PRINTS)
    env = {**os.environ, "PYTHONPATH": str(folder), "MGZOO_PLUGINS": "loud"}
    done = subprocess.run(["bash", "-c", f"exec {sys.executable} -m mgzoo list >&-"], env=env, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr


def test_a_slow_plugin_is_named_with_its_seconds(tmp_path, monkeypatch, caplog):
    plugin(tmp_path, "slow", "import time\ntime.sleep(0.3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(discovery, "SLOW", 0.25)
    monkeypatch.setattr(discovery, "_told", set())
    load_plugins(list(entry_points([str(tmp_path)])))
    (line,) = caplog.messages
    assert line.startswith("the plugin slow (mgzoo-slow 1.0) took 0.") and line.endswith(" s to load; every command waits for it")


@pytest.mark.parametrize("words", [["list"], ["list", "plugin"], ["doctor"]])
def test_control_characters_of_a_plugin_reach_no_terminal(words, tmp_path):
    hostile = "a \x1b[2Jsampler\x9b \u202ethat\nforges\x07"
    folder = plugin(tmp_path, "forger", summary=hostile)
    plugin(folder, "raiser", f"raise RuntimeError({hostile!r})\n")
    for more in ([], ["--json"]):
        done = mgzoo(folder, *words, *more, plugins="forger,raiser")
        shown = done.stdout + done.stderr
        assert "a [2Jsampler that forges" in shown and not set("\x1b\x9b\u202e\x07") & set(shown), shown
        assert not any(code in shown for code in ("\\u001b", "\\u009b"))


HANGS = """
import atexit, threading, time
threading.Thread(target=time.sleep, args=(50,), name="poller\\x1b[2J").start()
atexit.register(lambda: open("ended", "w").close())
"""


@pytest.mark.parametrize("words, code", [(["list", "sampler", "--quiet"], 0), (["show", "nothing.of.the.kind"], 1), (["nonsense"], 2)])
def test_a_thread_that_a_plugin_leaves_does_not_hold_the_process(words, code, tmp_path, monkeypatch):
    plugin(tmp_path, "hangs", HANGS)
    monkeypatch.chdir(tmp_path)
    begun = time.monotonic()
    done = mgzoo(tmp_path, *words, plugins="hangs")
    assert done.returncode == code and time.monotonic() - begun < 40
    assert "the plugin hangs left the thread poller" in done.stderr and "\x1b" not in done.stderr
    assert done.stdout == ("hangs.a.v1\n" if words[0] == "list" else done.stdout) and (tmp_path / "ended").is_file()


def test_a_daemon_thread_is_nobody_s_matter(tmp_path):
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(50,), daemon=True).start()\n"
    done = mgzoo(plugin(tmp_path, "polite", code), "list", "sampler", "--quiet", plugins="polite")
    assert done.returncode == 0 and done.stderr == ""
