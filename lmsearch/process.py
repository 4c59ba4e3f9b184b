"""What every process of lmsearch sets up for itself: threads, memory and log lines. Call it before PyTorch is imported."""

from __future__ import annotations

import ctypes
import logging
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def tune_process() -> None:
    """Set up threads and memory of this process for training; call it before PyTorch is imported.

    OpenMP's idle threads sleep rather than spin (a supernet alternates PyTorch's threads with those of the scan engine, and
    spinning ones slow it down many times on busy cores), and glibc keeps freed memory, since every step asks for the same
    blocks again. Whoever sets OMP_WAIT_POLICY or MALLOC_TRIM_THRESHOLD_ keeps their choice.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 1 << 30)
            mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def set_up_logging(*, quiet: bool = False, verbose: bool = False) -> None:
    """Send log lines to stderr, coloured in a terminal and plain elsewhere: of `quiet` warnings alone, of `verbose` all."""
    if sys.stderr.isatty():
        from rich.console import Console  # slow to import
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s")
    logging.getLogger("lmsearch").setLevel(level)
    if quiet:
        logging.getLogger().setLevel(level)
