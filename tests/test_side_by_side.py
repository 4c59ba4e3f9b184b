"""Trainings side by side: the same bytes as one after the other, failures told of, the rest kept."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import lmsearch
from lmsearch import cli
from lmsearch.audit import auditor
from lmsearch.audit.auditor import Auditor
from lmsearch.audit.ledger import Ledger, OutOfTime
from lmsearch.audit.parts import parts_of
from lmsearch.audit.setting import Plan, Setting, Speed
from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.context import SHARING, setting
from lmsearch.engine import side_by_side
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import CrashError, Failure, JobError, Keep, Running, Success, Worker, Workers
from lmsearch.engine.threads import cores, exactly
from lmsearch.errors import ConfigError, DataError
from lmsearch.interrupts import Stopped, answering_signals
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.discrete.evaluators import Evaluation, StandAlone
from lmsearch.search.discrete.trials import build_strategy
from lmsearch.settings.tasks import Audit, Search
from lmsearch.tasks import search
from lmsearch.tasks.audit import OF_A_SEARCH, make_setting
from lmsearch.tasks.parts import discrete, recheck
from lmsearch.tasks.parts.build import build_data, build_precision
from lmsearch.tasks.search import check_workers

TINY = ["data=planted", "data.grid=3", "model.embed_dim=8", "model.d_state=2", "batch_size=128", "data.steps_per_epoch=5"]
SEARCH = ["search", *TINY, "keep=2", "epochs=2", "search=darts", "optim.lr=0.02", "search.alpha_lr=0.2", "search.health_every=0"]
two_cores = pytest.mark.skipif(cores() < 2, reason="workers=2 needs two cores")


def answer(value: int, after_s: float = 0.0) -> tuple[int, int]:
    time.sleep(after_s)
    return value, torch.get_num_threads()


def interrupts_are_held() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def broken() -> None:
    raise DataError("no such image")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def here(workers: Workers, jobs: Iterable[tuple[str, Callable[[], object]]], keep: Keep) -> None:
    """Do in this process what workers do, after the pickling that they need."""
    for name, job in jobs:
        keep(name, pickle.loads(pickle.dumps(job))(), 1.0)


def test_answers_come_in_the_order_of_the_jobs_and_each_has_its_threads_and_sees_no_interrupt() -> None:
    jobs = {"slow": partial(answer, 1, 2.0), "fast": partial(answer, 2), "held": interrupts_are_held}
    assert Workers(2, 1).run(jobs) == {"slow": (1, 1), "fast": (2, 1), "held": True}
    assert not interrupts_are_held()


def test_a_worker_does_one_job_after_the_other_and_what_fails_is_told_of_when_all_are_done() -> None:
    found: dict[str, int] = {}
    jobs = {"first": os.getpid, "bad": broken, "second": os.getpid, "worse": killed, "third": os.getpid}
    with pytest.raises(CrashError, match=r"2 of 5 failed \(bad: no such image") as raised:
        Workers(1, 1).each(jobs.items(), lambda name, value, took_s: found.update({name: value}))
    assert "worse: killed by SIGKILL" in str(raised.value)
    assert found["first"] == found["second"] and found["third"] not in (found["first"], os.getpid())


@pytest.mark.parametrize(("error", "code"), [(JobError("no such image"), 2), (CrashError("killed"), 1)])
def test_only_what_a_user_can_mend_exits_with_2(
    error: JobError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_main", fails)
    assert main(["search"]) == code and f"error: {error}" in capsys.readouterr().err


def test_an_error_of_a_users_is_told_from_a_crash() -> None:
    def outcome(good: bool, exitcode: int) -> Success | Failure:
        reader, writer = multiprocessing.Pipe(duplex=False)
        if not exitcode:
            writer.send_bytes(pickle.dumps((good, "value")))
        writer.close()
        process = SimpleNamespace(join=lambda: None, exitcode=exitcode)
        return Running("job", Worker(process, reader), 0, 0.0).result()

    assert outcome(True, 0) == Success("value") and outcome(False, 0) == Failure("job", "value", of_a_user=True)
    crashed = outcome(False, 1)
    assert isinstance(crashed, Failure) and not crashed.of_a_user and "ended with code 1" in str(crashed)


def test_a_signal_ends_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    there: list[Connection] = []  # the ends of the pipes that the processes would hold

    def start(workers: Workers, slot: int) -> Worker:
        """Start a process that is no Python: this is about its end."""
        started.append(subprocess.Popen(["sleep", "1000"]))
        process, pipes = started[0], multiprocessing.Pipe()
        there.append(pipes[1])
        return Worker(SimpleNamespace(terminate=process.terminate, join=process.wait), pipes[0])

    def jobs() -> Iterator[tuple[str, Callable[[], object]]]:
        yield "long", dict
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Workers, "_start", start)

    with pytest.raises(Stopped), answering_signals():
        Workers(2, 1).each(jobs(), lambda *told: None)
    assert [process.poll() for process in started] == [-signal.SIGTERM]


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
    with setting(SHARING, 3):
        assert [Workers.asked_for(n, None, "cuda").threads for n in (1, 2)] == [2, 1], "trials of a sweep share the cores"
    with pytest.raises(ConfigError, match="workers=3 on device=cuda; there is one worker per GPU at most, and 2 here"):
        Workers.asked_for(3, None, "cuda")


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
    for words in (SEARCH, compare, ["audit", *TINY, "keep=2"], ["search", "search=random", *TRIALS]):
        assert main([*words, f"workers={cores() + 1}", f"run_dir={tmp_path / 'run'}"]) == 2
        assert f"workers={cores() + 1} needs" in capsys.readouterr().err and not (tmp_path / "run").exists()


@two_cores
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search=random", "search.evaluate=shared"], "search.evaluate=shared trains one supernet"),
        (["search=local", "search.evaluate=standalone"], "search=local proposes each trial after the score of the one before"),
    ],
)
def test_a_search_of_trials_tells_where_workers_have_no_effect(
    words: list[str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = compose_settings(Search, [*words, "workers=2"])
    strategy = build_strategy(settings.discrete.method, population=3, tournament=2)
    assert discrete.workers_of(settings, strategy, ArchitectureSpace.of([("h", "v", "w2")], [1])) is None
    assert f"workers=2 has no effect: {told}" in caplog.text


@two_cores
def test_a_single_training_tells_that_workers_have_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    check_workers(compose_settings(Search, ["seeds=1", "search.recheck=0", "workers=2"]))
    assert "workers=2 has no effect: seeds=1" in caplog.text


@two_cores
def test_trials_side_by_side_are_those_of_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandAlone, "__call__", made_up)
    monkeypatch.setattr(Workers, "each", here)
    words = ["search", "search=evolution", *TRIALS, "search.population=5"]
    for workers in (1, 2):
        assert main([*words, "threads=1", f"workers={workers}", f"run_dir={tmp_path / str(workers)}"]) == 0
    assert len(trials(tmp_path / "1")) == 12 and trials(tmp_path / "1") == trials(tmp_path / "2")
    one, two = ((tmp_path / name / "genotype.json").read_bytes() for name in "12")
    assert one == two


TRIALS = ["data=planted", "data.grid=3", "data.steps_per_epoch=1", "epochs=1", "optim.warmup_epochs=0", "batch_size=128"]
TRIALS += ["model.depth=1", "model.embed_dim=8", "keep=2", "search.trials=12", "search.evaluate=standalone"]


def trials(run_dir: Path) -> list[dict[str, object]]:
    """Return the lines of trials.csv, but for the seconds that they took."""
    return [row | {"seconds": 0} for row in csv.DictReader((run_dir / "trials.csv").read_text().splitlines())]


def made_up(alone: StandAlone, architecture: Architecture) -> Evaluation:
    """A score that tells architectures apart."""
    score = sum(map(ord, "".join(architecture[0]))) % 89
    return Evaluation(score, -score, alone.price(2))


@two_cores
def test_trials_that_were_done_beside_one_that_failed_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Architecture] = []

    def failing(workers: Workers, jobs: Iterable[tuple[str, Callable[[], object]]], keep: Keep) -> None:
        (first, job), _ = jobs
        keep(first, job(), 1.0)
        raise JobError("1 of 2 failed")

    def counted(alone: StandAlone, architecture: Architecture) -> Evaluation:
        trained.append(architecture)
        return made_up(alone, architecture)

    monkeypatch.setattr(StandAlone, "__call__", counted)
    words = ["search", "search=random", *TRIALS, "search.trials=4", "threads=1", f"run_dir={tmp_path}"]
    with monkeypatch.context() as only_here:
        only_here.setattr(Workers, "each", failing)
        assert main([*words, "workers=2"]) == 2
    assert len(trained) == 1 and main(words) == 0
    assert len(trained) == len(set(trained)) == 4


@two_cores
def test_the_parts_of_an_audit_side_by_side_are_those_of_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = audit_setting(["model.depth=1", "model.embed_dim=8"])
    one = Speed(1.0, 13, 1.0, 1.0, 16, 1.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(auditor, "parts_of", lambda *of, within: {f"part {n}": partial(dict, n=n) for n in range(5)})
    monkeypatch.setattr(auditor, "measure", lambda setting: one)
    monkeypatch.setattr(Workers, "each", here)
    found = []
    for workers, minutes in ((1, 30.0), (2, 15.0)):
        folder = RunDir(tmp_path / str(workers))
        folder.make()
        ledger = Ledger(folder, identity="a", limit_s=60 * minutes, at_once=workers)
        found.append(Auditor(setting, None, ledger, minutes, Workers(workers, 1)).run())
    (first, rows, left), (second, others, _) = found
    assert first == second and left == [] and [row["key"] for row in rows] == [row["key"] for row in others]
    assert [row.get("n") for row in rows] == [row.get("n") for row in others] == [None, 0, 1, 2, 3, 4]


def test_no_part_of_an_audit_starts_in_a_worker_when_the_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workers, "each", here)
    ledger = Ledger(RunDir(tmp_path), identity="a", limit_s=1.0, at_once=2)
    auditor = Auditor(None, None, ledger, 1.0, Workers(2, 1))
    with pytest.raises(OutOfTime):
        auditor.complete({f"part {n}": dict for n in range(5)})  # of a second each, see `here`
    assert [*ledger.rows] == ["part 0", "part 1"]


def audit_setting(words: list[str]) -> Setting:
    """Return what `lmsearch audit` with these words audits."""
    settings = compose_settings(Audit, words).changed(OF_A_SEARCH)
    return make_setting(settings, build_data(settings.data), build_precision(settings))


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


@pytest.mark.slow
@two_cores
def test_the_parts_of_an_audit_measure_in_workers_what_they_measure_here() -> None:
    setting = audit_setting([*TINY, "keep=2", "epochs=1", "optim.warmup_epochs=0", "search.recheck=0"])
    parts = parts_of(setting, None, Plan(epochs=1, rounds=1, per_round=1))
    parts = {key: job for key, job in parts.items() if key != "control planted"}  # a search of its own, longer than all others
    with exactly(1):
        here = {key: job() for key, job in parts.items()}
    assert json.dumps(Workers(2, 1).run(parts)) == json.dumps(here) and len(here) == 5


@pytest.mark.slow
@two_cores
def test_architectures_trained_side_by_side_score_as_one_after_the_other(tmp_path: Path) -> None:
    for workers in (1, 2):
        words = ["search", "search=random", *TRIALS, "search.trials=4", "threads=1", f"workers={workers}"]
        assert main([*words, f"run_dir={tmp_path / str(workers)}"]) == 0
    assert trials(tmp_path / "1") == trials(tmp_path / "2")
