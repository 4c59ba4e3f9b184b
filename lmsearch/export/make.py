"""Exporting: a trained network to the bytes of a file that computes the same, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from lmsearch.data import DataInfo
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.export.certificate import Size, certify
from lmsearch.export.described import Described
from lmsearch.export.formats import format_for
from lmsearch.export.options import ExportOptions, check_network
from lmsearch.export.program import program_of
from lmsearch.export.scans import SCANS
from lmsearch.export.sizes import axes_of, check_sizes, least_of, other_size, step_of
from lmsearch.models.backbone import Network


@dataclass(frozen=True)
class Exported:
    """The content of a file, and what it says of itself."""

    content: bytes
    described: Described


def export_network(net: Network, spec: ModelSpec, info: DataInfo, options: ExportOptions, *, source: str) -> Exported:
    """Return a network as a file of `options.format` that has been compared with it at two batches, and two sizes where open.

    The bytes that are compared are read again first. Raises ExportError for what the network or the format cannot do, and where
    the file's outputs are not those of the network.
    """
    kind = format_for(options)
    check_network(net, merge=spec.merge, source=source)
    sizes: list[Size] = [info.img_size]
    if options.sizes:
        check_sizes(net, info)
        sizes.append(other_size(net, info.img_size))
    program = program_of(net, info, SCANS[options.scan].build(), axes=axes_of(net, sizes=options.sizes))
    made = kind.make(program, options)
    read = kind.opened(kind.pack(made, ""))  # the description comes last, for it holds the certificate
    certificate = certify(read, net, info, sizes, tolerance=options.accepted_difference)
    described = Described(spec, info, options, certificate, step_of(net) if options.sizes else None, least_of(net))
    return Exported(kind.pack(made, described.to_json()), described)
