"""Every format of exported files: what it can hold, how a graph becomes a file of it, and how a file answers images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmsearch.errors import CheckpointError, ExportError
from lmsearch.export import onnx_file, torch_export_file
from lmsearch.export.certificate import Answers
from lmsearch.export.options import WRITERS, ExportOptions, need
from lmsearch.export.scans import SCANS
from lmsearch.paths import EXPORTED
from lmsearch.reading import is_file


@dataclass(frozen=True)
class Format:
    """A format. `make` turns a graph into what `pack` writes with a description; `opened` makes a function of what was written.

    `int8`: it can hold weights in 8 bits. `onnxruntime`: it can hold operators of that runtime's own. `packages`: what must be
    installed to write it.
    """

    name: str
    ending: str
    int8: bool
    onnxruntime: bool
    packages: tuple[str, ...]
    make: Callable[[torch.export.ExportedProgram, ExportOptions], Any]
    pack: Callable[[Any, str], bytes]
    description_in: Callable[..., str]
    opened: Callable[[bytes], Answers]


ONNX = Format(
    "onnx",
    EXPORTED["onnx"],
    int8=True,
    onnxruntime=True,
    packages=WRITERS,
    make=lambda program, options: onnx_file.to_proto(program, int8=options.int8),
    pack=onnx_file.pack,
    description_in=onnx_file.description_in,
    opened=onnx_file.OnnxAnswers,
)
TORCH_EXPORT = Format(
    "torch_export",
    EXPORTED["torch_export"],
    int8=False,
    onnxruntime=False,
    packages=(),
    make=lambda program, options: torch_export_file.without_traces(program),
    pack=torch_export_file.pack,
    description_in=torch_export_file.description_in,
    opened=torch_export_file.opened,
)
FORMATS = {kind.name: kind for kind in (ONNX, TORCH_EXPORT)}


def format_for(options: ExportOptions) -> Format:
    """Return the record of a format; raise ExportError for what it cannot hold, and where a package is missing."""
    for name, value, known in (("format", options.format, FORMATS), ("scan", options.scan, SCANS)):
        if value not in known:
            raise ExportError(f"{name}={value!r} is not accepted; accepted: {', '.join(known)}")
    kind = FORMATS[options.format]
    if options.int8 and not kind.int8:
        raise cannot_hold(kind, "int8=true", [other.name for other in FORMATS.values() if other.int8])
    if SCANS[options.scan].onnxruntime and not kind.onnxruntime:
        raise cannot_hold(kind, f"scan={options.scan}", [other.name for other in FORMATS.values() if other.onnxruntime])
    need(kind.packages, f"format={kind.name}")
    return kind


def cannot_hold(kind: Format, what: str, able: Sequence[str]) -> ExportError:
    """Return the error of what a format cannot hold."""
    return ExportError(f"format={kind.name} cannot hold {what}; accepted: {', '.join(able)}")


def read_exported(path: Path) -> tuple[Format, bytes]:
    """Return the format and the bytes of a file; raise CheckpointError where there is none."""
    if not is_file(path):
        raise CheckpointError(f"{path}: no such file")
    try:
        return next(kind for kind in FORMATS.values() if kind.ending == path.suffix), path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
