"""Laws of the cache: an output is served under exactly what it depends on, and never damaged."""

import logging
import shutil

import pytest
import torch

from mgzoo.model import feature_cache as caches
from mgzoo.model.feature_cache import Cache, cache_key, default_root, save_file
from mgzoo.parts import Clip

IDENTITY = ("autoencoders.tae.v1", "0.1.0", '{"channels": 16}', "w" * 64)


def clip(digest):
    return Clip(key=digest, digest=digest, caption="", frames=1, height=4, width=4, fps=1.0, load=lambda: torch.zeros(1, 4, 4, 3, dtype=torch.uint8))


def test_each_part_of_the_identity_and_the_input_makes_another_key():
    base = (*IDENTITY, "input")
    keys = {cache_key(*base), *(cache_key(*base[:i], "other", *base[i + 1 :]) for i in range(5))}
    assert len(keys) == 6
    assert cache_key("ab", "c", "", "", "") != cache_key("a", "bc", "", "", "")
    assert cache_key(*base) == cache_key(*base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_what_is_put_is_got_back_by_another_cache(tmp_path, dtype):
    value = torch.arange(24).reshape(2, 3, 4).to(dtype)
    Cache(tmp_path).put("ab" * 32, value)
    found = Cache(tmp_path).get("ab" * 32)
    assert found.dtype == dtype and torch.equal(found, value)
    assert Cache(tmp_path).get("cd" * 32) is None


def test_only_what_is_missing_is_computed_once_and_in_one_call(tmp_path):
    calls = []

    def compute(clips):
        calls.append([c.digest for c in clips])
        return torch.stack([torch.full((2,), float(ord(c.digest))) for c in clips])

    first = Cache(tmp_path).get_or_compute(IDENTITY, [clip("a"), clip("b"), clip("a")], compute)
    again = Cache(tmp_path).get_or_compute(IDENTITY, [clip("b"), clip("c"), clip("a")], compute)
    assert calls == [["a", "b"], ["c"]]
    assert [v[0].item() for v in first] == [97, 98, 97] and [v[0].item() for v in again] == [98, 99, 97]
    Cache(tmp_path).get_or_compute((*IDENTITY[:3], "other weights"), [clip("a")], compute)
    assert calls[-1] == ["a"]


def test_a_flipped_bit_is_a_miss_with_a_warning(tmp_path, caplog):
    cache = Cache(tmp_path)
    cache.put("ab" * 32, torch.ones(8))
    path = next(tmp_path.rglob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "mgzoo"):
        assert Cache(tmp_path).get("ab" * 32) is None
    assert f"cache entry {path} is damaged and will be computed again" in caplog.text
    made = Cache(tmp_path)
    made.put("ab" * 32, torch.ones(8))
    assert torch.equal(Cache(tmp_path).get("ab" * 32), torch.ones(8))


@pytest.mark.parametrize("keep", [0, 5, 60])
def test_a_cut_off_entry_is_a_miss(tmp_path, keep):
    Cache(tmp_path).put("ab" * 32, torch.ones(8))
    path = next(tmp_path.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:keep])
    assert Cache(tmp_path).get("ab" * 32) is None


def test_nothing_half_written_is_left(tmp_path):
    Cache(tmp_path).put("ab" * 32, torch.ones(8))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["ab" * 32 + ".safetensors"]
    assert (tmp_path / "ab" / "ab").is_dir()


def test_memory_is_bounded_and_the_least_used_leaves_first():
    cache = Cache(memory=100, disk=False)
    for name in "abc":
        cache.put(name, torch.ones(10))
        cache.get("a")
    assert cache.get("a") is not None and cache.get("b") is None and cache.get("c") is not None
    cache.put("big", torch.ones(1000))
    assert cache.get("big") is None and cache.get("a") is not None


def test_a_row_does_not_keep_its_batch_alive():
    cache = Cache(disk=False)
    cache.put("row", torch.ones(100, 10)[3])
    assert cache.get("row").untyped_storage().nbytes() == 40


def test_without_disk_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path))
    Cache(disk=False).put("ab" * 32, torch.ones(8))
    assert not list(tmp_path.iterdir())
    Cache().put("ab" * 32, torch.ones(8))
    assert (tmp_path / "cache").is_dir()


def test_the_default_root_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MGZOO_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "mgzoo"


def test_a_place_that_cannot_be_written_costs_the_disk_only(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    cache.put("ab" * 32, torch.ones(8))
    assert torch.equal(cache.get("ab" * 32), torch.ones(8))
    assert "continuing without it; set MGZOO_HOME" in caplog.text


def test_a_cache_that_is_cleaned_away_meanwhile_is_gone_on_with(tmp_path, monkeypatch):
    """rm -r of the cache beside a run costs the entries only; a file system that is read-only costs the disk."""
    cache = Cache(tmp_path / "cache")
    real, times = save_file, []

    def pulled_away(tensors, aside, **more):
        times.append(aside)
        if len(times) == 1:
            shutil.rmtree(tmp_path / "cache")
        real(tensors, aside, **more)

    monkeypatch.setattr(caches, "save_file", pulled_away)
    cache.put("ab" * 32, torch.ones(8))
    assert len(times) == 2 and cache.root is not None and torch.equal(Cache(tmp_path / "cache").get("ab" * 32), torch.ones(8))


def test_who_comes_second_takes_the_entry_that_is_there(tmp_path, monkeypatch):
    Cache(tmp_path).put("ab" * 32, torch.ones(8))
    cache = Cache(tmp_path)

    def fails(*_, **__):
        raise OSError(5, "a race that is lost")

    monkeypatch.setattr(caches, "save_file", fails)
    cache.put("ab" * 32, torch.ones(8))
    assert cache.root is not None
    cache.put("cd" * 32, torch.ones(8))  # there is no such entry: the disk is at fault
    assert cache.root is None
