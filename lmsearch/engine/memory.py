"""How much memory is free on the device that trains."""

from __future__ import annotations

import re
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
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
    return int(most) - int(used.read_text())
