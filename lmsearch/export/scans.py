"""Every way in which an exported file can scan, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lmsearch.export.linear_attention import LinearAttention
from lmsearch.export.portable import Portable


@dataclass(frozen=True)
class ScanKind:
    """A way to scan: `build` makes the operators of a graph. `onnxruntime`: only that runtime has what the graph holds."""

    name: str
    build: Callable[[], Portable]
    onnxruntime: bool = False


SCANS = {
    kind.name: kind for kind in (ScanKind("scan", Portable), ScanKind("linear_attention", LinearAttention, onnxruntime=True))
}
