"""How much memory is free on the device that trains, and one line where it is not enough."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch

from lmsearch.context import setting
from lmsearch.errors import LmsearchError

MEMINFO = Path("/proc/meminfo")
PROCESS = Path("/proc/self/status")
GIB = 2**30
ASKED = re.compile(r"(?i)tried to allocate ([\d.]+) ?(bytes|[KMGT]iB)|unable to allocate ([\d.]+) ([KMGTPE]iB)")
ESTIMATE: ContextVar[str] = ContextVar("what a step was expected to need, in words", default="")
GROUP = Path("/sys/fs/cgroup")  # of a container, version 2


def free_bytes(device: torch.device, *, meminfo: Path = MEMINFO, group: Path = GROUP) -> int | None:
    """Return the bytes that a process can still take on `device`; None where the system does not tell.

    On a CPU that is what Linux calls available, or what the container's limit leaves of it.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu" or not meminfo.is_file():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    if found is None:
        return None
    available, left = 1024 * int(found[1]), _left_in(group)
    return available if left is None else min(available, left)


def _left_in(group: Path) -> int | None:
    """Return the bytes that a container's limit leaves, None without one."""
    limit, used = group / "memory.max", group / "memory.current"
    if not (limit.is_file() and used.is_file()) or (most := limit.read_text().strip()) == "max":
        return None
    return int(most) - int(used.read_text()) + _reclaimable(group / "memory.stat")


def _reclaimable(stat: Path) -> int:
    """Return the bytes of a container that hold files and are given back when somebody asks for memory."""
    found = re.search(r"^inactive_file (\d+)$", stat.read_text(), re.MULTILINE) if stat.is_file() else None
    return 0 if found is None else int(found[1])


class OutOfMemory(LmsearchError):
    """A device had less memory than was asked for."""


def is_want_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory was asked for in vain: of Python and NumPy, of PyTorch on a CPU or a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "CUDA error: out of memory" in text)


@contextmanager
def telling_want_of_memory(lower: str) -> Iterator[None]:
    """Raise OutOfMemory, one line with what was needed and what to `lower`, where the block asks for memory in vain."""
    with setting(ESTIMATE, ""):
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_want_of_memory(error):
                raise
            raise OutOfMemory(f"out of memory: {needed(error)}; {lower}") from error


def needed(error: BaseException) -> str:
    """Return what was asked for in vain, what the process held before, and what a step was expected to need."""
    found = ASKED.search(str(error))
    asked = "no more could be had"
    if found is not None:
        number, unit = found[1] or found[3], found[2] or found[4]
        asked = f"{gib(int(number))} more were asked for" if unit == "bytes" else f"{number} {unit} more were asked for"
    held = f"{gib(peak_bytes())} held by this process at most"
    if torch.cuda.is_initialized():
        held += f", {gib(torch.cuda.max_memory_allocated())} on the GPU"
    return "; ".join(filter(None, (f"{asked}, {held}", ESTIMATE.get())))


def gib(number: int) -> str:
    """Return a number of bytes as text."""
    return f"{number / GIB:.3g} GiB"


def peak_bytes() -> int:
    """Return the most memory that this process has held, in bytes.

    Linux's ru_maxrss would not do where there is /proc: a process begins with the mark of the one that started it.
    """
    told = re.search(r"^VmHWM:\s*(\d+) kB", PROCESS.read_text(), re.MULTILINE) if PROCESS.is_file() else None
    if told is not None:
        return int(told[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
