"""Storages of trials: what opens, what does not, and that a killed process loses no trial."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import Mock

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from lmsearch.errors import StorageAwayError, StorageError
from lmsearch.trials import patience, storage
from lmsearch.trials.storage import (
    abandon,
    ask,
    beating,
    claim,
    counted,
    exclusive,
    note_version,
    open_storage,
    origin,
    recover,
    watched,
)
from lmsearch.trials.watch import Watch

NO_DRIVER = "needs the driver psycopg; install it with: pip install 'psycopg[binary]'"
RANGE = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}


def new_study(where: str | Path) -> optuna.Study:
    """Return the study of these tests in the storage `where`."""
    return optuna.create_study(storage=open_storage(where), study_name="test", load_if_exists=True)


@pytest.fixture(params=["journal", "sqlite"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the place of a storage, of every kind."""
    return str(tmp_path / "trials.journal") if request.param == "journal" else f"sqlite:///{tmp_path}/trials.db"


def run_forever(where: str) -> None:
    """What a worker does that will be killed in the middle of a trial."""
    study = new_study(where)
    trial = study.ask(RANGE)
    claim(trial)
    time.sleep(1000)


def test_trials_outlive_the_process(where: str) -> None:
    study = new_study(where)
    study.tell(study.ask(RANGE), 1.0)
    assert new_study(where).best_value == 1.0


def test_a_trial_whose_process_was_killed_is_failed_and_queued_again(tmp_path: Path) -> None:
    where = str(tmp_path / "trials.journal")
    study = new_study(where)
    process = multiprocessing.get_context("spawn").Process(target=run_forever, args=(where,))
    process.start()
    while not any("worker" in t.user_attrs for t in study.get_trials(deepcopy=False)):
        assert process.is_alive()
        time.sleep(0.02)
    while (tmp_path / "trials.journal.lock").is_symlink():  # killed inside, it would hold the journal for a minute
        time.sleep(0.02)
    assert recover(study) == [], "its process is alive"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert recover(study) == [0]
    assert study.trials[0].state == TrialState.FAIL and study.trials[0].user_attrs["lost"] == "its process died"
    again = study.ask(RANGE)
    assert (again.params, origin(again)) == (study.trials[0].params, 0)
    assert [t.number for t in counted(study)] == [1], "the lost trial takes nothing from the budget"


def die(study: optuna.Study, trial: optuna.Trial) -> None:
    """Make a trial look as if its process had died."""
    claim(trial)
    trial.set_user_attr(storage.WORKER, trial.user_attrs[storage.WORKER] | {"born": "of another process with this id"})


def test_a_trial_that_nobody_claimed_is_queued_again_once(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = new_study(where)
    lost = study.ask(RANGE)
    monkeypatch.setattr(storage, "CLAIM_S", 0.0)
    assert recover(study) == [0] and recover(study) == []
    assert study.ask(RANGE).params == lost.params
    assert len(study.trials) == 2


def test_a_trial_that_was_just_asked_for_is_left_to_whoever_claims_it(where: str) -> None:
    study = new_study(where)
    trial = study.ask(RANGE)
    assert recover(study) == []
    claim(trial)
    study.tell(trial, 1.0)
    assert study.best_value == 1.0


def test_a_trial_that_was_lost_before_it_was_claimed_is_asked_for_again(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study, real, claims = new_study(where), storage.claim, []
    study.enqueue_trial({"x": 0.25})

    def late(trial: optuna.Trial, *, name: str) -> None:
        claims.append(trial.number)
        if len(claims) == 1:
            monkeypatch.setattr(storage, "CLAIM_S", 0.0)
            recover(new_study(where))  # as another machine does
        real(trial, name=name)

    monkeypatch.setattr(storage, "claim", late)
    trial = ask(study, RANGE, name="me")
    assert claims == [0, 1] and trial.user_attrs["worker"]["name"] == "me"
    assert trial.params == {"x": 0.25} and len(counted(study)) == 1


def test_a_worker_that_was_stopped_is_not_said_to_have_died(tmp_path: Path) -> None:
    study = new_study(tmp_path / "trials.journal")
    for name in ("stopped", "other"):
        claim(study.ask(RANGE), name=name)
    assert recover(study, gone=["stopped"], reason="interrupted") == [0]  # the other one's process, this one, is alive
    assert study.trials[0].user_attrs["lost"] == "interrupted" and study.trials[1].state == TrialState.RUNNING


def test_an_interruption_between_failing_and_queueing_is_made_good(tmp_path: Path) -> None:
    study = new_study(tmp_path / "trials.journal")
    claim(study.ask(RANGE))
    storage._fail(study, 0, "its process died")
    assert recover(study) == []
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_parameters_that_keep_killing_their_process_are_given_up(tmp_path: Path) -> None:
    study = new_study(tmp_path / "trials.journal")
    for _ in range(3):
        die(study, study.ask(RANGE))
        recover(study, retries=2)
    assert [t.state for t in study.trials] == [TrialState.FAIL] * 3
    assert [t.number for t in counted(study)] == [2]


def test_deaths_count_only_where_tries_begin_at_the_same_place(tmp_path: Path) -> None:
    study = new_study(tmp_path / "trials.journal")
    for place in (0, 1, 1, 2, 3, 3, 3):
        trial = study.ask(RANGE)
        trial.set_user_attr(storage.REACHED, place)
        die(study, trial)
        assert study.trials[-1].state == TrialState.RUNNING
        recover(study, retries=2)
    assert [t.state for t in study.trials] == [TrialState.FAIL] * 7, "the third at one place is the last"


def test_interruptions_lose_no_trial_however_many(tmp_path: Path) -> None:
    study = new_study(tmp_path / "trials.journal")
    params = {"x": 0.25}
    study.enqueue_trial(params)
    for number in range(8):
        trial = ask(study, RANGE, name="mine")
        assert trial.params == params and len(counted(study)) == 1
        if number in (2, 5):  # deaths between them, fewer than are too many
            die(study, trial)
            recover(study)
        elif number % 2:
            abandon(study, trial, reason="interrupted")
        else:
            recover(study, gone=["mine"], reason="interrupted")
    study.tell(study.ask(RANGE), 1.0)
    assert study.best_params == params and [t.number for t in counted(study)] == [8]


def test_an_error_that_ends_a_process_counts_as_its_death(tmp_path: Path) -> None:
    study = new_study(tmp_path / "trials.journal")
    for _ in range(3):
        abandon(study, ask(study, RANGE), reason=f"{storage.DIED}: RuntimeError", retries=2)
    assert [t.state for t in study.trials] == [TrialState.FAIL] * 3


def test_an_abandoned_trial_is_queued_again(tmp_path: Path) -> None:
    study = new_study(tmp_path / "trials.journal")
    trial = study.ask(RANGE)
    claim(trial)
    abandon(study, trial, reason="interrupted")
    assert study.trials[0].user_attrs["lost"] == "interrupted"
    assert study.ask(RANGE).params == trial.params


def claimed_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[optuna.Study, optuna.Trial]:
    """Return a study and a trial of it that a process on another machine has claimed."""
    study = new_study(folder / "trials.journal")
    monkeypatch.setattr(storage.socket, "gethostname", lambda: "elsewhere")
    trial = study.ask(RANGE)
    claim(trial)
    monkeypatch.setattr(storage.socket, "gethostname", lambda: "here")
    return study, trial


def test_a_process_elsewhere_lives_as_long_as_its_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, trial = claimed_elsewhere(tmp_path, monkeypatch)
    monkeypatch.setattr(storage, "CONFIRM_S", 0.2)
    assert recover(study, watch=watched(study)) == []
    trial.set_user_attr("beat", time.time() - storage.STALE_S - 1)
    assert recover(study) == [], "who sees it for the first time cannot tell"
    with beating(trial, every_s=0.01):
        assert recover(study, watch=watched(study)) == []
    trial.set_user_attr("beat", time.time() - storage.STALE_S - 1)
    assert recover(study, watch=watched(study)) == [0]


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0])
def test_machines_need_not_have_the_same_time(ahead_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, trial = claimed_elsewhere(tmp_path, monkeypatch)
    monkeypatch.setattr(storage, "CONFIRM_S", 0.1)
    trial.set_user_attr("beat", time.time() + ahead_s)
    watch = Watch()
    assert recover(study, watch=watch) == []
    time.sleep(0.15)
    trial.set_user_attr("beat", time.time() + ahead_s)  # by the clock of the other machine
    assert recover(study, watch=watch) == [], "it changed, so its process lives"
    time.sleep(0.15)
    assert recover(study, watch=watch) == [], "a beat was missed"
    monkeypatch.setattr(storage, "STALE_S", 0.1)
    time.sleep(0.15)
    assert recover(study, watch=watch) == [0], "it has not changed since"


def test_a_heart_beats_on_when_the_database_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, asked = new_study(f"sqlite:///{tmp_path}/trials.db"), []
    trial = ask(study, RANGE)
    real = trial.set_user_attr

    def away(key: str, value: object) -> None:
        asked.append(key)
        if len(asked) < 3:
            raise StorageInternalError("An exception is raised during the commit") from OSError("server closed the connection")
        real(key, value)

    monkeypatch.setattr(trial, "set_user_attr", away)
    before = study.trials[0].user_attrs["beat"]
    with beating(trial, every_s=0.01):
        while study.trials[0].user_attrs["beat"] == before:
            time.sleep(0.01)
    assert len(asked) >= 3


def test_a_database_that_is_away_for_a_while_is_asked_again_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise StorageInternalError("An exception is raised during the commit") from OSError("server closed the connection")
        return "there"

    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    assert patience.patiently(call) == "there" and caplog.text.count("(server closed the connection); asking again") == 2
    calls.clear()
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    with pytest.raises(StorageError, match=r"did not answer for 0 s \(server closed the connection\)"):
        patience.patiently(call)


@pytest.mark.parametrize(
    "told", ["attempt to write a readonly database", "database or disk is full", "unable to open database file"]
)
def test_a_database_that_cannot_be_written_is_not_waited_for(told: str) -> None:
    failure = StorageInternalError("An exception is raised during the commit")
    failure.__cause__ = sqlite3.OperationalError(told)
    call = Mock(side_effect=[failure, AssertionError("asked again")])
    with pytest.raises(StorageAwayError, match=rf"cannot be used \({told}\)"):
        patience.patiently(call)


def test_a_heart_that_beats_for_a_trial_that_was_lost_stops_quietly(tmp_path: Path) -> None:
    study = new_study(tmp_path / "trials.journal")
    trial = ask(study, RANGE)
    with beating(trial, every_s=0.01):
        heart = next(t for t in threading.enumerate() if t.name == storage.HEART)
        abandon(study, trial, reason="interrupted")
        heart.join()  # pytest turns what a thread raises into a failure


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "trials.journal"
    study = new_study(path)
    study.tell(study.ask(RANGE), 1.0)
    with path.open("a") as file:
        file.write('{"op_code":4,"wor')
    study = new_study(path)
    study.tell(study.ask(RANGE), 0.5)
    assert new_study(path).best_value == 0.5


@pytest.mark.parametrize("left", ['{"op_code":4,"wor', "not json at all\n", "one\rtwo\n", "\n"])
def test_a_last_line_that_is_no_record_is_dropped_and_the_study_goes_on(left: str, tmp_path: Path) -> None:
    path = tmp_path / "trials.journal"
    new_study(path).tell(new_study(path).ask(RANGE), 0.5)
    with path.open("a") as file:
        file.write(left)
    study = new_study(path)
    study.tell(study.ask(RANGE), 1.0)
    assert [trial.value for trial in new_study(path).trials] == [0.5, 1.0]


def test_half_a_line_is_dropped_before_a_process_that_has_the_journal_open_writes_to_it(tmp_path: Path) -> None:
    path = tmp_path / "trials.journal"
    running, other = new_study(path), new_study(path)
    trial = running.ask(RANGE)
    for number in range(3):
        with path.open("a") as file:
            file.write('{"op_code":4,"wor')
        (running, other)[number % 2].set_user_attr("told", number)
    running.tell(trial, 0.5)
    other.tell(other.ask(RANGE), 1.0)
    assert len(running.trials) == 2, "the other's trial is seen by whoever was running"
    study = new_study(path)
    assert study.best_value == 0.5 and study.user_attrs["told"] == 2 and len(study.trials) == 2


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="files cannot be limited here")
def test_a_full_disk_is_one_clear_line_and_what_was_written_stays_whole(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "trials.journal"
    study = new_study(path)
    trial = study.ask(RANGE)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # room for half a record
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            study.tell(trial, 1.0)
        with beating(trial, every_s=0.01):
            time.sleep(0.05)  # pytest turns what the thread raises into a failure
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    study.tell(trial, 1.0)
    assert new_study(path).best_value == 1.0


def test_every_version_of_optuna_that_draws_for_a_study_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, mine = new_study(tmp_path / "trials.journal"), optuna.__version__
    assert note_version(study) == note_version(study) == [mine]
    monkeypatch.setattr(optuna, "__version__", "4.9.0")
    assert note_version(study) == [mine, "4.9.0"]


def test_one_holder_at_a_time_is_let_in(tmp_path: Path) -> None:
    inside = threading.Event()

    def enter() -> None:
        with exclusive(tmp_path / "lock"):
            inside.set()

    other = threading.Thread(target=enter)
    with exclusive(tmp_path / "lock"):
        other.start()
        assert not inside.wait(0.05)
    other.join()
    assert inside.is_set() and not (tmp_path / "lock.lock").exists()


def test_what_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("something else\n")
    cases = {
        f"sqlite:///{tmp_path}/none/x.db": "cannot be reached (unable to open database file)",
        "postgresql://me:secret@localhost:1/x": NO_DRIVER if find_spec("psycopg") is None else "cannot be reached",
        "redis://localhost/0": "cannot be reached",
        "://": "is not a database URL",
        "sqlite://": "is in memory, so all trials would be lost; give a file, such as sqlite:///trials.db",
        "sqlite+pysqlite://": "is in memory",
        "sqlite:///:memory:": "is in memory",
        "sqlite:///file::memory:?uri=true": "is in memory",
        "sqlite:///file:x?mode=memory&uri=true": "is in memory",
        str(tmp_path / "file"): "is not a journal file of Optuna",
        str(tmp_path / "file" / "x.journal"): "cannot be reached (File exists)",
        str(tmp_path): "cannot be reached (Is a directory)",
    }
    for where, message in cases.items():
        with pytest.raises(StorageError) as raised:
            open_storage(where)
        text = str(raised.value)
        assert message in text and "\n" not in text and "secret" not in text, text
    assert (tmp_path / "file").read_text() == "something else\n"
