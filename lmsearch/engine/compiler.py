"""Whether torch.compile makes programs here, and whether those that it has kept are whole."""

from __future__ import annotations

import logging
import os
import time
from functools import cache
from pathlib import Path

import torch

from lmsearch.errors import ConfigError, first_line

PROGRAMS = ("??/*", "triton/*/*/*")  # where torch.compile keeps them in its folder
WRITTEN = (".so", ".cpp", ".py", ".json", ".cubin")
BEING_WRITTEN_S = 60
log = logging.getLogger(__name__)


@cache
def check_compiler(device: torch.device) -> None:
    """Raise ConfigError where torch.compile makes no programs for a device, such as for want of a C++ compiler.

    Says, once in a process, that the first step makes them.
    """
    check_programs(compiler_cache())
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
        raise ConfigError(f"model.compile=true: torch.compile does not run here: {first_line(error)}") from error
    log.info("torch.compile makes programs in the first step, unless it has kept them: that may take minutes")


def compiler_cache() -> Path:
    """Return the folder in which torch.compile keeps its programs."""
    if folder := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        return Path(folder)
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # imports the compiler

    return Path(default_cache_dir())


def check_programs(folder: Path) -> None:
    """Raise ConfigError where a program of torch.compile holds nothing, which PyTorch takes for finished.

    Training would end with an error then. Where it is a trial of what this CPU can do, PyTorch would say nothing, and make slow
    programs ever after.
    """
    files = (file for pattern in PROGRAMS for file in folder.glob(pattern) if file.suffix in WRITTEN)
    if hollow := sorted(file for file in files if is_hollow(file)):
        raise ConfigError(
            f"model.compile=true: {hollow[0]} is empty (one of {len(hollow)}): the machine went down, or a disk was full, while"
            f" torch.compile wrote; delete the folder {folder}, which is made anew, or set TORCHINDUCTOR_CACHE_DIR to another one"
        )


def is_hollow(file: Path) -> bool:
    """Tell whether a file begins with nothing, or with the zeros that some file systems leave, and is not being written now."""
    try:
        with file.open("rb") as opened:
            return not opened.read(4).strip(b"\0") and time.time() - os.fstat(opened.fileno()).st_mtime > BEING_WRITTEN_S
    except OSError:  # gone, or no file
        return False
