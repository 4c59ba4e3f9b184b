"""How many processes read images while networks compute, where the user leaves that open."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import TypeVar

import torch

from lmsearch.context import SHARING
from lmsearch.data import Source
from lmsearch.data.dense.dataset import DenseDataset
from lmsearch.data.fetching import PIECE
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.processes import processes_here
from lmsearch.engine.threads import cores
from lmsearch.settings.groups import Settings

log = logging.getLogger(__name__)
MOST = 8  # processes of one loader
AHEAD = 2  # batches, or pieces of them, that each holds ready in shared memory, PyTorch's default
SHARED = Path("/dev/shm")  # where that lies; containers often have little
SPARED = 4  # of its free space a quarter is counted on: there are others
T = TypeVar("T", bound=Settings)


def settle_readers(
    settings: T, source: Source, device: torch.device, *, at_once: int = 1, loaders: int = 1, world: World = SINGLE
) -> T:
    """Return the settings with num_workers chosen where it is open, and say so.

    On a GPU, processes read what lies in files, since decoding takes longer than the step; on a CPU the training needs its cores.
    `at_once` trainings share the cores and shared memory, each with so many `loaders` that are read at a time.
    """
    if settings.get("num_workers") is not None:
        return settings
    number = 0
    if device.type == "cuda" and not source.train.in_memory:
        sharing = loaders * at_once * processes_here() * SHARING.get()
        wanted = min(MOST, max(1, cores() // sharing))
        number = min(wanted, room(sharing * min(PIECE, settings.get("batch_size") // world.size), sample_bytes(source)))
        little = f" (with room in {SHARED} they would be {wanted})" if number < wanted else ""
        whom = "a training" if loaders == 1 else "a training, as many for weights as for alphas"
        log.info("processes that read images beside %s: %d%s; num_workers sets another number", whom, number, little)
    return settings.changed({"num_workers": number})


def reading_threads(device: torch.device) -> int:
    """Return how many threads read images beside a network that predicts: none on a CPU, which computes on its cores."""
    return min(MOST, cores()) if device.type == "cuda" else 0


def room(images: int, size: int) -> int:
    """Return for how many processes, MOST at most, shared memory has room; each holds AHEAD times `images` of `size` bytes."""
    if not SHARED.is_dir():
        return MOST
    return min(MOST, shutil.disk_usage(SHARED).free // SPARED // max(AHEAD * images * size, 1))


def sample_bytes(source: Source) -> int:
    """Return the most bytes that an image takes in a batch, with its labels where these are of its pixels or objects."""
    info, parts = source.info, (source.train, source.val, source.test)
    image = info.in_chans * math.prod(info.img_size) * torch.float32.itemsize
    return image + max((part.label_bytes for part in parts if isinstance(part, DenseDataset)), default=0)
