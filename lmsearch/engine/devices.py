"""Devices by name."""

from __future__ import annotations

import torch

from lmsearch.errors import ConfigError, short

DEVICES = ("auto", "cpu", "cuda")


def device_named(name: str) -> torch.device:
    """Return the device of a name, auto being CUDA where there is one; raise ConfigError where it cannot be had."""
    if name not in DEVICES:
        raise ConfigError(f"device={short(name)} is not accepted; accepted: {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda' but PyTorch sees no CUDA device; use device=cpu or device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
