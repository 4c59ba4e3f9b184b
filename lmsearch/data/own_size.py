"""An image at its own size, at which answers are measured whatever the size of the network's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmsearch.data.view import View


@dataclass(frozen=True, eq=False)
class OwnSize:
    """How the input shows an image, and its labels at its own size: a class map (H, W) uint8, or its objects as a Truth."""

    view: View
    truth: Any
