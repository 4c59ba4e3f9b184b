"""The memory of a training step, said before the first one and refused where the machine has less."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch

from lmsearch.context import CARDS, FREE, SHARING
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.memory import ESTIMATE, GIB, free_bytes
from lmsearch.engine.processes import processes_here
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError
from lmsearch.models import Network
from lmsearch.models.dense import DenseNet
from lmsearch.models.dense.net import whole_patches
from lmsearch.models.step_memory import step_bytes
from lmsearch.scan.grids import grid_text

log = logging.getLogger(__name__)
MIXED = 3  # times the images of a whole step: as they come, turned round for mixup, and mixed
VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def check_memory(
    batch_size: int,
    spec: ModelSpec,
    precision: Precision,
    *,
    running: Sequence[int] | None = None,
    world: World = SINGLE,
    workers: int = 1,
) -> None:
    """Say what a step of `batch_size` images, shared by the processes of `world`, needs; raise ConfigError where less is free.

    `running`: how many branches of each layer of a supernet run at a time; None: all. `workers` trainings run side by side. Each
    process has a GPU of its own; on a CPU those of one machine share its memory. Trials of a sweep side by side share both.
    """
    with torch.device("meta"):  # no memory, no time
        model: Network = spec.build()
    size, without = tuple(spec.options["img_size"]), ""
    if isinstance(model, DenseNet) and not model.kind.counted:
        size, without, model = whole_patches(size, model.patch_size), f" without head={model.kind.name}", model.backbone
    share = batch_size // world.size
    at_once = share if precision.micro_batch is None else min(share, precision.micro_batch)
    wide, recomputed = VALUE_BYTES[precision.name], precision.grad_checkpointing
    on_cpu = precision.device.type == "cpu"
    need = step_bytes(model, size, at_once, running=running, bytes_per_value=wide, recomputed=recomputed, keeps_delta=not on_cpu)
    if at_once < share:
        need += MIXED * share * spec.options["in_chans"] * math.prod(size) * torch.float32.itemsize
    sharing = workers * processes_here() if on_cpu else 1
    free, trials = room_on(precision.device), sharers(precision.device)
    each = f" for each of the {trials} workers of the sweep" if trials > 1 else ""
    what = (
        f"a step of {images_text(batch_size, share, at_once)} of {grid_text(model.layer_grids(size)[0])} tokens needs about"
        f" {need / GIB:.2g} GiB{without}" + (f", {sharing} processes here {sharing * need / GIB:.2g} GiB" if sharing > 1 else "")
    )
    ESTIMATE.set(what)
    if free is not None and sharing * need > free:
        raise ConfigError(
            f"{what}, {free / GIB:.2g} GiB are free on {precision.device.type}{each}; lower micro_batch, batch_size or"
            f" data.img_size, set model.grad_checkpointing=true, or raise model.patch_size (now {model.patch_size})"
        )
    log.info("memory: %s%s", what, "" if free is None else f" of {free / GIB:.2g} free{each}")


def room_on(device: torch.device) -> int | None:
    """Return the bytes that this process may take: what is free, and beside others of its kind its share of what was.

    They may have taken theirs already, or be about to. Those on one GPU share all of it; None where the system does not tell.
    """
    free, sharing = free_bytes(device), sharers(device)
    if free is None or sharing == 1:
        return free
    before = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else FREE.get()
    return free if before is None else min(free, before // sharing)


def sharers(device: torch.device) -> int:
    """Return how many trials of a sweep share the memory of a device; those on GPUs are spread over all of them."""
    return -(-SHARING.get() // (CARDS.get() if device.type == "cuda" else 1))


def images_text(batch_size: int, share: int, at_once: int) -> str:
    """Return how many images a step takes, how many of them one process has, and how many of these it runs at a time."""
    parts = [f"{batch_size} images", f"{share} in each process" if share < batch_size else ""]
    parts += [f"{at_once} at a time" if at_once < share else ""]
    return ", ".join(filter(None, parts)) + ("," if at_once < batch_size else "")
