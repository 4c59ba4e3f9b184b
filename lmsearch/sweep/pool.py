"""Several workers of one sweep: processes of this machine, or jobs through submitit; the dead are replaced, nothing is lost."""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import VISIBLE, environment
from lmsearch.errors import StorageError, SweepError
from lmsearch.interrupts import Stopped, answering_signals, held_signals
from lmsearch.sweep.study import STOPPED, Sweep, work_left
from lmsearch.trials.patience import patiently, reason_of
from lmsearch.trials.storage import INTERRUPTED, exclusive, recover
from lmsearch.trials.watch import Watch

log = logging.getLogger(__name__)
POLL_S = 0.3  # seconds between two looks at the workers
RECOVER_EVERY_S = 20.0  # seconds between two looks for trials of workers that earlier calls started elsewhere
STOP_WAIT_S = 30.0  # seconds that interrupted workers have to give their trials back, also on a busy machine
BEFORE_SRUN = ["export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"]  # since SLURM 22.05 srun does not take it over by itself
Work = Callable[[Sweep, str], None]  # what a worker does, given the sweep and its own name


@dataclass(frozen=True)
class Worker:
    """A worker that was started. `problem` is None after a good end; `log` is where its output goes."""

    name: str
    log: Path
    ended: Callable[[], bool]
    problem: Callable[[], str | None]
    terminate: Callable[[], None]  # asks it to end, at once
    join: Callable[[], None]  # waits until it has ended
    hears: bool = False  # an interrupt from the keyboard


Start = Callable[[], Worker]


def gpus_apart(gpus: tuple[str, ...], workers: int, *, each: int | None = None) -> tuple[str, ...]:
    """Return the GPUs of this machine in groups, as CUDA_VISIBLE_DEVICES names them: of `each`, or as many as workers leave."""
    size = max(1, len(gpus) // workers) if each is None else each
    return tuple(",".join(gpus[first : first + size]) for first in range(0, len(gpus) - size + 1, size))


class OnGpus:
    """Which workers are on which group of GPUs of this machine; without any, none is on one."""

    def __init__(self, groups: tuple[str, ...]) -> None:
        self.crew: dict[str, list[Worker]] = {group: [] for group in groups}

    def emptiest(self) -> str | None:
        """Return the group with the fewest workers that have not ended."""
        at_work = {group: sum(not worker.ended() for worker in workers) for group, workers in self.crew.items()}
        return min(at_work, key=lambda group: at_work[group], default=None)

    def add(self, worker: Worker, group: str | None) -> Worker:
        """Return a worker that was started there."""
        if group is not None:
            self.crew[group].append(worker)
        return worker


def local_workers(sweep: Sweep, work: Work) -> Start:
    """Return what starts a process of this machine, on the GPUs that have the fewest of them."""
    context, crew = multiprocessing.get_context("spawn"), OnGpus(sweep.gpus)

    def start() -> Worker:
        name, gpus = secrets.token_hex(4), crew.emptiest()
        process = context.Process(target=_run_into, args=(work, sweep, name))
        with environment(VISIBLE, gpus):
            process.start()

        worker = Worker(
            name=name,
            log=logs_of(sweep) / log_of(name),
            ended=lambda: not process.is_alive(),
            problem=lambda: f"exit code {process.exitcode}" if process.exitcode else None,
            terminate=process.terminate,
            join=process.join,
            hears=True,
        )
        return crew.add(worker, gpus)

    return start


def submitit_workers(sweep: Sweep, work: Work, *, cluster: str | None, options: Mapping[str, Any]) -> Start:
    """Return what submits a job; `options` go to submitit's executor. Raises SweepError where submitit cannot be used."""
    submitit = _submitit()
    if cluster not in (None, "slurm", "local"):
        raise SweepError(f"submitit.cluster={cluster!r} is not accepted; accepted: slurm, local")
    try:
        executor = submitit.AutoExecutor(folder=logs_of(sweep).path, cluster=cluster)
    except RuntimeError as error:
        raise SweepError(f"submitit.cluster={cluster}: {error}") from error
    given = {key: value for key, value in options.items() if value is not None}
    executor.update_parameters(name="lmsearch-sweep", slurm_setup=BEFORE_SRUN, **given)
    crew = OnGpus(sweep.gpus)

    def start() -> Worker:
        name, gpus = secrets.token_hex(4), crew.emptiest()
        job = executor.submit(partial(_on_gpus, gpus, work), sweep, name)

        worker = Worker(
            name=name,
            log=job.paths.stderr,
            ended=job.done,
            problem=lambda: f"job {job.job_id} failed" if job.exception() else None,
            terminate=lambda: job.cancel(check=False),
            join=lambda: None,
        )
        return crew.add(worker, gpus)

    return start


def jobs_stay_here(cluster: str | None) -> bool:
    """Tell whether submitit's jobs are processes of this machine, as they are too where there is no SLURM and none is named."""
    return cluster == "local" or (cluster is None and _submitit().AutoExecutor.which() == "local")


def _submitit() -> ModuleType:
    """Return submitit; raise SweepError where it is not installed."""
    try:
        import submitit
    except ImportError:
        raise SweepError("launcher=submitit needs submitit; install it with: pip install submitit") from None
    return submitit


def logs_of(sweep: Sweep) -> RunDir:
    """Return the folder of what the workers print."""
    return sweep.run_dir.inside("workers")


def log_of(name: str) -> str:
    """Return the file in it of one worker."""
    return f"{name}.log"


def _on_gpus(gpus: str | None, work: Work, sweep: Sweep, name: str) -> None:
    """Do the work of a job on GPUs of its own; submitit gives all jobs on one machine the same ones."""
    if gpus is not None:
        os.environ[VISIBLE] = gpus
    work(sweep, name)


def _run_into(work: Work, sweep: Sweep, name: str) -> None:
    """Do the work of a process with all its output, that of native code too, in a file."""
    logs_of(sweep).make()
    with logs_of(sweep).output(log_of(name)) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        with answering_signals():
            work(sweep, name)
    except Stopped as stopped:  # the trial has been given back
        sys.exit(stopped.code)


def supervise(study: optuna.Study, sweep: Sweep, start: Start, *, workers: int, progress: Callable[[], None]) -> None:
    """Keep `workers` workers at the sweep until it is done; put trials of dead ones back in the queue and replace them.

    Whatever ends it ends the workers too: an interrupt from the keyboard has reached them as well, another signal not.
    """
    crew: list[Worker] = []
    looked, watch = time.monotonic(), Watch()
    try:
        for _ in range(min(workers, sweep.trials)):
            crew.append(start())
        while bool(crew) or patiently(partial(running_elsewhere, study)):
            time.sleep(POLL_S)
            ended = [worker for worker in crew if worker.ended()]
            if ended or time.monotonic() - looked > RECOVER_EVERY_S:
                looked = time.monotonic()
                crew = [worker for worker in crew if worker not in ended]
                vacant = workers - len(crew)
                crew += patiently(partial(replacements, study, sweep, ended, start, vacant=vacant, watch=watch))
            patiently(progress)
    except BaseException as error:
        alone = isinstance(error, Stopped) and error.number != signal.SIGINT
        with held_signals():  # a second one must not cut the leaving short
            end_all(crew, wait_s=0.0 if alone else STOP_WAIT_S)
            try:
                with exclusive(sweep.ask_lock):
                    recover(study, gone=[worker.name for worker in crew], reason=INTERRUPTED)  # who did not say so themselves
            except (StorageInternalError, StorageError) as away:  # what ended the sweep is to be told, not this
                log.warning("trials of ended workers are queued again by the next call (%s)", reason_of(away))
        raise


def end_all(crew: list[Worker], *, wait_s: float) -> None:
    """End workers; those that have heard an interrupt have `wait_s` seconds, all together, to end by themselves."""
    until, busy = time.monotonic() + wait_s, [worker for worker in crew if worker.hears and not worker.ended()]
    if busy and wait_s:
        log.info("waiting for %d workers, which give their trials back, for %g s at most", len(busy), wait_s)
    while time.monotonic() < until and not all(worker.ended() for worker in busy):
        time.sleep(POLL_S)
    for worker in crew:
        worker.terminate()
    for worker in crew:
        worker.join()


def replacements(
    study: optuna.Study, sweep: Sweep, ended: list[Worker], start: Start, *, vacant: int, watch: Watch
) -> list[Worker]:
    """Recover the trials of workers that ended and start as many workers as there is work and room for.

    Raises SweepError where a worker died before it took a trial: its successor would too.
    """
    with exclusive(sweep.ask_lock):
        lost = recover(study, gone=[worker.name for worker in ended], watch=watch)
    for number in lost:
        log.warning("trial %d: its worker died; its parameters are queued again", number)
    if message := study.user_attrs.get(STOPPED):
        raise SweepError(message)
    dead = [worker for worker in ended if worker.problem()]
    took = {t.user_attrs["worker"]["name"] for t in study.get_trials(deepcopy=False) if "worker" in t.user_attrs}
    for worker in dead:
        if worker.name not in took:
            raise SweepError(f"a worker died before it took a trial ({worker.problem()}); see {worker.log}")
    if not work_left(study, sweep) or not (dead or lost):
        return []
    return [start() for _ in range(min(vacant, max(len(dead), len(lost))))]


def running_elsewhere(study: optuna.Study) -> bool:
    """Tell whether a trial is running; with all workers of this call gone, it is one of an earlier call on another machine."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
