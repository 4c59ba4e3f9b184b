"""Which axes of the images stay open in an exported file, and which networks take images of any size."""

from __future__ import annotations

from typing import Any

import torch

from lmsearch.errors import ExportError
from lmsearch.models.backbone import Network


def axes_of(net: Network, *, sizes: bool) -> dict[int, Any]:
    """Return the open axes of images (B, C, h, w) as torch.export takes them."""
    return {0: torch.export.Dim("batch", min=1)}


def check_sizes(net: Network) -> None:
    """Raise ExportError for a network whose graph is that of one image size."""
    raise ExportError("dynamic=size is not supported")


def other_size(net: Network, size: tuple[int, int]) -> tuple[int, int]:
    """Return another image size to compare at."""
    return size
