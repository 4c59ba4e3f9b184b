"""Waiting for a database of trials that does not answer, such as one that is being started again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError

from lmsearch.errors import StorageError

T = TypeVar("T")
PATIENCE_S = 300.0  # for which a database is called again
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0  # before the next call; each pause is twice as long as the one before
log = logging.getLogger(__name__)


def patiently(call: Callable[[], T]) -> T:
    """Return what a call that reads or writes trials gives; while a database does not answer, call again for PATIENCE_S seconds.

    Raises StorageError where it then still does not.
    """
    until, pause_s = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
    while True:
        try:
            return call()
        except StorageInternalError as error:
            if time.monotonic() >= until:
                raise StorageError(f"the database of trials did not answer for {PATIENCE_S:g} s ({reason_of(error)})") from error
            log.warning("the database of trials does not answer (%s); asking again in %g s", reason_of(error), pause_s)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def reason_of(error: Exception) -> str:
    """Return the line that says why a storage failed: where Optuna only says that it did, what caused that."""
    cause: BaseException = error.__cause__ or error
    return str(getattr(cause, "orig", None) or cause).strip().partition("\n")[0]
