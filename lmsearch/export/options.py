"""What an export may be asked for, and what it needs to be installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from lmsearch.errors import ExportError
from lmsearch.models.backbone import Network
from lmsearch.models.dense import HEADS, DenseNet

TOLERANCE = 1e-4  # largest difference from PyTorch, as a share of the largest output
INT8_TOLERANCE = 0.1  # the same of weights in 8 bits: rounding, which accuracy tells more of
READERS = ("onnx", "onnxruntime")  # packages that an ONNX file is read with
WRITERS = ("onnx", "onnxscript", "onnxruntime")  # and written with: the extra `onnx`


@dataclass(frozen=True)
class ExportOptions:
    """format: a name of FORMATS. scan: one of SCANS. sizes: images of any size are taken. int8: weights in 8 bits.

    `tolerance` is the largest difference from PyTorch that is accepted, as a share of the largest output: above 0, at most 1.
    Raises ExportError for another one.
    """

    format: str = "onnx"
    sizes: bool = False
    int8: bool = False
    tolerance: float | None = None
    scan: str = "scan"

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 < self.tolerance <= 1:
            raise ExportError(f"tolerance={self.tolerance:g} is out of range; accepted: above 0, at most 1")

    @property
    def accepted_difference(self) -> float:
        """The tolerance, or what is usual."""
        if self.tolerance is not None:
            return self.tolerance
        return INT8_TOLERANCE if self.int8 else TOLERANCE


def need(packages: Sequence[str], what: str) -> None:
    """Raise ExportError, with what to type, where a package is missing that `what` needs."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise ExportError(f"{what} needs {missing[0]}, which is not installed; run: python -m pip install {' '.join(packages)}")


def check_network(net: Network, *, merge: str, source: str) -> None:
    """Raise ExportError for a network that no file can hold: a supernet, or a head that finds objects."""
    if any(mixer.alphas is not None for mixer in net.mixers()):
        raise ExportError(f"{source} holds a supernet (merge={merge}); derive a genotype from it and retrain that, then export")
    if isinstance(net, DenseNet) and net.kind.objects:
        accepted = ", ".join(kind.name for kind in HEADS.values() if not kind.objects)
        raise ExportError(
            f"head={net.kind.name} answers a set of objects, which cannot be exported; accepted: no head, {accepted}"
        )
