"""How many processes read images while networks compute, where the user leaves that open."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import TypeVar

import torch

from lmsearch.data import DataInfo, Source
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.processes import processes_here
from lmsearch.engine.threads import cores
from lmsearch.settings.groups import Settings

log = logging.getLogger(__name__)
MOST = 8  # processes of one training
AHEAD = 2  # batches that each holds ready in shared memory, PyTorch's default
SHARED = Path("/dev/shm")  # where that lies; containers often have little
SPARED = 4  # of its free space a quarter is counted on: batches hold labels too, and there are others
VALUE_BYTES = 4
T = TypeVar("T", bound=Settings)


def settle_readers(settings: T, source: Source, device: torch.device, *, at_once: int = 1, world: World = SINGLE) -> T:
    """Return the settings with num_workers chosen where it is open, and say so; `at_once` trainings share the cores.

    On a GPU, processes read what lies in files, since decoding takes longer than the step; on a CPU the training needs its cores.
    """
    if settings.get("num_workers") is not None:
        return settings
    number = 0
    if device.type == "cuda" and not source.train.in_memory:
        sharing = at_once * processes_here()
        wanted = min(MOST, max(1, cores() // sharing))
        number = min(wanted, room(sharing * settings.get("batch_size") // world.size, source.info))
        little = f" (with room in {SHARED} they would be {wanted})" if number < wanted else ""
        log.info("processes that read images beside a training: %d%s; num_workers sets another number", number, little)
    return settings.changed({"num_workers": number})


def reading_threads(device: torch.device) -> int:
    """Return how many threads read images beside a network that predicts: none on a CPU, which computes on its cores."""
    return min(MOST, cores()) if device.type == "cuda" else 0


def room(images: int, info: DataInfo) -> int:
    """Return for how many processes shared memory has room, each of which holds AHEAD batches of so many images; at most MOST."""
    if not SHARED.is_dir():
        return MOST
    batch = images * info.in_chans * math.prod(info.img_size) * VALUE_BYTES
    return min(MOST, shutil.disk_usage(SHARED).free // SPARED // max(AHEAD * batch, 1))
