"""A training that cannot fit into memory is refused before torch is imported; what fits never is."""

import subprocess
import sys
from pathlib import Path

import pytest

from mgzoo import machine
from mgzoo.budget import bytes_per_rank, excess, require_memory
from mgzoo.cli import run
from mgzoo.plan import plan
from mgzoo.recipe.compose import compose
from mgzoo.recipe.shipped import recipe_names
from mgzoo.spec import MgzooError

GIB = 2**30


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: {"total": 8 * GIB, "available": 4 * GIB})


def test_the_papers_model_is_refused_on_a_small_machine(small):
    with pytest.raises(MgzooError, match=r"takes 18\d\.\d TiB of main memory, this machine has 8.0 GiB\n    -> make backbone smaller \(backbones.llama3.v1 has 29.30 B parameters\)"):
        require_memory(compose("movie_gen/t2v_30b"), "cpu")


@pytest.mark.parametrize("name", sorted(name for name in recipe_names() if name.startswith("tiny/")))
def test_every_tiny_recipe_fits_eight_gibibytes(name, small):
    require_memory(compose(name), "cpu")


def test_ranks_on_one_machine_share_its_memory(monkeypatch):
    answer = plan(compose("tiny/emoji_t2v"), gpus=2, device="cpu")
    needs = sum(bytes_per_rank(answer))
    monkeypatch.setattr(machine, "memory", lambda: {"total": int(1.5 * needs), "available": None})
    assert excess(answer) is None and "for 2 ranks" in excess(answer, ranks_here=2)
    monkeypatch.setattr(machine, "memory", lambda: {"total": None, "available": None})
    assert excess(answer, ranks_here=1000) is None


def test_a_gpu_is_compared_with_its_own_memory():
    answer = plan(compose("movie_gen/t2v_30b"), gpus=6144, device="cuda")
    on_device, _ = bytes_per_rank(answer)
    assert "on each GPU, which has" in excess(answer, device_memory=int(on_device) - 1) and excess(answer, device_memory=int(on_device) + 1) is None


def test_offload_moves_the_need_to_main_memory():
    staged = [compose("movie_gen/t2v_5b", [f"zero.offload_optimizer={on}"]) for on in ("false", "true")]
    without, with_offload = (bytes_per_rank(plan(recipe, gpus=8, device="cuda")) for recipe in staged)
    assert without[1] == 0 and with_offload[1] > 0 and with_offload[0] < without[0]


def test_the_refusal_imports_no_torch_and_writes_nothing(tmp_path):
    code = (
        "import sys\nfrom mgzoo import machine\nmachine.memory = lambda: {'total': 1 << 30, 'available': 1 << 30}\nfrom mgzoo.cli import run\n"
        "code = run(['train', 'movie_gen/t2v_5b', '--out', 'run'])\nprint(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=None)
    assert done.stdout.strip() == "1 False" and "build it anyway with --force" in done.stderr and not list(tmp_path.iterdir())


def test_plan_says_what_does_not_fit(small, capsys):
    assert run(["plan", "movie_gen/t2v_5b"]) == 0
    assert "note: training movie_gen/t2v_5b takes" in capsys.readouterr().out
    assert run(["plan", "tiny/circle"]) == 0
    assert "note: training" not in capsys.readouterr().out


def test_a_containers_limit_is_the_total(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1048576\n")
    (tmp_path / "unlimited").write_text("max\n")
    monkeypatch.setattr(machine, "LIMITS", (str(tmp_path / "memory.max"), str(tmp_path / "none")))
    assert machine.memory()["total"] in (1048576, None)
    monkeypatch.setattr(machine, "LIMITS", (str(tmp_path / "unlimited"),))
    assert machine.memory()["total"] != 1048576
    assert Path("/proc/meminfo").is_file() is (machine.memory()["total"] is not None)
