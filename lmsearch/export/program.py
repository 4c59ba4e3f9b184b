"""A network as a graph of plain operators: torch.export over the network with portable scans in place of its kernels."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lmsearch.data import DataInfo
from lmsearch.export.portable import Portable
from lmsearch.models.backbone import Network

BATCH = 2  # images of the example that is traced


def example(info: DataInfo, batch: int, size: tuple[int, int]) -> Tensor:
    """Return made-up images (B, C, h, w) as the network sees images: normalised noise, the same for the same arguments."""
    drawn = torch.rand(batch, info.in_chans, *size, generator=torch.Generator().manual_seed(batch))
    mean, std = (torch.tensor(values)[:, None, None] for values in (info.mean, info.std))
    return (drawn - mean) / std


def portable_copy(net: Network, scans: Portable) -> Network:
    """Return a copy of a network on the CPU whose mixers run `scans`; the network itself stays as it is."""
    mine = copy.deepcopy(net).cpu().float().eval().requires_grad_(False)
    for mixer in mine.mixers():
        mixer.options = replace(mixer.options, backend=scans)
    return mine


def program_of(net: Network, info: DataInfo, scans: Portable, *, axes: Mapping[int, Any]) -> torch.export.ExportedProgram:
    """Return the graph of a network; `axes` are the axes of the images that stay open, as torch.export takes them."""
    torch._dynamo.reset()  # else sizes that earlier exports of this process fixed are guards of this graph
    images = example(info, BATCH, info.img_size)
    with torch.no_grad(), quietly():
        return torch.export.export(portable_copy(net, scans), (images,), dynamic_shapes=(dict(axes),), strict=False)


@contextmanager
def quietly() -> Iterator[None]:
    """Let the exporters of PyTorch and ONNX say nothing below errors inside the block: users cannot act on it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
