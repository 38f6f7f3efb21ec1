"""Data is found from any folder, and in no folder by chance."""

import pytest

from mgzoo.data import find_data
from mgzoo.data.paths import source_trees
from mgzoo.spec import MgzooError


def test_a_relative_path_is_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (find_data("data/emoji64") / "emoji64-00000.tar").is_file()
    (tmp_path / "data" / "emoji64").mkdir(parents=True)
    assert find_data("data/emoji64").resolve() == tmp_path / "data" / "emoji64", "the working directory comes first"


def test_a_plugins_own_tree_is_looked_into(tmp_path, monkeypatch):
    (tmp_path / "plugin" / "package").mkdir(parents=True)
    (tmp_path / "plugin" / "pyproject.toml").write_text("")
    (tmp_path / "plugin" / "toys").mkdir()
    (tmp_path / "wheel" / "package").mkdir(parents=True)
    (tmp_path / "wheel" / "toys").mkdir()
    assert find_data("toys", beside=tmp_path / "plugin" / "package" / "part.py") == tmp_path / "plugin" / "toys"
    assert tmp_path / "wheel" not in source_trees(tmp_path / "wheel" / "package" / "part.py")
    with pytest.raises(MgzooError, match="there is no data at toys\n    -> set data.config.path to a folder or a shard; looked in"):
        find_data("toys", beside=tmp_path / "wheel" / "package" / "part.py")


def test_the_home_folder_may_be_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "clips").mkdir()
    assert find_data("~/clips") == tmp_path / "clips"
