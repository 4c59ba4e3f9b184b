"""Where Optuna keeps its trials: a journal file or a database, and what happens to the trials of processes that died.

A trial that is being run carries the process that runs it (`ask`, `claim`) and a heartbeat (`beating`). `recover` looks for
trials whose process is gone, marks them failed and queues their parameters again, so that a killed process loses nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from lmsearch.errors import InUseError, StorageError
from lmsearch.trials.database import open_database
from lmsearch.trials.journal import JournalFile, check_journal, locked, mend_journal
from lmsearch.trials.patience import PATIENCE_S, reason_of, telling_deletion
from lmsearch.trials.watch import Watch

log = logging.getLogger(__name__)
BEAT_S = 30.0  # seconds between two heartbeats of a running trial
BEAT_AGAIN_S = 5.0  # seconds until the next try where a heartbeat could not be written
CONFIRM_S = 1.5 * BEAT_S  # a heartbeat that looks stale is watched for so long before its process counts as dead
STALE_S = PATIENCE_S + 3 * BEAT_S  # a process elsewhere is dead after so many seconds without a heartbeat; outages are shorter
DIED = "its process died"  # why a running trial was lost, unless somebody says otherwise
RETRIES = 2  # a trial whose process died where it began is queued again so often; then its parameters are taken for the cause
INTERRUPTED = "interrupted"  # why a trial was given back that nothing is wrong with
NOT_BEGUN = "its process ended before it began"  # why a trial was lost that nobody claimed; this is no death that it caused
CLAIM_S = 60.0  # a trial is claimed right after it was asked for; one that nobody claimed in this many seconds is lost
HEART = "lmsearch heartbeat"  # name of the thread
VERSIONS = "optuna"  # user attribute of a study
WORKER, BEAT, LOST, RETRY_OF, ORIGIN = "worker", "beat", "lost", "retry_of", "origin"  # user attributes of a trial
REACHED = "reached"  # another: a value that changes where work was saved, as a try found it; not of all trials


def open_storage(url_or_path: str | Path) -> BaseStorage:
    """Open a storage of trials, creating it where it is new: the path of a journal file, or a database URL (sqlite:///x.db).

    Raises StorageError where it cannot be reached, and for a database in memory, which would lose all trials.
    """
    text = str(url_or_path)
    return open_database(text) if "://" in text else _open_journal(Path(text))


def ask(
    study: optuna.Study, distributions: dict[str, BaseDistribution], *, name: str = "", begun: list[optuna.Trial] | None = None
) -> optuna.Trial:
    """Ask a study for the next trial and claim it; where another machine took it for lost in between, ask again.

    `begun` holds the trial in whose middle the storage failed, if it did: another call goes on with that one.
    """
    mine: list[optuna.Trial] = [] if begun is None else begun
    while True:
        try:
            if not mine:
                mine.append(study.ask())
            trial = mine[0]
            claim(trial, name=name)  # before its parameters are drawn, which may take long
            for parameter, distribution in distributions.items():
                trial._suggest(parameter, distribution)  # as study.ask(distributions) does
            return mine.pop()
        except UpdateFinishedTrialError:
            mine.clear()
            log.warning("a trial was taken for lost before it was claimed; asking for another one")


def note_version(study: optuna.Study) -> list[str]:
    """Note on a study that this version of Optuna works on it, and return all that did: one seed draws otherwise in others."""
    before = study.user_attrs.get(VERSIONS, [])
    if optuna.__version__ not in before:
        study.set_user_attr(VERSIONS, [*before, optuna.__version__])
    return study.user_attrs[VERSIONS]


def claim(trial: optuna.Trial, *, name: str = "") -> None:
    """Note on a trial that this process, known as `name` to whoever started it, runs it."""
    trial.set_user_attr(BEAT, time.time())
    process = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "name": name}
    trial.set_user_attr(WORKER, process)


@contextmanager
def beating(trial: optuna.Trial, *, every_s: float | None = None) -> Iterator[None]:
    """Renew the heartbeat of a claimed trial from a thread while the block runs; machines that share the storage see it.

    `every_s` seconds lie between two beats, BEAT_S by default.
    """
    wait_s = BEAT_S if every_s is None else every_s
    done = threading.Event()

    def beat() -> None:
        pause_s = wait_s
        while not done.wait(pause_s):
            try:
                trial.set_user_attr(BEAT, time.time())
                pause_s = wait_s
            except (UpdateFinishedTrialError, KeyError):  # taken for lost, or its study deleted; who tells its result will hear
                return
            except (StorageError, StorageInternalError) as error:  # room on a full disk or the database may be back at the next
                log.warning("no heartbeat of trial %d: %s", trial.number, reason_of(error))
                pause_s = min(wait_s, BEAT_AGAIN_S)

    thread = threading.Thread(target=beat, name=HEART, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def watched(study: optuna.Study) -> Watch:
    """Return what is seen of the heartbeats of other machines; one that looks stale by this clock is watched a while."""
    watch, here = Watch(), socket.gethostname()
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    elsewhere = [trial for trial in running if trial.user_attrs.get(WORKER, {"host": here})["host"] != here]
    for trial in elsewhere:
        watch.unchanged_s(trial.number, trial.user_attrs[BEAT])
    if stale := [str(trial.number) for trial in elsewhere if _looks_stale(trial)]:
        log.info("no heartbeat of trial %s on another machine for long; looking again in %g s", ", ".join(stale), CONFIRM_S)
        time.sleep(CONFIRM_S)
    return watch


def refuse_running(study: optuna.Study) -> None:
    """Raise InUseError where a process that is alive, of whichever command, runs a trial of a study: it is not to be deleted."""
    watch = watched(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER)
        if worker is not None and _alive(trial, worker, watch):
            who = f"process {worker['pid']} on {worker['host']}"
            raise InUseError(f"study {study.study_name!r} is in use by {who}, which runs trial {trial.number}; stop it first")


@telling_deletion()
def recover(
    study: optuna.Study,
    *,
    gone: Collection[str] = (),
    reason: str = DIED,
    retries: int = RETRIES,
    watch: Watch | None = None,
) -> list[int]:
    """Mark the running trials whose process is gone as failed, queue their parameters again, and return their numbers.

    A running trial that nobody claimed counts as lost CLAIM_S after its start, since its process may be about to claim it (where
    clocks differ it may be taken too soon; its process then asks for another one). On another machine a process is gone where
    `watch`, which saw it before, finds its heartbeat unchanged for STALE_S seconds, or for CONFIRM_S where it looks stale by this
    machine's clock and was never seen to change (so where clocks are that far apart, a live one must not miss a beat then). The
    processes that claimed under a name in `gone` are known to have ended, for this `reason`. A trial whose process died more than
    `retries` times stays failed; other reasons do not count, nor do deaths of tries after which a later one began further on.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    seen = Watch() if watch is None else watch
    lost = {trial.number: why for trial in running if (why := _why_lost(trial, gone, reason, seen)) is not None}
    for number, why in lost.items():
        _fail(study, number, why)
    _queue_again(study, retries)
    return list(lost)


@telling_deletion()
def abandon(study: optuna.Study, trial: optuna.Trial, *, reason: str, retries: int = RETRIES) -> None:
    """Give a trial of this process back unfinished: it is marked failed and its parameters are queued again.

    Only where the reason begins with DIED may the parameters be the cause, and does it count against the retries.
    """
    _fail(study, trial.number, reason)
    _queue_again(study, retries)


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count towards a budget: all that were started, less those that were queued again."""
    trials = study.get_trials(deepcopy=False)
    again = {t.user_attrs.get(RETRY_OF) for t in trials}
    return [t for t in trials if t.state != TrialState.WAITING and t.number not in again]


def origin(trial: optuna.Trial | FrozenTrial) -> int:
    """Return the number of the trial that this one tries again, its own for a first try."""
    return trial.user_attrs.get(ORIGIN, trial.number)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Let one process at a time into the block, over a network file system too; a dead holder is passed over after a minute."""
    path.touch()
    with locked(path):
        yield


def _open_journal(path: Path) -> JournalStorage:
    """Open a journal file, whose last line is dropped where a writer was cut off in the middle of it."""
    path = path.resolve()  # the lock is a link to this path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_journal(path)
        mend_journal(path)
        return JournalStorage(JournalFile(path))
    except OSError as error:
        raise StorageError(f"storage={str(path)!r} cannot be reached ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"storage={str(path)!r} is not a journal file of Optuna, or is damaged") from error


def _fail(study: optuna.Study, number: int, reason: str) -> None:
    """Mark a running trial failed, with the reason, unless it has ended by now."""
    trial_id = study.trials[number]._trial_id
    try:
        study._storage.set_trial_user_attr(trial_id, LOST, reason)
        study._storage.set_trial_state_values(trial_id, state=TrialState.FAIL)
    except UpdateFinishedTrialError:  # it ended, or another process has recovered it
        return


def _queue_again(study: optuna.Study, retries: int) -> None:
    """Queue the parameters of every lost trial that has no successor yet, unless they killed more than `retries` processes.

    A death counts where the last try began at the same place: killed as often as may be, a trial that gets on is no cause.
    """
    trials = study.get_trials(deepcopy=False)
    again = {t.user_attrs.get(RETRY_OF) for t in trials}
    lost = [t for t in trials if t.state == TrialState.FAIL and LOST in t.user_attrs]
    last = {origin(t): t.user_attrs[REACHED] for t in trials if REACHED in t.user_attrs}
    there = [t for t in lost if REACHED not in t.user_attrs or t.user_attrs[REACHED] == last[origin(t)]]
    deaths = Counter(origin(t) for t in there if t.user_attrs[LOST].startswith(DIED))
    for trial in lost:
        if trial.number not in again and deaths[origin(trial)] <= retries:
            params = trial.system_attrs.get("fixed_params", {}) | trial.params
            study.enqueue_trial(params, user_attrs={RETRY_OF: trial.number, ORIGIN: origin(trial)})


def _why_lost(trial: FrozenTrial, gone: Collection[str], reason: str, watch: Watch) -> str | None:
    """Return why a running trial is lost, or None where its process is alive or may still claim it."""
    if WORKER not in trial.user_attrs:
        began = trial.datetime_start
        return None if began is not None and datetime.now() - began < timedelta(seconds=CLAIM_S) else NOT_BEGUN
    worker = trial.user_attrs[WORKER]
    if worker["name"] in gone:
        return reason
    return None if _alive(trial, worker, watch) else DIED


def _alive(trial: FrozenTrial, worker: dict[str, Any], watch: Watch) -> bool:
    """Tell whether the process that runs a trial is alive: on this machine by its id, elsewhere by its heartbeat."""
    if worker["host"] != socket.gethostname():
        unchanged_s = watch.unchanged_s(trial.number, trial.user_attrs[BEAT])
        return unchanged_s < (CONFIRM_S if _looks_stale(trial) and trial.number not in watch.moved else STALE_S)
    return _born(worker["pid"]) == worker["born"]


def _looks_stale(trial: FrozenTrial) -> bool:
    """Tell whether the last heartbeat of a trial is old by this machine's clock, which may differ from that of the other."""
    return time.time() - trial.user_attrs[BEAT] >= STALE_S


def _born(pid: int) -> str | None:
    """Return what tells a process from a later one with the same id, or None where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # its state, and its start in ticks since the machine's
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except OSError as error:
        return "unknown" if error.errno == errno.EPERM else None
    return "unknown"
