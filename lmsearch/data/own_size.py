"""An image at its own size, at which answers are measured whatever the size of the network's input.

Shapes: H W image, h w input, n objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class WayBack(Protocol):
    """From the input back to the image that it shows; lmsearch.data.view.View is one."""

    def boxes_back(self, boxes: Tensor) -> Tensor:
        """Return boxes (n, 4) of the input in pixels of the image."""

    def maps_back(self, maps: Tensor) -> Tensor:
        """Return maps (n, h, w) of numbers at the size of the image (n, H, W)."""


@dataclass(frozen=True, eq=False)
class OwnSize:
    """How the input shows an image, and its labels at its own size: a class map (H, W) uint8, or its objects as a Truth."""

    view: WayBack
    truth: Any
