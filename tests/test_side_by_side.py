"""Trainings side by side: the same bytes as one after the other, failures told of, the rest kept."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import lmsearch
from lmsearch.cli import main
from lmsearch.engine import side_by_side
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.side_by_side import JobError, Workers
from lmsearch.engine.threads import cores
from lmsearch.errors import ConfigError, DataError
from lmsearch.tasks import search
from lmsearch.tasks.parts import recheck

TINY = ["data=planted", "data.grid=3", "model.embed_dim=8", "model.d_state=2", "batch_size=128", "data.steps_per_epoch=5"]
SEARCH = ["search", *TINY, "keep=2", "epochs=2", "search=darts", "optim.lr=0.02", "search.alpha_lr=0.2", "search.health_every=0"]
two_cores = pytest.mark.skipif(cores() < 2, reason="workers=2 needs two cores")


def answer(value: int, after_s: float = 0.0) -> tuple[int, int]:
    time.sleep(after_s)
    return value, torch.get_num_threads()


def broken() -> None:
    raise DataError("no such image")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_answers_come_in_the_order_of_the_jobs_and_each_has_its_threads() -> None:
    assert Workers(2, 1).run({"slow": partial(answer, 1, 2.0), "fast": partial(answer, 2)}) == {"slow": (1, 1), "fast": (2, 1)}


def test_what_fails_is_told_of_when_the_others_are_done(tmp_path: Path) -> None:
    jobs = {"first": broken, "second": killed, "third": partial((tmp_path / "done").write_text, "x")}
    with pytest.raises(JobError, match=r"2 of 3 failed \(.*first: no such image") as raised:
        Workers(2, 1).run(jobs)
    assert "second: killed by SIGKILL" in str(raised.value) and (tmp_path / "done").read_text() == "x"


def test_more_than_the_machine_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    here = cores()
    with pytest.raises(ConfigError, match=rf"workers={here + 1} needs {here + 1} cores; this process may use {here}"):
        Workers.asked_for(here + 1, None, "cpu")
    with pytest.raises(ConfigError, match=rf"workers={here} with threads=2 needs {2 * here} cores"):
        Workers.asked_for(here, 2, "cpu")
    assert Workers.asked_for(1, None, "cpu").threads == here
    monkeypatch.setattr(side_by_side, "cores", lambda: 8)
    monkeypatch.setattr(side_by_side, "device_named", lambda _: torch.device("cuda"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert Workers.asked_for(2, None, "cuda") == Workers(2, 4, ("2", "5"))
    with pytest.raises(ConfigError, match="workers=3 on device=cuda; there is one worker per GPU at most, and 2 here"):
        Workers.asked_for(3, None, "cuda")


def interrupts_are_held() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_worker_never_sees_an_interrupt_not_even_while_it_starts() -> None:
    assert Workers(1, 1).run({"job": interrupts_are_held}) == {"job": True}
    assert not interrupts_are_held()


def test_a_worker_whose_parent_died_while_it_started_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side.sys, "platform", "none")  # no signal for this process
    monkeypatch.setattr(side_by_side.multiprocessing, "parent_process", lambda: SimpleNamespace(pid=os.getppid()))
    side_by_side.die_with_parent()
    monkeypatch.setattr(side_by_side.os, "getppid", lambda: 1)
    monkeypatch.setattr(side_by_side.multiprocessing, "parent_process", lambda: SimpleNamespace(pid=2))
    with pytest.raises(SystemExit):
        side_by_side.die_with_parent()


@two_cores
def test_a_recheck_that_diverges_leaves_the_search_unconfirmed_with_workers_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def diverges(*args: object, **kwargs: object) -> None:
        raise TrainingDiverged("the training loss became nan")

    def run(workers: Workers, jobs: Mapping[str, Callable[[], object]]) -> dict[str, object]:
        """Do here what processes do, which know nothing of the patches."""
        try:
            return {name: job() for name, job in jobs.items()}
        except TrainingDiverged as error:
            raise JobError(str(error)) from error

    for module in (search, recheck):
        monkeypatch.setattr(module, "train_supernet", diverges)
    monkeypatch.setattr(Workers, "run", run)
    assert main([*SEARCH, "seed=7", "threads=1", "workers=2", f"run_dir={tmp_path}"]) == 0
    health = lmsearch.load_genotype(tmp_path).health
    assert health["status"] == "unconfirmed" and "supernets diverged: the training loss became nan" in health["reason"]


def test_workers_that_there_is_no_room_for_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genotype = tmp_path / "genotype.json"
    genotype.write_text('{"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h", "v"]}]}')
    compare = ["compare", *TINY, f"genotype={genotype}", "epochs=1", "optim.warmup_epochs=0"]
    for words in (SEARCH, compare):
        assert main([*words, f"workers={cores() + 1}", f"run_dir={tmp_path / 'run'}"]) == 2
        assert f"workers={cores() + 1} needs" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_search_of_trials_tells_that_workers_have_no_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["search", *TINY, "search=random", "search.trials=1", "keep=2", "epochs=1", "optim.warmup_epochs=0", "workers=2"]
    assert main([*words, f"run_dir={tmp_path}"]) == 0
    assert "workers=2 has no effect: search=random" in caplog.text


def searched_both_ways(folder: Path, *words: str) -> list[tuple[bytes, bytes]]:
    """Return every genotype.json of a search with one worker and of the same with two."""
    one, two = folder / "one", folder / "two"
    for run_dir, workers in ((one, "workers=1"), (two, "workers=2")):
        assert main([*SEARCH, *words, "threads=1", workers, f"run_dir={run_dir}"]) == 0
    return [(path.read_bytes(), (two / path.relative_to(one)).read_bytes()) for path in one.rglob("genotype.json")]


@two_cores
def test_rechecks_side_by_side_give_the_bytes_of_one_after_the_other(tmp_path: Path) -> None:
    ((one, two),) = searched_both_ways(tmp_path, "seed=7", "search.recheck=0.15")
    assert one == two
    assert "recheck_z" in lmsearch.load_genotype(tmp_path / "two").health, "or nothing was trained side by side"


@pytest.mark.slow
@two_cores
def test_seeds_side_by_side_give_the_bytes_of_one_after_the_other(tmp_path: Path) -> None:
    pairs = searched_both_ways(tmp_path, "seeds=2", "search.recheck=0")
    assert len(pairs) == 3 and all(one == two for one, two in pairs)


@pytest.mark.slow
@two_cores
def test_arms_side_by_side_are_the_arms_of_one_after_the_other(tmp_path: Path) -> None:
    genotype = tmp_path / "genotype.json"
    genotype.write_text('{"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h", "v"]}]}')
    words = ["compare", f"genotype={genotype}", "epochs=1", "optim.warmup_epochs=0", "model.depth=1", "model.embed_dim=8"]
    for name, workers in (("one", "workers=1"), ("two", "workers=2")):
        assert main([*words, "batch_size=256", "threads=1", workers, "baseline_limit=0", f"run_dir={tmp_path / name}"]) == 0
    one, two = ((tmp_path / name / "comparison.json").read_bytes() for name in ("one", "two"))
    assert one == two
    assert main([*words, "workers=0", f"run_dir={tmp_path / 'none'}"]) == 2
