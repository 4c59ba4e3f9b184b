"""Values that hold inside a block, for whatever runs in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
SHARING: ContextVar[int] = ContextVar("processes that work on this machine like this one, which is one of them", default=1)
CARDS: ContextVar[int] = ContextVar("groups of GPUs over which those processes are spread", default=1)
FREE: ContextVar[int | None] = ContextVar("bytes of memory that were free here before those were started", default=None)
QUIET: ContextVar[bool] = ContextVar("whether only the result is told, without progress", default=False)
VERBOSE: ContextVar[bool] = ContextVar("whether progress is shown often, and errors with their tracebacks", default=False)
DRAWING: ContextVar[bool] = ContextVar("whether figures of a run are drawn", default=True)
LEAVING_PAGES: ContextVar[bool] = ContextVar("whether a run that ends leaves its page", default=True)


def in_full() -> bool:
    """Tell whether more than the result of a task is printed; quiet=true leaves its one line."""
    return not QUIET.get()


def tell(line: str) -> None:
    """Print a line beside the result, unless the run is quiet."""
    if in_full():
        print(line, flush=True)


@contextmanager
def setting(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Give a variable a value inside the block, and the one of before after it."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
