"""Second objectives of a discrete search, to be small: what an architecture costs to run."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

import torch

from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.train import Precision
from lmsearch.models.complexity import complexity
from lmsearch.search.discrete.architectures import Architecture

REPEATS = 7  # timed forward passes, of which the median counts


@dataclass(frozen=True)
class Flops:
    """FLOPs of the derived net's forward pass for one image."""

    spec: ModelSpec

    def __call__(self, architecture: Architecture) -> float:
        """Count, without running anything."""
        with torch.device("meta"):
            model = replace(self.spec, directions=architecture, merge="sum").build()
        return float(complexity(model).total.flops)


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass of the derived net on `batch_size` images, measured on this machine and device."""

    spec: ModelSpec
    precision: Precision
    batch_size: int
    backend: str = "auto"

    @torch.no_grad()
    def __call__(self, architecture: Architecture) -> float:
        """Build, warm up and time."""
        device = self.precision.device
        model = replace(self.spec, directions=architecture, merge="sum").build(backend=self.backend).to(device).eval()
        channels, size = self.spec.options["in_chans"], self.spec.options["img_size"]
        images = torch.zeros(self.batch_size, channels, *size, device=device)
        times = []
        for _ in range(1 + REPEATS):
            began = time.perf_counter()
            with self.precision.autocast():
                model(images)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
        return statistics.median(times[1:])
