"""Differences of measured numbers without the last bits of binary fractions: 0.1 + 0.2 - 0.3 is zero, and ties are ties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DIGITS = 9  # of the largest value that count
PLACES = 12  # after the point that count at most: less is no difference between accuracies


def settled(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return values rounded to the digits that count, so that they can be asked whether they are zero or equal."""
    array = np.asarray(values, dtype=float)
    known = np.abs(array[np.isfinite(array)])
    largest = known.max(initial=0.0)
    places = PLACES if largest == 0 else min(PLACES, DIGITS - int(np.floor(np.log10(largest))))
    return np.round(array, places) + 0.0  # no minus zero
