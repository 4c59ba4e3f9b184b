"""How the time of our scan grows with tokens, directions, channels and batch: exponents fitted on a log-log line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmsearch.bench.scans import ScanShape

AXES = ("tokens", "directions", "channels", "batch")
TENSORS = 6  # of (B, K, L, D) that forward and backward touch: delta, y, dy, ddelta, dx, saved states


@dataclass(frozen=True)
class Fit:
    """time ~ size ** exponent over `points` sizes, all beyond the last-level cache or not."""

    exponent: float
    points: int
    beyond_cache: bool


def working_set(shape: ScanShape) -> int:
    """Return about how many bytes the forward and backward pass of a scan touch, float32."""
    return 4 * TENSORS * shape.batch * shape.directions * shape.tokens * shape.channels


def sweep(base: ScanShape, axis: str, factors: Sequence[int]) -> list[ScanShape]:
    """Return `base` with one axis multiplied by each factor."""
    return [replace(base, **{axis: getattr(base, axis) * factor}) for factor in factors]


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of the least-squares line through (log size, log seconds)."""
    xs, ys = [math.log(s) for s in sizes], [math.log(s) for s in seconds]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return rise / sum((x - mean_x) ** 2 for x in xs)


def fit(shapes: Sequence[ScanShape], axis: str, seconds: Sequence[float], *, cache: int) -> Fit:
    """Fit the exponent over the sizes whose working set exceeds `cache` bytes; over all where fewer than two do."""
    points = list(zip(shapes, seconds, strict=True))
    beyond = [point for point in points if working_set(point[0]) > cache]
    used = beyond if len(beyond) >= 2 else points
    slope = exponent([getattr(shape, axis) for shape, _ in used], [s for _, s in used])
    return Fit(slope, len(used), used is beyond)
