"""How many processes read images while networks compute, where the user leaves that open."""

from __future__ import annotations

import logging
from typing import TypeVar

import torch

from lmsearch.data import Source
from lmsearch.engine.processes import processes_here
from lmsearch.engine.threads import cores
from lmsearch.settings.groups import Settings

log = logging.getLogger(__name__)
MOST = 8  # processes of one training
T = TypeVar("T", bound=Settings)


def settle_readers(settings: T, source: Source, device: torch.device, *, at_once: int = 1) -> T:
    """Return the settings with num_workers chosen where it is open, and say so; `at_once` trainings share the cores.

    On a GPU, processes read what lies in files, since decoding takes longer than the step; on a CPU the training needs its cores.
    """
    if settings.get("num_workers") is not None:
        return settings
    number = 0
    if device.type == "cuda" and not source.train.in_memory:
        number = min(MOST, max(1, cores() // (at_once * processes_here())))
        log.info("processes that read images beside a training: %d; num_workers sets another number", number)
    return settings.changed({"num_workers": number})
