"""A worker of a sweep: ask for a trial, run it in its own run directory, tell how it went, and ask again."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState

from lmsearch.engine.checkpoint import load_checkpoint
from lmsearch.engine.digest import digest_of
from lmsearch.engine.log import EndedEarly, observing
from lmsearch.engine.run_dir import FAILURE, TRIAL, RunDir
from lmsearch.errors import (
    CheckpointError,
    FileError,
    LmsearchError,
    SourceError,
    StorageAwayError,
    StorageError,
    StudyDeletedError,
    SweepError,
    did_you_mean,
)
from lmsearch.files import told_of
from lmsearch.interrupts import stop_asked
from lmsearch.reading import parse_json, read_text
from lmsearch.sweep.study import FAILED, FOLDER, STOPPED, SeededByTrial, Sweep, open_study, work_left
from lmsearch.trials.patience import patiently, reason_of
from lmsearch.trials.storage import INTERRUPTED, REACHED, abandon, ask, beating, exclusive, origin

log = logging.getLogger(__name__)
DIGITS = 16  # of a digest of how far a trial is
AWAY = "the database of trials did not answer"  # why a trial was given back that nothing is wrong with
RunTask = Callable[[str, Sequence[str], RunDir], None]  # task, key=value words, run directory


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: its values where it is complete, else a note that says why it is not."""

    state: TrialState
    values: Sequence[float] | None = None
    note: str = ""


def work(sweep: Sweep, run_task: RunTask, *, name: str = "", after: Callable[[], None] | None = None) -> None:
    """Run trials until none is left to start, calling `after` after each.

    Raises SweepError where the metrics of a trial cannot be read, and for what is no fault of a trial, such as a full disk; the
    trial is queued again, and no other begins until the command is given again. That ends the work of all.
    """
    study = patiently(partial(open_study, sweep))
    while (trial := take(study, sweep, name=name)) is not None:
        attempt(study, trial, sweep, run_task)
        if after is not None:
            after()
    if message := patiently(lambda: study.user_attrs.get(STOPPED)):
        raise SweepError(message)


def take(study: optuna.Study, sweep: Sweep, *, name: str = "") -> optuna.Trial | None:
    """Ask for the next trial and claim it; return None where no further trial may start."""
    if orphaned():
        return None
    begun: list[optuna.Trial] = []  # when the database went: it counts already, and draws on where it was

    def next_trial() -> optuna.Trial | None:
        with exclusive(sweep.ask_lock):
            if not begun:
                if not work_left(study, sweep):
                    return None
                study.sampler = SeededByTrial(sweep)
            return ask(study, {key: p.distribution for key, p in sweep.parameters.items()}, name=name, begun=begun)

    return patiently(next_trial)


def orphaned() -> bool:
    """Tell whether the process that started this one as a worker is gone: nobody would replace, stop or report it."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def attempt(study: optuna.Study, trial: optuna.Trial, sweep: Sweep, run_task: RunTask) -> None:
    """Run one trial and tell the study how it ended; its run directory says so too, in trial.json.

    What is no fault of the trial is raised, and the trial is queued again.
    """
    folder = sweep.folder(origin(trial))
    try:
        patiently(partial(trial.set_user_attr, FOLDER, os.path.abspath(folder.path)))
        folder.make()
        patiently(partial(trial.set_user_attr, REACHED, reached(folder.path)))
        end(study, trial, folder, outcome(trial, sweep, folder, run_task))
    except UpdateFinishedTrialError:
        log.warning("trial %d: given to another worker, since no heartbeat of this one was seen for long", trial.number)
    except (KeyboardInterrupt, SystemExit):
        give_back(study, trial, sweep, reason=INTERRUPTED)
        raise
    except StudyDeletedError:  # with the trial
        raise
    except StorageAwayError:
        give_back(study, trial, sweep, reason=AWAY)
        raise
    except SweepError as error:
        stop(study, trial, sweep, reason=str(error), message=str(error))
        raise
    except Exception as error:
        if (why := no_fault(error, sweep)) is None:
            raise
        message = f"{why}; trial {trial.number} is queued again, and the same command goes on with it"
        stop(study, trial, sweep, reason=why, message=message)
        raise SweepError(message) from error


def reached(folder: Path) -> str:
    """Return a digest of how far the checkpoints in a folder are: another one where work was saved."""
    found: list[list[object]] = []
    for path in sorted(folder.rglob("*.pt")):
        with suppress(CheckpointError):  # of which the trial tells
            state = load_checkpoint(path)
            found.append([str(path.relative_to(folder)), state.get("epoch"), state.get("step"), len(state.get("losses", ()))])
    return digest_of(found)[:DIGITS]


def no_fault(error: Exception, sweep: Sweep) -> str | None:
    """Return the line of an error that is no fault of a trial, or None: others would meet it too, and fail one after another.

    It is of files, disks and storages, and of the data where trials do not differ in them.
    """
    if isinstance(error, OSError):
        return told_of(error)
    differ = any(key.partition(".")[0] == "data" for key in sweep.parameters)
    of_all = isinstance(error, FileError | StorageError) or (isinstance(error, SourceError) and not differ)
    return str(error) if of_all else None


def stop(study: optuna.Study, trial: optuna.Trial, sweep: Sweep, *, reason: str, message: str) -> None:
    """Give a trial back and let no other begin, as far as the storage can be written; `message` is for the other workers."""
    give_back(study, trial, sweep, reason=reason)
    try:
        patiently(partial(study.set_user_attr, STOPPED, message))
    except StorageError as error:
        log.warning("other workers are not told (%s)", error)


def give_back(study: optuna.Study, trial: optuna.Trial, sweep: Sweep, *, reason: str) -> None:
    """Queue a trial of this process again; where the database is away, whoever finds the process dead does it."""
    try:
        with exclusive(sweep.ask_lock):  # the others may be looking for lost trials
            abandon(study, trial, reason=reason)
    except (StorageError, StorageInternalError) as error:
        log.warning("trial %d is left to be found lost (%s)", trial.number, reason_of(error))


def outcome(trial: optuna.Trial, sweep: Sweep, folder: RunDir, run_task: RunTask) -> Outcome:
    """Run the task of a trial and say how it ended; what is no fault of the trial is raised."""
    try:
        return Outcome(TrialState.COMPLETE, values=measure(trial, sweep, folder, run_task))
    except (SweepError, UpdateFinishedTrialError):
        raise
    except EndedEarly as pruned:
        return Outcome(TrialState.PRUNED, note=str(pruned))
    except Exception as error:  # a trial that runs out of memory must not end the sweep
        if no_fault(error, sweep) is not None:
            raise
        if isinstance(error, LmsearchError):
            return Outcome(TrialState.FAIL, note=str(error))
        folder.write(FAILURE, traceback.format_exc())
        return Outcome(TrialState.FAIL, note=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def measure(trial: optuna.Trial, sweep: Sweep, folder: RunDir, run_task: RunTask) -> list[float]:
    """Run the task of a trial under the eye of the pruner, and return its metrics."""
    words = [*sweep.overrides, *(p.word(trial.params[key]) for key, p in sweep.parameters.items())]
    watch = nullcontext() if sweep.pruning.method == "none" else observing(Reporter(trial, sweep))
    with beating(trial), watch:
        run_task(sweep.task, words, folder)
    return read_metrics(folder / sweep.goal.file, sweep.goal.metrics)


def end(study: optuna.Study, trial: optuna.Trial, folder: RunDir, how: Outcome) -> None:
    """Write trial.json and tell the study; raises UpdateFinishedTrialError where another process has ended the trial.

    One that failed is pruned to Optuna, whose TPE learns nothing from failed ones and asks there again, and marked.
    """
    words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    patiently(partial(trial.set_user_attr, "note", how.note))
    if how.state == TrialState.FAIL:
        patiently(partial(trial.set_user_attr, FAILED, True))
    found = {"trial": trial.number, "state": words[how.state], "params": trial.params, "values": how.values, "note": how.note}
    folder.write_json(TRIAL, found)
    state = TrialState.PRUNED if how.state == TrialState.FAIL else how.state
    patiently(partial(study.tell, trial, how.values, state=state, skip_if_finished=True))


class Reporter:
    """Reports the metric of every epoch of a trial, and ends the trial where the pruner says so."""

    def __init__(self, trial: optuna.Trial, sweep: Sweep) -> None:
        self.trial, self.sweep, self.epochs = trial, sweep, 0

    def __call__(self, epoch: int, values: Mapping[str, float]) -> None:
        """Take the scalars of one epoch; a task that trains several networks goes on counting epochs.

        With the database away, a signal that asks the task to save and end comes first, and the epoch is not reported.
        """
        metric = self.sweep.pruning.metric
        if metric not in values:
            near = did_you_mean(metric, values)
            raise SweepError(f"prune_metric={metric!r} is not logged by epochs of lmsearch {self.sweep.task}{near}")
        self.epochs = max(self.epochs, epoch) + 1
        try:
            patiently(partial(self.trial.report, values[metric], self.epochs))
            prune = patiently(self.trial.should_prune)
        except StorageAwayError:
            if not stop_asked():
                raise
            log.warning("epoch %d of trial %d is not reported", self.epochs, self.trial.number)
            return
        if prune:
            raise EndedEarly(f"{metric} {values[metric]:.4g} after {self.epochs} epochs")


def read_metrics(path: Path, names: Sequence[str]) -> list[float]:
    """Return the named numbers of a metrics file; raise SweepError for one that holds none, LmsearchError for nan or inf."""
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.json") if p.name != TRIAL)) or "none"
        raise SweepError(f"metrics_file={path.name} is not in the run directory of a trial; its JSON files: {there}")
    where = f"metrics_file={path.name}"
    content = parse_json(read_text(path, where=where, error=SweepError), where=where, error=SweepError, constants=float)
    if not isinstance(content, dict):
        raise SweepError(f"{where} holds no names with numbers; name a JSON file that does, such as metrics.json")
    numbers = flat(content)
    for name in names:
        if name not in numbers:
            raise SweepError(f"metric={name!r} is not in {path.name}; there are: {', '.join(sorted(numbers)) or 'none'}")
        if not math.isfinite(numbers[name]):
            raise LmsearchError(f"{name} is {numbers[name]}")
    return [float(numbers[name]) for name in names]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of nested mappings under dotted names; null, which stands for what is no finite number, as nan."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif value is None:
            found[f"{prefix}{name}"] = math.nan
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = value
    return found
