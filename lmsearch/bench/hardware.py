"""The machine in words: CPU model, instruction sets, caches, memory and CUDA devices."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from lmsearch.engine.threads import cores

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
WANTED = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "amx_tile", "asimd", "sve")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
USUAL_CACHE = 32 << 20  # bytes, where the system does not tell


def cpu_field(*names: str) -> str:
    """Return the first of these fields of /proc/cpuinfo, or "" where there is none."""
    text = CPUINFO.read_text() if CPUINFO.is_file() else ""
    for name in names:
        if match := re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE):
            return match[1].strip()
    return ""


def cpu_model() -> str:
    """Return the CPU's name as the system gives it."""
    return cpu_field("model name", "Hardware") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Return the vector instruction sets of the CPU that matter here, oldest first; empty where the system hides them."""
    flags = cpu_field("flags", "Features").split()
    return [name for name in WANTED if name in flags]


def last_level_cache() -> int:
    """Return the bytes of the largest CPU cache (32 MiB where the system does not tell)."""
    sizes = [path.read_text().strip() for path in CACHES.glob("index*/size")]
    return max((int(size[:-1]) * UNITS[size[-1]] for size in sizes if size[-1:] in UNITS), default=USUAL_CACHE)


def cuda_devices() -> list[str]:
    """Return name, compute capability and memory of every CUDA device."""
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        found.append(f"{properties.name} (sm_{properties.major}{properties.minor}, {memory:.0f} GiB)")
    return found


def hardware() -> dict:
    """Return the machine as plain values."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "instruction_sets": instruction_sets(),
        "last_level_cache_bytes": last_level_cache(),
        "cuda_devices": cuda_devices(),
        "system": f"{platform.system()} {platform.machine()}",
    }
