"""lmsearch export: a trained network as a file that runs without lmsearch; it is written only if it computes the same."""

from __future__ import annotations

import shlex
from pathlib import Path

from omegaconf import DictConfig

from lmsearch.config import settings_of
from lmsearch.context import tell
from lmsearch.errors import ConfigError
from lmsearch.export.described import Described
from lmsearch.export.formats import format_for
from lmsearch.export.loaded import load_exported
from lmsearch.export.make import export_network
from lmsearch.export.options import ExportOptions
from lmsearch.files import make_folder, write_bytes
from lmsearch.scan.grids import grid_text
from lmsearch.settings.exporting import Export
from lmsearch.tasks.parts.out_file import out_file
from lmsearch.tasks.parts.shipped import CPU, told_accuracy
from lmsearch.tasks.parts.trained import load_trained


def run(cfg: DictConfig) -> int:
    """Export, compare, write and say what was written."""
    settings = settings_of(Export, cfg)
    options = ExportOptions(settings.format, settings.dynamic == "size", settings.int8, settings.tolerance, settings.scan)
    kind = format_for(options)
    if Path(settings.out).suffix != kind.ending:
        raise ConfigError(f"out={settings.out!r} has another ending than format={kind.name}; accepted: {kind.ending}")
    out = out_file(settings.out, overwrite=settings.overwrite)
    net, spec, info = load_trained(settings.checkpoint, CPU, backend="auto")
    exported = export_network(net, spec, info, options, source=settings.checkpoint)
    make_folder(out.absolute().parent, key="out")
    write_bytes(out, exported.content)
    show(exported.described, out, len(exported.content))
    if options.int8:
        tell(told_accuracy({"PyTorch": net, str(out): load_exported(out)}, spec, settings.checkpoint))
    return 0


def show(described: Described, out: Path, size: int) -> None:
    """Print what was compared, which quiet=true leaves, and what was written."""
    certificate = described.certificate
    cases = ", ".join(f"{case.batch} of {grid_text(case.img_size)}" for case in certificate.cases)
    print(
        f"{out}: {size:,} bytes, at most {certificate.difference:.2g} of the largest output from PyTorch"
        f" (accepted: {certificate.tolerance:g})"
    )
    tell(f"compared at images of pixels: {cases}")
    tell(f"next: lmsearch evaluate {shlex.quote(f'checkpoint={out}')}, or predict, or latency")
