"""Waiting for a database of trials that does not answer, such as one that is being started again; not for one of no use."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from optuna.exceptions import StorageInternalError

from lmsearch.errors import StorageAwayError, StudyDeletedError
from lmsearch.interrupts import stop_asked

T = TypeVar("T")
PATIENCE_S = 300.0  # for which a database is called again
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0  # before the next call; each pause is twice as long as the one before
NO_RECORD = "Record does not exist."  # what Optuna says of a study that was deleted
LOOK_S = 0.5  # between two looks, in a pause, for a signal that has come
OF_NO_USE = ("readonly database", "disk is full", "unable to open database file")  # SQLite's words: waiting does not help
log = logging.getLogger(__name__)


@contextmanager
def telling_deletion() -> Iterator[None]:
    """Raise StudyDeletedError where the study of the block was deleted meanwhile."""
    try:
        yield
    except KeyError as error:
        if error.args != (NO_RECORD,):
            raise
        raise StudyDeletedError("the study was deleted, as another command does with overwrite=true, so this one ends") from error


def patiently(call: Callable[[], T]) -> T:
    """Return what a call that reads or writes trials gives; while a database does not answer, call again for PATIENCE_S seconds.

    What others wait for, such as a lock, is not to be held meanwhile. Raises StorageAwayError where the database then still does
    not answer, or where a signal comes that is held back; at once where a file cannot be opened or written. Raises
    StudyDeletedError where the study was deleted.
    """
    until, pause_s = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
    while True:
        try:
            with telling_deletion():
                return call()
        except StorageInternalError as error:
            if any(words in reason_of(error) for words in OF_NO_USE):
                raise StorageAwayError(f"the database of trials cannot be used ({reason_of(error)})") from error
            if stop_asked():
                raise StorageAwayError(f"the database of trials does not answer ({reason_of(error)})") from error
            if time.monotonic() >= until:
                told = f"the database of trials did not answer for {PATIENCE_S:g} s ({reason_of(error)})"
                raise StorageAwayError(told) from error
            log.warning("the database of trials does not answer (%s); asking again in %g s", reason_of(error), pause_s)
        _pause(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _pause(seconds: float) -> None:
    """Wait, but not on when a signal comes that is held back."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stop_asked():
        time.sleep(min(left, LOOK_S))


def reason_of(error: Exception) -> str:
    """Return the line that says why a storage failed: where Optuna only says that it did, what caused that."""
    cause: BaseException = error.__cause__ or error
    return str(getattr(cause, "orig", None) or cause).strip().partition("\n")[0]
