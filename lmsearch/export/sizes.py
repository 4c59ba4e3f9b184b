"""Which axes of the images stay open in an exported file, and which networks take images of any size."""

from __future__ import annotations

import math
from typing import Any

import torch

from lmsearch.data import DataInfo
from lmsearch.errors import ExportError
from lmsearch.export.certificate import Size
from lmsearch.models.backbone import Network
from lmsearch.models.dense import DenseNet
from lmsearch.models.local_vmamba import LocalVMamba
from lmsearch.scan.directions import parse_direction

LEAST = 2  # steps of the side of an image: PyTorch takes an axis of one for fixed
ADVICE = "export with dynamic=batch"


def axes_of(net: Network, *, sizes: bool) -> dict[int, Any]:
    """Return the open axes of images (B, C, h, w) as torch.export takes them."""
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if sizes:
        step = step_of(net)
        axes |= {2: step * torch.export.Dim("rows", min=LEAST), 3: step * torch.export.Dim("columns", min=LEAST)}
    return axes


def check_sizes(net: Network, info: DataInfo) -> None:
    """Raise ExportError, with the reason, for a network whose graph is that of one image size."""
    backbone = net.backbone if isinstance(net, DenseNet) else net
    if not isinstance(backbone, LocalVMamba):
        raise ExportError(f"dynamic=size: a {type(backbone).__name__} has positions of one grid of tokens; {ADVICE}")
    if isinstance(net, DenseNet) and net.kind.extra:
        raise ExportError(f"dynamic=size: head={net.kind.name} pools to sizes that depend on the image's; {ADVICE}")
    for mixer in net.mixers():
        for name in mixer.directions:
            if not (scan := parse_direction(name)).arithmetic:
                raise ExportError(f"dynamic=size: the order {scan.label} has no formula for any size; {ADVICE}")
    step, own = step_of(net), info.img_size
    if any(side % step or side < LEAST * step for side in own):
        raise ExportError(
            f"dynamic=size: the network takes sides that are multiples of {step} pixels, from {LEAST * step} on, and was trained"
            f" on {own[0]}x{own[1]}; {ADVICE}"
        )


def step_of(net: Network) -> int:
    """Return what the sides of an image must be multiples of, in pixels, so that nothing is ever padded or cut off."""
    backbone = net.backbone if isinstance(net, DenseNet) else net
    stages = len(getattr(backbone, "stages", (None,)))
    windows = [
        side
        for mixer in net.mixers()
        if mixer.options.window_padding == "zeros"
        for name in mixer.directions
        for side in parse_direction(name).window or ()
    ]
    return net.patch_size * 2 ** (stages - 1) * math.lcm(*windows)


def other_size(net: Network, size: Size) -> Size:
    """Return another image size to compare at, no square."""
    step = step_of(net)
    return size[0] + step, size[1] + 2 * step
