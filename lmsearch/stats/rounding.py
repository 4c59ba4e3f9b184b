"""Ties that rounding broke are ties again: 0.1 + 0.2 - 0.3 is zero, and so is what differs by less than a file's digits hold."""

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


def tied(values: Sequence[float] | np.ndarray, step: float) -> np.ndarray:
    """Return means (n,) of scores that were rounded to multiples of `step`: what rounding alone may have parted is equal again.

    Of the sorted values those that are at most `step` from the one before get its value.
    """
    array = np.asarray(values, dtype=float)
    order = np.argsort(array, kind="stable")
    ordered = array[order]
    near = ordered[1:] <= ordered[:-1] + step * (1 + 1e-6)  # the last bits of a difference of `step` do not count
    begins = np.concatenate([[0], 1 + np.flatnonzero(~near)])
    made = np.empty_like(array)
    made[order] = np.repeat(ordered[begins], np.diff(begins, append=len(array)))
    return made
