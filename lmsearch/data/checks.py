"""Checks of option values: each raises DataError with the option, the value and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real

from lmsearch.errors import DataError, SourceError, did_you_mean
from lmsearch.plain import plain_numbers

LEAST_STD = 1e-6  # that a channel may be divided by


@contextmanager
def opening() -> Iterator[None]:
    """Raise SourceError for the DataError of a block that opens data, with the data's own options alone."""
    try:
        yield
    except SourceError:
        raise
    except DataError as error:
        raise SourceError(str(error)) from error


def whole(name: str, value: object, *, least: int = 0) -> int:
    """Return `value` as an int >= `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise DataError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return int(value)


def number(name: str, value: object, *, least: float = -math.inf, most: float = math.inf) -> float:
    """Return `value` as a finite float in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or not least <= float(value) <= most:
        raise DataError(f"{name} is {value!r}; expected a number in [{least:g}, {most:g}]")
    return float(value)


def numbers(name: str, value: object, *, count: int, least: float = -math.inf, most: float = math.inf) -> tuple[float, ...]:
    """Return `value` as `count` floats, each in [least, most]; one number stands for all."""
    value = plain_numbers(value)
    values = [value] * count if isinstance(value, Real) else value
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != count:
        raise DataError(f"{name} is {value!r}; expected {count} number(s)")
    return tuple(number(name, v, least=least, most=most) for v in values)


def shares(name: str, value: object, *, count: int, least: float = 0.0) -> tuple[float, ...]:
    """Return the mean or deviation of `count` channels of images scaled to [0, 1], each in [least, 1]; one stands for all."""
    found = numbers(name, value, count=count)
    if wrong := [share for share in found if not least <= share <= 1]:
        hint = " (divide by 255)" if max(wrong) > 1 else ""
        raise DataError(f"{name} is {wrong[0]:g}; expected values of {least:g} to 1, of images scaled to [0, 1]{hint}")
    return found


def interval(name: str, value: object, *, least: float, most: float = math.inf) -> tuple[float, float]:
    """Return `value` as (low, high) with least <= low <= high <= most."""
    low, high = numbers(name, value, count=2, least=least, most=most)
    if low > high:
        raise DataError(f"{name} is {value!r}; expected the lower bound first")
    return low, high


def size2d(name: str, value: object) -> tuple[int, int]:
    """Return `value`, one side or (height, width), as (height, width)."""
    value = plain_numbers(value)
    sides = (value, value) if isinstance(value, Integral) else value
    if isinstance(sides, str) or not isinstance(sides, Sequence) or len(sides) != 2:
        raise DataError(f"{name} is {value!r}; expected one side or [height, width]")
    height, width = (whole(name, side, least=1) for side in sides)
    return height, width


def choice(name: str, value: object, accepted: Sequence[str]) -> str:
    """Return `value` if it is one of `accepted`."""
    if value not in accepted:
        raise DataError(f"{name} is {value!r}, which is not known{did_you_mean(str(value), accepted)}")
    return str(value)
