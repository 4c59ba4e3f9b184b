"""Four workers of one sweep, one of which is killed in the middle of a trial: on a journal file, and on PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy
from optuna.trial import TrialState
from test_sweep_pool import hanging, sweep_of, until

from lmsearch.sweep.pool import local_workers, supervise
from lmsearch.sweep.study import open_study
from lmsearch.trials.patience import patiently
from lmsearch.trials.storage import BEAT, LOST, WORKER, ask, beating

pytestmark = pytest.mark.slow
TRIALS, WORKERS = 12, 4


def program(name: str) -> str | None:
    """Return where a program of PostgreSQL is: on the path, or where Debian keeps it."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(kept[-1]) if kept else None)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """Start a server of its own in a temporary folder, reached by a socket in there, and give the address of its database."""
    initdb, postgres = program("initdb"), program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    if find_spec("psycopg") is None:
        pytest.skip("no driver here: pip install 'psycopg[binary]'")
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp())
    shutil.chown(folder, user)
    data = str(folder / "data")
    subprocess.run([initdb, "-D", data, "-A", "trust", "-U", "tester"], user=user, check=True, capture_output=True, cwd=folder)
    command = [postgres, "-D", data, "-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"]
    server = subprocess.Popen(command, user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: "ready" in status(folder) or server.poll() is not None)
        assert server.poll() is None
        yield f"postgresql+psycopg://tester@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(folder)


def status(folder: Path) -> str:
    """Return what the server says of itself in its lock file."""
    lock = folder / "data" / "postmaster.pid"
    return lock.read_text() if lock.exists() else ""


@pytest.fixture
def closing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the connections that Optuna opens in this process, which it leaves to the process's end."""
    opened, create = [], sqlalchemy.engine.create_engine

    def remembered(*args: object, **options: object) -> sqlalchemy.Engine:
        opened.append(create(*args, **options))
        return opened[-1]

    monkeypatch.setattr(sqlalchemy.engine, "create_engine", remembered)
    yield
    for engine in opened:
        engine.dispose()


@pytest.mark.usefixtures("closing")
@pytest.mark.parametrize("storage", ["journal", "postgresql"])
def test_one_of_four_workers_is_killed_and_no_trial_is_lost_or_done_twice(
    storage: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    sweep = sweep_of(tmp_path, trials=TRIALS)
    if storage == "postgresql":
        sweep = replace(sweep, storage=request.getfixturevalue("postgresql"))
    study = open_study(sweep)
    killed: list[int] = []

    def kill() -> None:
        if not killed and (sweep.folder(0) / "hanging").exists():
            killed.append(study.trials[0].user_attrs[WORKER]["pid"])
            os.kill(killed[0], signal.SIGKILL)

    supervise(study, sweep, local_workers(sweep, hanging), workers=WORKERS, progress=kill)
    lost, *others = study.trials
    assert killed and lost.state == TrialState.FAIL and lost.user_attrs[LOST] == "its process died"
    assert [trial.state for trial in others] == [TrialState.COMPLETE] * TRIALS, "none is left running"
    tried = [trial.params["x"] for trial in others]
    assert len(set(tried)) == TRIALS and tried.count(lost.params["x"]) == 1
    assert {trial.values[0] for trial in others} == set(tried)
    reopened = open_study(sweep)
    assert [(trial.number, trial.state) for trial in reopened.trials] == [(trial.number, trial.state) for trial in study.trials]


@pytest.mark.usefixtures("closing")
def test_a_server_that_drops_its_connections_costs_neither_heartbeats_nor_results(postgresql: str, tmp_path: Path) -> None:
    sweep = replace(sweep_of(tmp_path, trials=1), storage=postgresql, study="dropped")
    study = open_study(sweep)
    server = sqlalchemy.engine.create_engine(postgresql)
    drop = sqlalchemy.text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    trial = ask(study, {"x": sweep.parameters["x"].distribution})
    with beating(trial, every_s=0.05):
        for _ in range(3):
            with server.connect() as connection:
                assert connection.execute(drop).scalar() >= 1
            dropped = time.time()
            until(lambda since=dropped: patiently(partial(getattr, study, "trials"))[-1].user_attrs[BEAT] > since)
    patiently(partial(study.tell, trial, 1.0))
    assert open_study(sweep).best_value == 1.0
