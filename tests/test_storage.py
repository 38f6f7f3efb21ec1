"""Laws of writing: whole or not at all, never under a name that another process could choose, and nothing left lying about."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pytest

from mgzoo import storage
from mgzoo.spec import MgzooError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    storage.atomic_write(path, "first\n")
    with pytest.raises(RuntimeError), storage.atomic_path(path) as aside:
        aside.write_text("half")
        assert path.read_text() == "first\n" and aside.parent == path.parent
        raise RuntimeError
    assert names(path.parent) == ["a.txt"] and path.read_text() == "first\n"
    with storage.atomic_path(path, durable=True) as aside:
        aside.write_text("second")
    assert names(path.parent) == ["a.txt"] and path.read_text() == "second"
    storage.atomic_write(path, "ä\n".encode())
    assert path.read_bytes() == b"\xc3\xa4\n"


def test_processes_of_one_number_do_not_write_to_one_name(tmp_path, monkeypatch):
    """Containers that start alike have equal process numbers."""
    monkeypatch.setattr(os, "getpid", lambda: 41)
    with storage.atomic_path(tmp_path / "a") as first, storage.atomic_path(tmp_path / "a") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "1"
    with storage.staging_folder(tmp_path / "b") as first, storage.staging_folder(tmp_path / "b") as second:
        assert first != second


def test_names_do_not_repeat_in_two_processes_that_seed_alike():
    code = "import random; random.seed(0); from pathlib import Path; from mgzoo import storage; print(storage.aside_name(Path('a')))"
    assert len({subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)}) == 2


def test_a_link_is_written_through_and_a_device_is_not_replaced(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    storage.atomic_write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    storage.atomic_write(os.devnull, "anything")
    assert not os.path.isfile(os.devnull)


def test_an_error_names_what_was_asked_for(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        storage.atomic_write(tmp_path / "file" / "below", "x")
    assert "mgzoo-" not in str(caught.value)
    with pytest.raises(OSError) as caught, storage.atomic_path(tmp_path / "x") as aside:
        open(aside / "not a folder")
    assert caught.value.filename is not None
    with pytest.raises(OSError) as caught, storage.atomic_path(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "x") and storage.disk_full(caught.value)


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127])
def test_a_name_as_long_as_names_can_be(tmp_path, name):
    storage.atomic_write(tmp_path / name, "x")
    assert names(tmp_path) == [name]


def test_a_folder_is_replaced_whole_and_put_back_where_that_fails(tmp_path):
    target = tmp_path / "model"
    for text in ("first", "second"):
        with storage.staging_folder(target) as aside:
            (aside / "a").write_text(text)
            storage.replace_folder(aside, target)
    assert names(tmp_path) == ["model"] and (target / "a").read_text() == "second"
    with pytest.raises(FileNotFoundError):
        storage.replace_folder(tmp_path / "absent", target)
    assert names(tmp_path) == ["model"] and (target / "a").read_text() == "second"


def test_what_killed_processes_left_is_removed_after_a_day_and_nothing_else(tmp_path):
    dies = "import os, sys\nfrom pathlib import Path\nfrom mgzoo import storage\nwith storage.atomic_path(sys.argv[1]) as aside:\n    aside.write_text('half')\n    os._exit(9)"
    assert subprocess.run([sys.executable, "-c", dies, str(tmp_path / "a")]).returncode == 9
    (left,) = tmp_path.iterdir()
    folder = storage.aside_name(tmp_path / "model")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "b").write_text("half")
    kept = storage.aside_name(tmp_path / "moved", ".old")  # the only copy: its process died between two renames
    kept.mkdir()
    others = [tmp_path / name for name in (".a.123.part", ".hidden", "a.part")]
    for path in others:
        path.write_text("a person's")
    for path in (left, folder, folder / "deep", kept, *others):
        os.utime(path, (0, 0))
    storage.clean_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([folder, kept, *others])  # a file deep in the folder is new: it may be in use
    os.utime(folder / "deep" / "b", (0, 0))
    os.utime(folder / "deep", (0, 0))
    os.utime(folder, (0, 0))
    storage._cleaned.clear()
    storage.atomic_write(tmp_path / "c", "x")
    assert sorted(tmp_path.iterdir()) == sorted([kept, *others, tmp_path / "c"])


def test_many_writers_of_one_file_leave_one_of_theirs(tmp_path):
    path, texts = tmp_path / "a", [str(i) * 5000 for i in range(8)]
    writers = [threading.Thread(target=lambda text=text: [storage.atomic_write(path, text, durable=False) for _ in range(20)]) for text in texts]
    [one.start() for one in writers]
    while any(one.is_alive() for one in writers):
        assert not path.exists() or path.read_text() in texts
    [one.join() for one in writers]
    assert names(tmp_path) == ["a"] and path.read_text() in texts


def test_a_full_disk_is_said_in_words():
    with pytest.raises(MgzooError, match="disk full while saving x\n    -> free some space"), storage.disk_errors("saving x"):
        raise OSError(errno.EDQUOT, "quota")
    assert storage.disk_full(RuntimeError("[enforce fail at inline_container.cc:595]")) and not storage.disk_full(ValueError("x"))
    with pytest.raises(OSError), storage.disk_errors("saving x"):
        raise OSError(errno.EIO, "input/output error")


def test_storing_imports_no_torch():
    code = "import sys\nfrom mgzoo import storage\nprint({'torch', 'numpy'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
