"""An image at its own size, at which answers are measured whatever the size of the network's input.

Shapes: H W image, h w input, n objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

AT_A_TIME = 16  # classes


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


def classes_back(view: WayBack, logits: Tensor) -> Tensor:
    """Return the class with the largest of the logits (C, h, w), scaled back to the image, of its every pixel (H, W).

    Few classes are scaled at a time: those of a large image would take much memory together.
    """
    best, answer = view.maps_back(logits[:AT_A_TIME]).max(0)
    for start in range(AT_A_TIME, len(logits), AT_A_TIME):
        values, places = view.maps_back(logits[start : start + AT_A_TIME]).max(0)
        answer = torch.where(values > best, places + start, answer)
        best = torch.maximum(best, values)
    return answer
