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
from lmsearch.engine.meeting import meeting_place
from lmsearch.errors import ConfigError, LmsearchError

IN_USE = "EADDRINUSE"  # in PyTorch's words
WAIT = timedelta(minutes=30)  # for the slowest process, such as one that reads images while others wait


class ProcessLost(LmsearchError):
    """Another process of the same training has ended, or cannot be reached."""


def started_by_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process is one of several that torchrun started."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment


def processes_here(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes that torchrun started share this machine, and on a CPU its memory."""
    return int(environment.get("LOCAL_WORLD_SIZE", "1")) if started_by_torchrun(environment) else 1


def refuse_several(what: str) -> None:
    """Raise ConfigError under torchrun, for what trains in one process only."""
    if started_by_torchrun():
        size = os.environ["WORLD_SIZE"]
        raise ConfigError(f"{what} runs in one process, and torchrun started {size}; start it without torchrun")


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Give the block the processes of torchrun, of which this is one; a process of its own is alone.

    `device` is where the network lies: on GPUs each process takes the one of its number on this machine. Inside the block only
    the first process prints. Raises ProcessLost where another process is gone.
    """
    if not started_by_torchrun():
        yield SINGLE
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    on_gpu = device.type == "cuda"
    if on_gpu:
        here = int(os.environ.get("LOCAL_RANK", "0"))
        if here >= torch.cuda.device_count():
            raise ConfigError(f"process {here} of this machine has no GPU of its own: there are {torch.cuda.device_count()}")
        torch.cuda.set_device(here)
    with calling_others(), telling_port_in_use():
        store, _, _ = next(iter(dist.rendezvous("env://", timeout=WAIT)))
        place = meeting_place(store, rank, size, wait=WAIT)  # addresses of the dead processes of an earlier start stay there
        store = dist.PrefixStore(place, store)
        dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size, timeout=WAIT)
    meeting = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    try:
        with speaking(rank):
            yield World(rank, size, meeting, exchange=all_of, add=add_up)
            with calling_others():
                dist.barrier()  # who leaves first would take the connection along
    finally:
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
    """Let only the first process print and log below warnings; what others print goes nowhere."""
    if rank == 0:
        yield
        return
    logger = logging.getLogger()
    before = logger.level
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)
