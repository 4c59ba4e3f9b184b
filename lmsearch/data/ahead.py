"""Reading ahead with threads: decoding images leaves Python's lock alone, so the network computes meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # pieces that are read while one is worked on


def pieces_read(items: Sequence[T], read: Callable[[T], R], *, size: int, threads: int = 0) -> Iterator[list[tuple[T, R]]]:
    """Yield `size` items at a time with what `read` makes of each, in their order; `threads` read the next ones meanwhile.

    An error of `read` is raised where its piece would come.
    """
    pieces = [items[start : start + size] for start in range(0, len(items), size)]
    if not threads:
        for piece in pieces:
            yield [(item, read(item)) for item in piece]
        return
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Sequence[T], list[Future[R]]]] = deque()
    try:
        for piece in pieces:
            waiting.append((piece, [pool.submit(read, item) for item in piece]))
            if len(waiting) > AHEAD:
                yield results(waiting.popleft())
        while waiting:
            yield results(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)  # where the caller stops early


def results(piece: tuple[Sequence[T], list[Future[R]]]) -> list[tuple[T, R]]:
    """Return the items of a piece with what was made of them, once that is there."""
    items, futures = piece
    return [(item, future.result()) for item, future in zip(items, futures, strict=True)]
