"""What every test gets: the top folder, one thread, idle ones asleep as under the command line; and how many run at once."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from lmsearch.cli import tune_process
from lmsearch.context import DRAWING, LEAVING_PAGES, setting

if TYPE_CHECKING:
    import numpy as np

os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side, one on each core; what they start inherits it
tune_process()  # before any test imports PyTorch
LEAVING_PAGES.set(False)  # a page takes a part of a second; the tests of pages ask for it
DRAWING.set(False)  # and so does a figure; tests of what a run leaves behind ask for the fixture `drawing`
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and their children, ignore it
hypothesis.settings.register_profile("busy", deadline=None)  # a busy machine is no fault of a test's
hypothesis.settings.load_profile("busy")

ROOT = Path(__file__).resolve().parent.parent
WORKER_GIB = 2  # memory that one process of tests may need, with -m slow as well


def synced(file: int) -> None:
    """Stand in for os.fsync, which waits for the disk again and again: nothing that a test writes has to outlive the machine."""
    os.fstat(file)  # what is no open file is an error here too


os.fsync = synced


def remembering(baseline: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a baseline that is computed once for the same images: most runs of tests have those of the digits beside them."""
    known: dict[str, np.ndarray] = {}

    def answers(*arrays: np.ndarray) -> np.ndarray:
        images = hashlib.sha256()
        for array in arrays:
            images.update(f"{array.shape} {array.dtype}".encode() + array.tobytes())
        if (key := images.hexdigest()) not in known:
            known[key] = baseline(*arrays)
        return known[key].copy()

    return answers


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes `-n auto` starts: one for each core that this process may use, fewer where memory is short."""
    from joblib import cpu_count  # knows affinity and the limits of containers

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cpu_count(), memory // (WORKER_GIB << 30)))


def pytest_collection_finish() -> None:
    """Let baselines remember, and leave all that was made so far out of garbage collection, which would walk it ever again."""
    from lmsearch.report.baselines import BASELINES  # imports NumPy, whose threads the lines above have counted

    BASELINES.update({name: remembering(baseline) for name, baseline in BASELINES.items()})
    gc.collect()
    gc.freeze()


@pytest.fixture
def drawing() -> Iterator[None]:
    """Let the runs of a test draw their figures, as a user's do."""
    with setting(DRAWING, True):
        yield


@pytest.fixture
def root() -> Path:
    """Return the top folder of the checkout."""
    return ROOT
