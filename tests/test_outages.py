"""Databases of trials that are away for a while: no trial is lost or counted twice, no signal waits, no lock is held."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.trial import TrialState
from test_sweep_pool import sweep_of

from lmsearch.config import compose, settings_of
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import StorageAwayError
from lmsearch.interrupts import Stopped, answering_signals, held_signals
from lmsearch.settings.sweep import Sweep
from lmsearch.sweep import pool, worker
from lmsearch.sweep.pool import Worker, supervise
from lmsearch.sweep.study import ID, IDENTITY, SKIPPING, STOPPED, Pruning, open_study
from lmsearch.sweep.worker import AWAY, Reporter, take, work
from lmsearch.tasks.sweep import begin
from lmsearch.trials import database, journal, patience, storage
from lmsearch.trials.storage import LOST, ask, exclusive, open_storage

RANGE = {"x": FloatDistribution(0.0, 1.0)}


def away(*_: object, **__: object) -> None:
    """What the storage does while the database is away."""
    raise StorageInternalError("An exception is raised during the commit") from OSError("server closed the connection")


def test_a_signal_that_is_held_back_ends_the_waiting_for_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def call() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        away()

    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 30.0)
    with pytest.raises(Stopped), answering_signals(), held_signals():
        with pytest.raises(StorageAwayError, match=r"does not answer \(server closed the connection\)"):
            patience.patiently(call)


@pytest.mark.parametrize("call", ["set_trial_user_attr", "set_trial_param"])
def test_a_trial_that_the_storage_was_away_for_is_gone_on_with(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, failed = optuna.create_study(storage=open_storage(tmp_path / "trials.journal")), []
    real = getattr(JournalStorage, call)

    def once(*values: object) -> None:
        if not failed:
            failed.append(values)
            away()
        real(*values)

    monkeypatch.setattr(JournalStorage, call, once)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    trial = patience.patiently(partial(ask, study, RANGE, begun=[]))
    assert failed and trial.number == 0 and len(study.trials) == 1 and study.trials[0].params == trial.params


def test_heartbeats_may_stay_away_for_as_long_as_a_database_may() -> None:
    look_s = storage.BEAT_AGAIN_S + 2 * database.SERVER_S  # until a beat is written to a database that is back
    assert storage.STALE_S >= patience.PATIENCE_S + storage.BEAT_S + look_s


@pytest.mark.parametrize("url", ["postgresql+psycopg://host/x", "postgresql+psycopg2://host/x", "mysql+pymysql://host/x"])
def test_a_server_that_is_silent_counts_as_away_before_a_lock_is_taken_away(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, dict[str, int]]] = []
    monkeypatch.setattr(database, "RDBStorage", lambda url, engine_kwargs: opened.append(engine_kwargs))
    open_storage(url)
    open_storage(f"{url}?connect_timeout=7")
    by_default, by_url = (options["connect_args"] for options in opened)
    assert 0 < 2 * by_default["connect_timeout"] < journal.LOCK_S, "it is called to look for it, and called again"
    assert "connect_timeout" not in by_url


@pytest.mark.parametrize("next_one", [True, False])
def test_a_lock_that_was_taken_away_is_left_to_who_took_it(
    next_one: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = tmp_path / "lock.lock"
    with exclusive(tmp_path / "lock"):
        link.rename(tmp_path / "taken")
        if next_one:
            link.symlink_to(tmp_path / "lock")
    assert link.is_symlink() == next_one and "another process has taken the lock" in caplog.text


@pytest.mark.parametrize("back", [True, False])
def test_a_database_that_is_away_for_long_is_no_fault_of_the_trial(
    back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(task: str, words: Sequence[str], folder: RunDir) -> None:
        raise StorageAwayError("the database did not answer")

    sweep = sweep_of(tmp_path, trials=1)
    study = open_study(sweep)
    if not back:
        monkeypatch.setattr(worker, "abandon", away)
    with pytest.raises(StorageAwayError):
        work(sweep, report)
    assert [t.state for t in study.trials] == ([TrialState.FAIL, TrialState.WAITING] if back else [TrialState.RUNNING])
    assert study.trials[0].user_attrs.get(LOST) == (AWAY if back else None)


def test_a_trial_that_the_database_went_in_the_middle_of_takes_the_place_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, real, calls = sweep_of(tmp_path, trials=1), JournalStorage.set_trial_param, []
    study = open_study(sweep)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(
        JournalStorage, "set_trial_param", lambda *all: calls.append(all) or (real if len(calls) > 1 else away)(*all)
    )
    trial = take(study, sweep)
    assert trial is not None and trial.number == 0 and len(calls) == 2 and len(study.trials) == 1


def test_a_signal_that_comes_while_the_database_is_away_leaves_the_epoch_to_be_saved(tmp_path: Path) -> None:
    sweep = replace(sweep_of(tmp_path, trials=1), pruning=Pruning("median", "x"))
    trial = ask(open_study(sweep), RANGE)

    def report(value: float, step: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        away()

    trial.report = report
    saved: list[int] = []
    with pytest.raises(Stopped), answering_signals(), held_signals():
        Reporter(trial, sweep)(0, {"x": 1.0})
        saved.append(1)
    assert saved


def test_a_sweep_begins_once_its_database_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failed = JournalStorage.set_study_user_attr, set[str]()

    def once(self: JournalStorage, study_id: int, key: str, value: object) -> None:
        if key not in failed:
            failed.add(key)
            away()
        real(self, study_id, key, value)

    monkeypatch.setattr(JournalStorage, "set_study_user_attr", once)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    settings = settings_of(Sweep, compose("sweep", ["task=retrain", "metric=x", "params={seed: [1, 2]}"]))
    study = begin(settings, sweep_of(tmp_path, trials=1))
    assert failed == set(study.user_attrs) == {ID, IDENTITY, STOPPED, SKIPPING, storage.VERSIONS}


def test_a_sweep_that_a_database_ends_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def progress() -> None:
        raise StorageAwayError("the database did not answer")

    ends: list[str] = []
    monkeypatch.setattr(pool, "recover", away)
    end, wait = (partial(ends.append, how) for how in ("terminated", "joined"))
    one = Worker("one", tmp_path / "log", ended=lambda: False, problem=lambda: None, terminate=end, join=wait)
    sweep = sweep_of(tmp_path, trials=1)
    with pytest.raises(StorageAwayError, match="the database did not answer"):
        supervise(open_study(sweep), sweep, lambda: one, workers=1, progress=progress)
    assert ends == ["terminated", "joined"] and "queued again by the next call (server closed the connection)" in caplog.text
