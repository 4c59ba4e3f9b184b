"""What a run took, in cost.json: seconds and peak memory of all its sittings, and the machine.

The memory is that of the process, which may have done others of its kind before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from lmsearch.bench.hardware import hardware
from lmsearch.engine.memory import peak_bytes
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import FileError
from lmsearch.reading import object_in
from lmsearch.report.page.folder import COST


@contextmanager
def counting_cost(run_dir: RunDir) -> Iterator[None]:
    """Add the time of the block to cost.json, however it ends; a sitting that is killed is not counted."""
    started = time.monotonic()

    def write() -> None:
        if run_dir.world.main:
            run_dir.write_json(COST, _added(object_in(run_dir / COST), time.monotonic() - started))

    try:
        yield
    except BaseException:
        with suppress(FileError):  # of a full disk: what ended the block tells more
            write()
        raise
    write()


def _added(before: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the cost with one more sitting."""
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0
    return {
        "seconds": round(float(before.get("seconds", 0.0)) + seconds, 1),
        "sittings": int(before.get("sittings", 0)) + 1,
        "peak_memory_bytes": max(peak_bytes(), int(before.get("peak_memory_bytes", 0))),
        "peak_gpu_memory_bytes": max(gpu, int(before.get("peak_gpu_memory_bytes", 0))),
        "hardware": hardware(),
    }
