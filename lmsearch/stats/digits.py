"""Numbers as text that stand where they were found to be: 2.97 beside a limit of 3 is not printed as 3.0."""

from __future__ import annotations

import math

from lmsearch.stats.ranking import FEWEST_RANKED, LEVEL
from lmsearch.stats.rounding import PLACES

SMALLEST_P = 0.001  # what lies below it is told as that


def beside(value: float, limit: float, digits: int = 1, kind: str = "f", *, sign: str = "") -> str:
    """Return a value with so many digits, or as many more as put it on its side of the limit; f"{value:.{digits}{kind}}" else.

    A value that is not finite, or equals the limit but for its last bits, has `digits` of them. `sign` is "+" or "".
    """
    plain = f"{value:{sign}.{digits}{kind}}"
    if not math.isfinite(value) or round(value - limit, PLACES) == 0:
        return plain
    for more in range(digits, PLACES + 1):
        text = f"{value:{sign}.{more}{kind}}"
        if (read(text) > limit) is (value > limit) and read(text) != limit:
            return text
    return plain


def apart(first: float, second: float, digits: int = 4) -> tuple[str, str]:
    """Return two values with so many digits, or as many more as tell them apart."""
    known = math.isfinite(first) and math.isfinite(second) and round(first - second, PLACES) != 0
    more = next((d for d in range(digits, PLACES + 1) if not known or f"{first:.{d}f}" != f"{second:.{d}f}"), digits)
    return f"{first:.{more}f}", f"{second:.{more}f}"


def span(mean: float, low: float, high: float, digits: int = 4) -> str:
    """Return a difference with its interval, with so many digits, or as many more as show on which side of zero its ends lie."""
    ends = [beside(end, 0.0, digits, sign="+") for end in (low, high) if math.isfinite(end)]
    most = max([digits, *(len(text.partition(".")[2]) for text in ends)])
    return f"{mean:+.{most}f} [{low:+.{most}f}, {high:+.{most}f}]"


def probability(p: float, *, level: float = LEVEL) -> str:
    """Return a p-value as text: "0.043", "0.0496" beside a level of 0.05, "< 0.001"."""
    return f"< {SMALLEST_P:g}" if p < SMALLEST_P else beside(p, level, 3)


def p_value(p: float, *, level: float = LEVEL) -> str:
    """Return "p = 0.043", or "p < 0.001"."""
    told = probability(p, level=level)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


def correlation(mean: float | None, low: float | None, high: float | None, *, number: int) -> str:
    """Return a rank correlation over a number of architectures with its interval; None is what there is not, and it says why."""
    if mean is None:
        return "no order at all"
    if low is None or high is None:
        return f"{mean:+.2f} (no interval: {number} architectures, {FEWEST_RANKED} are needed)"
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def blind_below(study: str, deviations: float) -> str:
    """Say below which differences a study misses more than `ranking.SEEN` allows; `ranking.smallest_seen` tells them."""
    return f"{study} misses differences below about {deviations:.1f} seed deviations in more than one case of five"


def read(text: str) -> float:
    """Return the number that a text tells."""
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
