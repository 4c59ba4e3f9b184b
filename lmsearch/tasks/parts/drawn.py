"""What `lmsearch show` can show of one thing: a figure, and the same as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmsearch.errors import ConfigError
from lmsearch.settings.looking import Show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Grid = tuple[int, int]
GRID = (14, 14)  # tokens, where no model says otherwise


@dataclass(frozen=True)
class Drawn:
    """Both ways to look at something; each is made when it is asked for."""

    figure: Callable[[], Figure]
    tell: Callable[[], None]


def lines(content: Sequence[str]) -> Callable[[], None]:
    """Return what prints these lines."""
    return lambda: print("\n".join(content))


def given(settings: Show, *names: str) -> str:
    """Return the first of these keys that is set; raise ConfigError where none is."""
    for name in names:
        value: Any = getattr(settings, name)
        if value is not None:
            return str(value)
    raise ConfigError(f"what={settings.what} needs {' or '.join(f'{name}=...' for name in names)}")


def pair(name: str, value: int | Sequence[int] | None, *, least: int) -> Grid | None:
    """Return (rows, columns) from a number or a pair; raise ConfigError for anything else."""
    if value is None:
        return None
    sides = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(sides) != 2 or not all(type(side) is int and side >= least for side in sides):
        raise ConfigError(f"{name}={value} is not a number from {least} on or a pair of them, such as 14 or [7,10]")
    return sides[0], sides[1]
