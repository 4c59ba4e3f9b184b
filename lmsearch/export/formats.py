"""Every format of exported files: what it can hold, how a graph becomes a file of it, and how a file answers images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmsearch.errors import CheckpointError, ExportError
from lmsearch.export import onnx_file, torch_export_file
from lmsearch.export.certificate import Answers
from lmsearch.export.options import ExportOptions
from lmsearch.export.portable import Portable, ScanLoop
from lmsearch.reading import is_file


@dataclass(frozen=True)
class Format:
    """A format. `make` turns a graph into what `answers` runs and `pack` writes with a description.

    `scans`: names of SCANS that it can hold. `int8`: it can hold weights in 8 bits.
    """

    name: str
    ending: str
    scans: tuple[str, ...]
    int8: bool
    make: Callable[[torch.export.ExportedProgram, ExportOptions], Any]
    answers: Callable[[Any], Answers]
    pack: Callable[[Any, str], bytes]
    description_in: Callable[..., str]
    opened: Callable[[bytes], Answers]


ONNX = Format(
    "onnx",
    ".onnx",
    scans=("scan",),
    int8=True,
    make=lambda program, options: onnx_file.to_proto(program, int8=options.int8),
    answers=lambda proto: onnx_file.OnnxAnswers(proto.SerializeToString()),
    pack=onnx_file.pack,
    description_in=onnx_file.description_in,
    opened=onnx_file.OnnxAnswers,
)
TORCH_EXPORT = Format(
    "torch_export",
    ".pt2",
    scans=("scan",),
    int8=False,
    make=lambda program, options: torch_export_file.without_traces(program),
    answers=torch_export_file.answers_of,
    pack=torch_export_file.pack,
    description_in=torch_export_file.description_in,
    opened=torch_export_file.opened,
)
FORMATS = {kind.name: kind for kind in (ONNX, TORCH_EXPORT)}
SCANS: dict[str, Callable[[], Portable]] = {"scan": ScanLoop}


def format_for(options: ExportOptions) -> Format:
    """Return the record of a format; raise ExportError for what it cannot hold."""
    kind = FORMATS[options.format]
    if options.scan not in kind.scans:
        raise ExportError(f"format={kind.name} cannot hold scan={options.scan}; accepted: {', '.join(kind.scans)}")
    if options.int8 and not kind.int8:
        able = ", ".join(other.name for other in FORMATS.values() if other.int8)
        raise ExportError(f"format={kind.name} cannot hold int8=true; accepted: {able}")
    return kind


def is_exported(path: Path) -> bool:
    """Tell whether a path is named as an exported file."""
    return path.suffix in {kind.ending for kind in FORMATS.values()}


def read_exported(path: Path) -> tuple[Format, bytes]:
    """Return the format and the bytes of a file; raise CheckpointError where there is none."""
    if not is_file(path):
        raise CheckpointError(f"{path}: no such file")
    try:
        return next(kind for kind in FORMATS.values() if kind.ending == path.suffix), path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
