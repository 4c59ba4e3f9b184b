"""TensorBoard's events: the thread that writes them hands its errors on, so they need not be told a second time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_told_once() -> Iterator[None]:
    """Inside the block print no traceback of TensorBoard's writing thread: its next event, or its end, raises the same error."""
    before = threading.excepthook

    def tell(args: threading.ExceptHookArgs) -> None:
        if args.thread is None or not type(args.thread).__module__.startswith("tensorboard."):
            before(args)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = before
