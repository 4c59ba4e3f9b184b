"""The memory of a training step, said before the first one and refused where the machine has less."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.memory import ESTIMATE, GIB, free_bytes
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError
from lmsearch.models import Network
from lmsearch.models.dense import DenseNet
from lmsearch.models.dense.net import whole_patches
from lmsearch.models.step_memory import step_bytes
from lmsearch.scan.grids import grid_text

log = logging.getLogger(__name__)
VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def check_memory(batch_size: int, spec: ModelSpec, precision: Precision, *, running: Sequence[int] | None = None) -> None:
    """Say what a step of `batch_size` images needs; raise ConfigError where that is more than is free.

    `running`: how many branches of each layer of a supernet run at a time; None: all.
    """
    with torch.device("meta"):  # no memory, no time
        model: Network = spec.build()
    size, without = tuple(spec.options["img_size"]), ""
    if isinstance(model, DenseNet) and not model.kind.counted:
        size, without, model = whole_patches(size, model.patch_size), f" without head={model.kind.name}", model.backbone
    at_once = batch_size if precision.micro_batch is None else min(batch_size, precision.micro_batch)
    wide, recomputed = VALUE_BYTES[precision.name], precision.grad_checkpointing
    triton = precision.device.type != "cpu"
    need = step_bytes(model, size, at_once, running=running, bytes_per_value=wide, recomputed=recomputed, keeps_delta=triton)
    free = free_bytes(precision.device)
    images = f"{batch_size} images" + (f", {at_once} at a time," if at_once < batch_size else "")
    what = f"a step of {images} of {grid_text(model.layer_grids(size)[0])} tokens needs about {need / GIB:.2g} GiB{without}"
    ESTIMATE.set(what)
    if free is not None and need > free:
        raise ConfigError(
            f"{what}, {free / GIB:.2g} GiB are free on {precision.device.type}; lower micro_batch, batch_size or"
            f" data.img_size, set model.grad_checkpointing=true, or raise model.patch_size (now {model.patch_size})"
        )
    log.info("memory: %s%s", what, "" if free is None else f" of {free / GIB:.2g} free")
