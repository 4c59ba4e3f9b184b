"""Trainings side by side, in worker processes with threads of their own; one that fails leaves the others whole."""

from __future__ import annotations

import ctypes
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from lmsearch.context import QUIET, SHARING, VERBOSE, setting
from lmsearch.data.undisturbed import signals_held
from lmsearch.engine.devices import device_named, float32_convolutions
from lmsearch.engine.events import errors_told_once
from lmsearch.engine.memory import telling_want_of_memory
from lmsearch.engine.processes import refuse_several
from lmsearch.engine.threads import cores, exactly
from lmsearch.errors import ConfigError, LmsearchError
from lmsearch.interrupts import Stopped, answering_signals
from lmsearch.process import set_up_logging, tune_process

log = logging.getLogger(__name__)
Job = Callable[[], Any]  # pickled, as is what it returns
Keep = Callable[[str, Any, float], object]  # what is done with the name of a job, what it returned and the seconds that it took
VISIBLE = "CUDA_VISIBLE_DEVICES"
PR_SET_PDEATHSIG = 1  # of Linux' prctl: a signal for the death of the parent


class JobError(LmsearchError):
    """Some of several trainings failed; the others are done and kept."""


class CrashError(JobError):
    """Some failed in a way that no user's input explains: an unexpected error, or they were killed."""

    exit_code = 1


@dataclass(frozen=True)
class Workers:
    """So many processes side by side, each with so many CPU threads and, on GPUs, with one of its own."""

    number: int
    threads: int
    gpus: tuple[str, ...] = ()

    @classmethod
    def asked_for(cls, number: int, threads: int | None, device: str) -> Workers:
        """Return the workers of the keys workers, threads (None: the cores, shared out, with other trials too) and device.

        Raises ConfigError where that is more than there are cores, or GPUs.
        """
        if number > 1:
            refuse_several(f"workers={number}")
        here = cores()
        if number * (threads or 1) > here:
            each = "" if threads is None else f" with threads={threads}"
            raise ConfigError(f"workers={number}{each} needs {number * (threads or 1)} cores; this process may use {here}")
        gpus = visible_gpus() if number > 1 and device_named(device).type == "cuda" else ()
        if gpus and number > len(gpus):
            raise ConfigError(f"workers={number} on device=cuda; there is one worker per GPU at most, and {len(gpus)} here")
        return cls(number, threads or max(1, here // (number * SHARING.get())), gpus)

    def complete(self, jobs: Mapping[str, Job]) -> dict[str, Any]:
        """Run all jobs as `run` does; a single worker is this process, in which errors are raised as they come."""
        return self.run(jobs) if self.number > 1 else {name: job() for name, job in jobs.items()}

    def run(self, jobs: Mapping[str, Job]) -> dict[str, Any]:
        """Run all jobs as `each` does and return what each returned, under its name."""
        found: dict[str, Any] = {}
        self.each(jobs.items(), lambda name, value, took_s: found.update({name: value}))
        return {name: found[name] for name in jobs}

    def each(self, jobs: Iterable[tuple[str, Job]], keep: Keep) -> None:
        """Run jobs, as many at a time as there are workers; `keep` is called here, as soon as one is done.

        The next job is asked for when a worker is free. When all others are done, raises JobError where one raised an error of a
        user's, and CrashError where one ended otherwise. A signal ends all.
        """
        waiting, free, running, idle = iter(jobs), list(range(self.number)), dict[Connection, Running](), dict[int, Worker]()
        done, failed = 0, list[Failure]()
        try:
            while True:
                while free and (named := next(waiting, None)) is not None:
                    slot = free.pop(0)
                    name, pickled = named[0], pickle.dumps(named[1])
                    with signals_held({signal.SIGINT}):  # workers never see one: this process does, and ends them
                        worker = self._worker(slot, idle)
                        running[worker.pipe] = Running(name, worker, slot, time.perf_counter())
                    worker.take(pickled)
                if not running:
                    break
                ready = set(wait(list(running)))
                for pipe in [pipe for pipe in running if pipe in ready]:
                    job = running.pop(pipe)
                    free.append(job.slot)
                    outcome = job.result()
                    done += 1
                    if not pipe.closed:
                        idle[job.slot] = job.worker
                    if isinstance(outcome, Failure):
                        failed.append(outcome)
                        log.warning("%s", outcome)
                    else:
                        keep(job.name, outcome.value, time.perf_counter() - job.began)
        finally:
            for left in running.values():
                left.worker.process.terminate()
            for worker in (*idle.values(), *(left.worker for left in running.values())):
                worker.dismiss()
        if failed:
            what = "; ".join(f"{one.name}: {one.why}" for one in failed)
            kind = JobError if all(one.of_a_user for one in failed) else CrashError
            raise kind(f"{len(failed)} of {done} failed ({what}); the same command goes on with what is left")

    def _worker(self, slot: int, idle: dict[int, Worker]) -> Worker:
        """Return the idle worker of a slot, or a new one where there is none or it has died since."""
        if slot in idle and not idle[slot].process.is_alive():
            idle.pop(slot).dismiss()
        return idle.pop(slot) if slot in idle else self._start(slot)

    def _start(self, slot: int) -> Worker:
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_work, args=(self.threads, there, QUIET.get(), VERBOSE.get()))
        with environment(VISIBLE, self.gpus[slot] if self.gpus else None):
            process.start()
        there.close()  # so that a dead worker ends the pipe
        return Worker(process, here)


@dataclass(frozen=True)
class Worker:
    """A process that does one job after the other, and ends when its pipe does."""

    process: BaseProcess
    pipe: Connection

    def take(self, job: bytes) -> None:
        """Give it a job."""
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died: told of when its answer is read
            self.pipe.send_bytes(job)

    def dismiss(self) -> None:
        """Let it end, and wait until it has."""
        self.pipe.close()
        self.process.join()


@dataclass(frozen=True)
class Success:
    """What a job returned."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """Why a job of this name failed, and whether an error of a user's says so."""

    name: str
    why: str
    of_a_user: bool = False

    def __str__(self) -> str:
        return f"{self.name} failed: {self.why}"


@dataclass(frozen=True)
class Running:
    """A job that a worker has been at since `began` (time.perf_counter)."""

    name: str
    worker: Worker
    slot: int
    began: float

    def result(self) -> Success | Failure:
        """Return what became of the job, which is done or about to be; a worker that died over it is dismissed."""
        try:
            good, value = pickle.loads(self.worker.pipe.recv_bytes())
            return Success(value) if good else Failure(self.name, value, of_a_user=True)
        except (EOFError, ConnectionResetError):
            self.worker.dismiss()
            code = self.worker.process.exitcode or 0
            if code < 0:
                by = signal.Signals(-code).name
                return Failure(self.name, f"killed by {by}, most often for want of memory; fewer workers= take less")
            return Failure(self.name, f"its process ended with code {code}; what it printed tells why")


def _work(threads: int, pipe: Connection, quiet: bool, verbose: bool) -> None:
    """Do the jobs that come through the pipe until it ends, in a process of its own.

    Errors of a user's become one line; others end the process with their traceback. A training that is to end, since its parent
    does, saves the step first.
    """
    die_with_parent()
    tune_process()
    set_up_logging(quiet=quiet, verbose=verbose)
    with setting(QUIET, quiet), setting(VERBOSE, verbose), errors_told_once(), float32_convolutions():
        while (job := _next_job(pipe)) is not None:
            try:
                with exactly(threads), answering_signals(), telling_want_of_memory("fewer workers=, a lower batch_size"):
                    result = True, pickle.loads(job)()
            except LmsearchError as error:
                result = False, str(error)
            except Stopped as stopped:
                sys.exit(stopped.code)
            pipe.send_bytes(pickle.dumps(result))
            del job, result
            gc.collect()  # the networks of this job are gone before those of the next one come


def _next_job(pipe: Connection) -> bytes | None:
    try:
        return pipe.recv_bytes()
    except (EOFError, ConnectionResetError):
        return None  # the parent has no more


def die_with_parent() -> None:
    """End this process when its parent dies, on Linux, or now where it is dead; elsewhere it ends after its job."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        sys.exit(1)


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(named or map(str, range(torch.cuda.device_count())))


@contextmanager
def environment(name: str, value: str | None) -> Iterator[None]:
    """Give a variable of the environment a value inside the block; None leaves it as it is."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if value is not None:
            os.environ.pop(name)
            os.environ |= {} if before is None else {name: before}
