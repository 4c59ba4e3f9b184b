"""Processes that torchrun starts: they find each other, train one network together, and part in peace.

Gradients are meant over the processes once a step, in one piece, after all passes of the step. Wrapping the network
(DistributedDataParallel) would exchange them in every pass, and would have to find out which branches a step has left out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.meeting import meeting_place, name_of_call
from lmsearch.errors import ConfigError, LmsearchError

NCCL = "nccl"
IN_USE = "EADDRINUSE"  # in PyTorch's words
OWN_NEWS = ("lmsearch.data.fetching",)  # loggers that warn of what one process alone has met, such as a file that it read
TORCHRUN = "start it with torchrun (docs/clusters.md)"
WAIT = timedelta(minutes=30)  # for the slowest process, such as one that reads images while others wait


class ProcessLost(LmsearchError):
    """Another process of the same training has ended, or cannot be reached."""


def processes_in_all(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes torchrun started, on all machines; 1 for a process of its own."""
    return _whole(environment, "WORLD_SIZE", "1") if "RANK" in environment else 1


def started_by_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process is one of several that torchrun started."""
    return processes_in_all(environment) > 1


def processes_here(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes that torchrun started share this machine, and on a CPU its memory."""
    return _whole(environment, "LOCAL_WORLD_SIZE", "1") if started_by_torchrun(environment) else 1


def refuse_several(what: str) -> None:
    """Raise ConfigError under torchrun, for what trains in one process only."""
    if started_by_torchrun():
        size = os.environ["WORLD_SIZE"]
        raise ConfigError(f"{what} runs in one process, and torchrun started {size}; start it without torchrun")


def place_among(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return the number of this process and how many there are; raise ConfigError where nothing says where they meet."""
    if lacking := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]:
        raise ConfigError(f"RANK and WORLD_SIZE are set, but not {' and '.join(lacking)}; {TORCHRUN}")
    _whole(environment, "MASTER_PORT")
    rank, size = _whole(environment, "RANK"), _whole(environment, "WORLD_SIZE")
    if rank >= size:
        raise ConfigError(f"RANK={rank} is none of WORLD_SIZE={size} processes, which count from 0; {TORCHRUN}")
    return rank, size


def own_gpu(environment: Mapping[str, str], count: int) -> int:
    """Return which of `count` visible GPUs is this process's; raise ConfigError where it has none, or nothing says which."""
    if count > 1 and "LOCAL_RANK" not in environment:
        raise ConfigError(f"LOCAL_RANK is not set, which says which of {count} GPUs this process takes; {TORCHRUN}")
    here = _whole(environment, "LOCAL_RANK", "0")
    if here >= count:
        raise ConfigError(f"process {here} of this machine has no GPU of its own: there are {count}")
    return here


def _whole(environment: Mapping[str, str], name: str, default: str = "") -> int:
    """Return what a variable says; raise ConfigError where that is no whole number from 0 on."""
    text = environment.get(name, default)
    if not text.strip().isdecimal():
        raise ConfigError(f"{name}={text!r} is no whole number; {TORCHRUN}")
    return int(text)


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Give the block the processes of torchrun, of which this is one; a process of its own is alone.

    `device` is where the network lies: on GPUs each process takes the one of its number on this machine. Inside the block only
    the first process prints. Raises ProcessLost where another process is gone, ConfigError where they cannot meet.
    """
    if not started_by_torchrun():
        yield SINGLE
        return
    rank, size = place_among(os.environ)
    meeting, backend = torch.device("cpu"), "gloo"
    if device.type == "cuda":
        meeting, backend = torch.device("cuda", own_gpu(os.environ, torch.cuda.device_count())), NCCL
        torch.cuda.set_device(meeting)
    with calling_others(), telling_port_in_use():
        store, _, _ = next(iter(dist.rendezvous("env://", timeout=WAIT)))
        call = name_of_call(store)
        place = meeting_place(store, rank, size, wait=WAIT)  # addresses of the dead processes of an earlier start stay there
        store = dist.PrefixStore(place, store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    with parting(backend), speaking(rank):
        yield World(rank, size, meeting, exchange=all_of, add=add_up, call=call)
        with calling_others():
            dist.barrier()  # who leaves first would take the connection along


@contextmanager
def parting(backend: str) -> Iterator[None]:
    """Part from the other processes after the block; where it fails and they talk by NCCL, without telling them.

    There all part together, and the others, which wait for this process in an exchange, would come to that after WAIT only.
    Nothing would tell of the error till then. What still connects them is cut when the process ends.
    """
    try:
        yield
    except BaseException:
        if backend != NCCL:
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


@contextmanager
def telling_port_in_use() -> Iterator[None]:
    """Raise ConfigError where the processes cannot meet since something else listens at their port."""
    try:
        yield
    except dist.DistNetworkError as error:
        if IN_USE not in str(error):
            raise
        port = os.environ.get("MASTER_PORT", "")
        raise ConfigError(
            f"MASTER_PORT={port} is in use on this machine; set another, or start with torchrun --standalone"
        ) from error


def all_of(tensor: Tensor) -> list[Tensor]:
    """Return the tensors of all processes by rank."""
    tensors = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    with calling_others():
        dist.all_gather(tensors, tensor.contiguous())
    return tensors


def add_up(tensor: Tensor) -> None:
    """Replace a tensor by its sum over the processes, in place."""
    with calling_others():
        dist.all_reduce(tensor)


@contextmanager
def calling_others() -> Iterator[None]:
    """Turn what PyTorch raises where another process does not answer into one line."""
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ProcessLost(f"another process of this training does not answer any more ({first[:200]})") from error


@contextmanager
def speaking(rank: int) -> Iterator[None]:
    """Let only the first process print and log; the others tell of errors, and warn of what they alone have met."""
    if rank == 0:
        yield
        return
    levels = {"": logging.ERROR, "lmsearch": logging.ERROR} | dict.fromkeys(OWN_NEWS, logging.WARNING)
    before = {name: logging.getLogger(name).level for name in levels}  # "" is the root
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        try:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
