"""Which axes of the images stay open in an exported file, and which networks take images of any size."""

from __future__ import annotations

from typing import Any

import torch

from lmsearch.data import DataInfo
from lmsearch.errors import ExportError
from lmsearch.export.certificate import Size
from lmsearch.models.backbone import Network
from lmsearch.models.dense import DenseNet
from lmsearch.scan.directions import parse_direction

LEAST = 2  # steps of the side of an image, or cells of a map: PyTorch takes an axis of one for fixed
ADVICE = "export with dynamic=batch"


def axes_of(net: Network, *, sizes: bool) -> dict[int, Any]:
    """Return the open axes of images (B, C, h, w) as torch.export takes them."""
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if sizes:
        step, least = step_of(net), least_of(net)
        axes |= {2: step * torch.export.Dim("rows", min=least), 3: step * torch.export.Dim("columns", min=least)}
    return axes


def check_sizes(net: Network, info: DataInfo) -> None:
    """Raise ExportError, with the reason, for a network whose graph is that of one image size."""
    for mixer in net.mixers():
        for name in mixer.directions:
            if not (scan := parse_direction(name)).arithmetic:
                raise ExportError(f"dynamic=size: the order {scan.label} has no formula for any size; {ADVICE}")
    step, least, own = step_of(net), least_of(net), info.img_size
    if any(side % step or side < least * step for side in own):
        raise ExportError(
            f"dynamic=size: the network takes sides that are multiples of {step} pixels, from {least * step} on, and was trained"
            f" on {own[0]}x{own[1]}; {ADVICE}"
        )


def step_of(net: Network) -> int:
    """Return what the sides of an image must be multiples of, in pixels, so that patches and stages divide them."""
    backbone = net.backbone if isinstance(net, DenseNet) else net
    stages = len(getattr(backbone, "stages", (None,)))
    return net.patch_size * 2 ** (stages - 1)


def least_of(net: Network) -> int:
    """Return how many steps the sides of an image have at least, so that the coarsest map of a head is LEAST cells wide."""
    coarsest = max(level.stride for level in net.neck.levels) if isinstance(net, DenseNet) else 0
    return max(LEAST, (LEAST - 1) * coarsest // step_of(net) + 1)


def other_size(net: Network, size: Size) -> Size:
    """Return another image size to compare at; one of the two is no square."""
    step = step_of(net)
    return size[0] + step, size[1] + 2 * step
