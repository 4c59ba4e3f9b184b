"""torch.export files (.pt2): the graph as PyTorch keeps it, with the description as an extra file in the archive."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lmsearch.errors import CheckpointError
from lmsearch.export.described import KEY, NO_CERTIFICATE
from lmsearch.export.program import quietly
from lmsearch.export.seal import BLANK, sealed

EXTRA = f"{KEY}.json"
TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")  # where in the code a node was made


def without_traces(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Take out of a graph, and of the graphs inside it, what tells of the machine that made it."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for name in TRACES:
                    node.meta.pop(name, None)
    return program


def pack(program: torch.export.ExportedProgram, described: str) -> bytes:
    """Return the file of a graph with its description inside; the seal is the comment of the archive."""
    file = io.BytesIO()
    with quietly():
        torch.export.save(program, file, extra_files={EXTRA: described})
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = BLANK.encode()
    return sealed(file.getvalue())


def description_in(content: bytes, *, source: str) -> str:
    """Return the description in a file; raise CheckpointError where it is no such archive, or not one of ours."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = [name for name in archive.namelist() if name.endswith(f"/extra/{EXTRA}")]
            if len(found) != 1:
                raise CheckpointError(f"{source}: {NO_CERTIFICATE}")
            return archive.read(found[0]).decode()
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise CheckpointError(f"{source}: not a file of torch.export, or damaged") from error


def answers_of(program: torch.export.ExportedProgram) -> Callable[[Tensor], Tensor]:
    """Return the function that a graph computes."""
    module: Any = program.module()
    return torch.no_grad()(lambda images: module(images))


def opened(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return the function of a file that was packed here."""
    with quietly():
        return answers_of(torch.export.load(io.BytesIO(content)))
