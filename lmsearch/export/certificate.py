"""The certificate of an exported file: how far its outputs are from the network's, and the digest that tells a changed byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lmsearch.data import DataInfo
from lmsearch.errors import ExportError
from lmsearch.export.program import example
from lmsearch.models.backbone import Network
from lmsearch.scan.grids import grid_text
from lmsearch.stats.digits import beside

BATCHES = (1, 7)
Size = tuple[int, int]
Answers = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A batch of images of one size, and the largest difference of their outputs, as a share of the largest output."""

    batch: int
    img_size: Size
    difference: float


@dataclass(frozen=True)
class Certificate:
    """What was compared with PyTorch before a file was written, and how large a difference was accepted."""

    tolerance: float
    torch: str
    cases: tuple[Case, ...]

    @property
    def difference(self) -> float:
        """The largest difference that was seen."""
        return max(case.difference for case in self.cases)

    @classmethod
    def from_dict(cls, values: Any) -> Certificate:
        """Rebuild from `dataclasses.asdict` output; raises KeyError or TypeError for anything else."""
        cases = tuple(Case(case["batch"], tuple(case["img_size"]), float(case["difference"])) for case in values["cases"])
        if not cases:
            raise TypeError("no case")
        return cls(float(values["tolerance"]), str(values["torch"]), cases)


@torch.no_grad()
def certify(answers: Answers, net: Network, info: DataInfo, sizes: Sequence[Size], *, tolerance: float) -> Certificate:
    """Compare `answers` with a network at two batches and at every size; raise ExportError where they differ too much.

    Outputs of another shape and outputs that are not finite differ too much whatever the tolerance.
    """
    cases = []
    for size in sizes:
        for batch in BATCHES:
            images = example(info, batch, size)
            case = Case(batch, size, relative_difference(answers(images), net(images)))
            if not (case.difference <= tolerance and math.isfinite(case.difference)):
                raise ExportError(
                    f"not written: at {batch} image(s) of {grid_text(size)} pixels the file's outputs differ from PyTorch's by"
                    f" {beside(case.difference, tolerance, 2, 'g')} of the largest output; accepted: {tolerance:g} (tolerance=)"
                )
            cases.append(case)
    return Certificate(tolerance, torch.__version__, tuple(cases))


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference as a share of the largest wanted value; infinity for other shapes or what is not finite."""
    if found.shape != wanted.shape or not (found.isfinite().all() and wanted.isfinite().all()):
        return float("inf")
    return float((found - wanted).detach().abs().max() / wanted.detach().abs().max().clamp_min(1e-12))
