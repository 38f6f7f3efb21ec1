"""Laws of runs that must end: what is whole is saved, what is not is not, and the message says from where to go on."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mgzoo.spec import MgzooError
from mgzoo.train import metrics_log

torch.set_num_threads(1)
WORKER = Path(__file__).with_name("toy_training.py")


def _toy():
    spec = importlib.util.spec_from_file_location("toy_training", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = _toy()


def artifact(folder: Path) -> bytes:
    return (folder / "artifact/toy.safetensors").read_bytes()


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir()) if (folder / "checkpoints").exists() else []


class Bad(toy.Points):
    """A clip in the middle of the run that cannot be read."""

    def batches(self, size):
        for clips in super().batches(size):
            if self.position == 10:
                raise MgzooError("clip 36 cannot be decoded", remedy="mend it", origin="clips/36.mp4")
            yield clips


@pytest.mark.parametrize("stage", [1, 3])
def test_a_bad_clip_in_the_middle_of_a_run_costs_no_step(tmp_path, stage):
    """In the second micro-batch of a step: resumed with the clip mended, the run ends with the bits of one that never met it."""
    plan = {"steps": 8, "micro_batch": 4, "stage": stage, "every": 2}
    with pytest.raises(MgzooError) as caught:
        toy.job(tmp_path / "run", stream=Bad, **plan)
    assert str(caught.value) == "clips/36.mp4: clip 36 cannot be decoded\n    -> mend it; step-000004 is saved: continue with --resume"
    assert saved(tmp_path / "run") == ["latest", "step-000004"]
    toy.job(tmp_path / "run", resume=True, **plan)
    toy.job(tmp_path / "whole", **plan)
    assert artifact(tmp_path / "run") == artifact(tmp_path / "whole")
    assert [line["loss"] for line in metrics_log.read_log(tmp_path / "run/metrics.jsonl")] == [line["loss"] for line in metrics_log.read_log(tmp_path / "whole/metrics.jsonl")]


def test_what_is_saved_already_is_named_and_not_saved_again(tmp_path):
    with pytest.raises(MgzooError, match="step-000004 is saved: continue with --resume"):
        toy.job(tmp_path / "run", stream=Bad, steps=8, micro_batch=4, save_every=4)
    with pytest.raises(MgzooError, match="step-000004 is saved: continue with --resume"):
        toy.job(tmp_path / "run", stream=Bad, steps=8, micro_batch=4, save_every=4, resume=True)
    assert saved(tmp_path / "run") == ["latest", "step-000004"]


def test_a_run_without_a_step_saves_nothing_and_says_so(tmp_path, capsys):
    with pytest.raises(OSError):
        toy.job(tmp_path / "run", interrupt={"0": "raise 0"}, task={"still": True}, steps=2, model=Startless())
    assert "! the run ends after step 0 (OSError); no checkpoint was saved: start again without --resume\n" in capsys.readouterr().err
    assert saved(tmp_path / "run") == []
    toy.job(tmp_path / "run", steps=2)


class Startless(toy.Model):
    """Without first weights from the data, so that the first batch is the first step's."""

    def __init__(self):
        super().__init__()
        self.task.start = lambda model, examples: None


def test_an_error_of_the_task_and_of_validation_saves_too(tmp_path, capsys):
    """The first in the middle of a forward pass, whose running statistics are put back; the second after the step, which is kept."""

    class Fails(toy.Flow):
        calls = 0

        def loss(self, model, example, generator):
            made = super().loss(model, example, generator)
            self.calls += 1
            if self.calls == 8:
                raise RuntimeError("out of something")
            return made

        def validate(self, model, example, generator):
            raise RuntimeError("no measure")

    def job(name, **more):
        model = toy.Model(dropout=0.1)
        if more.pop("fails", False):
            model.task = Fails()
        return toy.job(tmp_path / name, model=model, steps=6, micro_batch=4, **more)

    with pytest.raises(RuntimeError, match="out of something"):
        job("run", fails=True)
    assert "! the run ends after step 3 (RuntimeError); step-000003 is saved: continue with --resume\n" in capsys.readouterr().err
    job("run", resume=True)
    job("whole")
    assert artifact(tmp_path / "run") == artifact(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="no measure"):
        job("held", fails=True, validate_every=2)
    assert saved(tmp_path / "held") == ["latest", "step-000002"]


def test_data_that_is_not_there_for_the_second_stage_ends_the_run_with_the_first_saved(tmp_path):
    from mgzoo.train import distributed, loop

    def data(span):
        if span.index:
            raise MgzooError("there is no data at more", remedy="set data.config.path")
        return toy.Points(0, 1)

    plan = {"settings": [{}, {"batch": 16}], "steps": 3}
    with pytest.raises(MgzooError) as caught:
        loop.run(toy.Model(), toy.spans(**plan), data, tmp_path / "run", rank_info=distributed.init_distributed(), seed=3, write=toy.save)
    assert str(caught.value) == "there is no data at more\n    -> set data.config.path; step-000003 is saved: continue with --resume"
    toy.job(tmp_path / "run", resume=True, **plan)
    toy.job(tmp_path / "whole", **plan)
    assert artifact(tmp_path / "run") == artifact(tmp_path / "whole")


def test_no_state_with_a_number_that_is_none_is_saved(tmp_path):
    """The weight that went wrong is one that no loss sees."""

    class Spoils(toy.Points):
        def batches(self, size):
            for clips in super().batches(size):
                if self.position == 6:
                    loops[-1].engine.optimizer.single_partition_of_fp32_groups[0].data[-1] = float("nan")
                    raise MgzooError("clip 5 cannot be decoded")
                yield clips

    from mgzoo.train import loop

    loops, real = [], loop.Loop.__init__
    try:
        loop.Loop.__init__ = lambda self, *a, **k: (loops.append(self), real(self, *a, **k))[1]
        with pytest.raises(MgzooError, match="no checkpoint was saved"):
            toy.job(tmp_path / "run", stream=Spoils, steps=9)
    finally:
        loop.Loop.__init__ = real
    assert saved(tmp_path / "run") == []


def test_data_that_ends_is_named(tmp_path):
    class Short(toy.Points):
        def batches(self, size):
            return (clips for _, clips in zip(range(5), super().batches(size)))

    with pytest.raises(MgzooError, match="the data stream ended\n    -> `batches` of a data part must be endless.*; step-000005 is saved"):
        toy.job(tmp_path / "run", stream=Short, steps=9)


def test_where_one_rank_cannot_go_on_both_save_and_go_on_later(tmp_path):
    """Before, the other rank waited in a sum; now it hears of it before the step."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"steps": 6, "micro_batch": 2, "dropout": 0.0}

    def both(**jobs):
        (tmp_path / "plan.json").write_text(json.dumps(jobs))
        started = []
        for rank in range(2):
            placed = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
            started.append(subprocess.Popen([sys.executable, str(WORKER), str(tmp_path / "plan.json")], env=os.environ | placed, stderr=subprocess.PIPE, text=True))
        return [(process.communicate(timeout=300)[1], process.returncode) for process in started]

    (first, code), (second, other) = both(run={**common, "interrupt": {"7": "raise 1"}})
    assert code and other, first + second
    assert "another rank failed" in first and "step-000003 is saved: continue with --resume" in first, first
    assert "the disk went away: 'clip15.mp4'" in second, second
    assert saved(tmp_path / "run") == ["latest", "step-000003"]
    assert [code for _, code in both(run={**common, "resume": True}, whole=common)] == [0, 0]
    assert artifact(tmp_path / "run") == artifact(tmp_path / "whole")


# counts


def test_what_is_left_out_and_cut_off_is_a_number_in_the_log(tmp_path, capsys):
    class Skips(toy.Points):
        def counts(self):
            return {"skipped": self.position // 2, "nothing": 0}

    model = toy.Model()
    model.counts = lambda: {"encoders.shift.cut": 12}
    toy.job(tmp_path / "run", stream=Skips, model=model, steps=4)
    lines = metrics_log.read_log(tmp_path / "run/metrics.jsonl")
    assert [line["counts"]["data.skipped"] for line in lines if line["step"] > 1] == [1, 1, 2] and "data.nothing" not in lines[-1]["counts"]
    assert lines[0]["counts"] == {"encoders.shift.cut": 12}
    assert "! counted: data.skipped 2, encoders.shift.cut 12\n" in capsys.readouterr().err
    toy.job(tmp_path / "none", steps=1)
    assert "counts" not in metrics_log.read_log(tmp_path / "none/metrics.jsonl")[0]


# validation


def test_validation_that_cannot_be_is_said(tmp_path, capsys):
    class Nothing(toy.Points):
        def held_out(self):
            return []

    toy.job(tmp_path / "run", stream=Nothing, steps=2, validate_every=1, plateau=1)
    assert "! train.validate_every=1: no held-out data, so no validation, and train.plateau=1 has no effect\n" in capsys.readouterr().err
    toy.job(tmp_path / "fine", steps=2, validate_every=1)
    assert "holds nothing out" not in capsys.readouterr().err
