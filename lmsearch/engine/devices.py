"""Devices by name, and what they compute with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from lmsearch.errors import ConfigError, short

DEVICES = ("auto", "cpu", "cuda")
CPUINFO = Path("/proc/cpuinfo")  # of Linux
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # what x86 and ARM call arithmetic of bf16


def device_named(name: str) -> torch.device:
    """Return the device of a name, auto being CUDA where there is one; raise ConfigError where it cannot be had."""
    if name not in DEVICES:
        raise ConfigError(f"device={short(name)} is not accepted; accepted: {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda' but PyTorch sees no CUDA device; use device=cpu or device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; a GPU takes it from pinned memory, and nothing waits for that."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """Let CUDA convolve in TF32 only where it multiplies matrices so: by default PyTorch does the one and not the other."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def lacks_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Tell whether the CPUs of this machine are known to have no arithmetic of bf16; False where that cannot be read."""
    if not cpuinfo.is_file():
        return False
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    features = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    return bool(features) and not features & BF16
