"""One process at a time writes into a run folder. The operating system holds the lock, and lets it go when its owner dies."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmsearch.errors import FileError, InUseError
from lmsearch.files import cannot_write

log = logging.getLogger(__name__)
LOCK = ".lock"  # in the folder; who holds it is written inside
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # of file systems that cannot lock
TRIES = 3  # at a lock that another process has
_OPEN: set[int] = set()  # lock files of this process; global, since a forked child must find them


def _let_go() -> None:
    """Close the lock files that a forked child has inherited: a loader's worker must not outlive its run as the owner."""
    for handle in _OPEN:
        os.close(handle)
    _OPEN.clear()


os.register_at_fork(after_in_child=_let_go)  # children that are spawned inherit no file


@contextmanager
def holding(folder: Path, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder while the block runs. Several may hold it `shared`, then nobody holds it alone.

    Raises InUseError where another process has it, unless it is to `wait` for that. Where the file system has no locks, a
    warning is logged and the block runs.
    """
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise FileError(cannot_write(folder / LOCK, error)) from error
    _OPEN.add(handle)
    try:
        _acquire(handle, folder, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait=wait)
        try:
            _write(handle, f"{os.getpid()} {socket.gethostname()}\n")
            yield
        finally:
            if not shared and handle in _OPEN:
                _write(handle, "")
    finally:
        if handle in _OPEN:  # else this is a forked child, which holds nothing
            _OPEN.discard(handle)
            os.close(handle)


def owner_of(folder: Path) -> str | None:
    """Return who writes into a folder, as "process 12 on host", or None where nobody does or that cannot be told.

    Nothing is written.
    """
    try:
        handle = _opened(folder / LOCK)
    except OSError:  # no lock file, no folder, or one that only its owner may read
        return None
    try:
        _look(handle)
        return None
    except BlockingIOError:
        return _owner(handle)
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    """Open a lock file, to write into it where that is allowed: NFS lets no others have a lock alone."""
    try:
        return os.open(path, os.O_RDWR)
    except OSError:  # of another user, or not there, which is found again
        return os.open(path, os.O_RDONLY)


def _look(handle: int) -> None:
    """Take a lock for an instant; whoever comes just now tries again. Raises BlockingIOError where another process has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # NFS, to readers: those who share the lock are not seen


def _acquire(handle: int, folder: Path, how: int, *, wait: bool) -> None:
    """Take the lock of an open lock file; one who only looks (`owner_of`) has it for an instant."""
    try:
        for left in reversed(range(TRIES)):
            try:
                fcntl.flock(handle, how | (0 if wait else fcntl.LOCK_NB))
                return
            except BlockingIOError:
                if not left:
                    raise
                time.sleep(0.01)
    except BlockingIOError:
        raise InUseError(f"{folder} is in use by {_owner(handle)}") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks, so a second process that writes here would not be noticed", folder)


def _owner(handle: int) -> str:
    """Return who holds a lock; whoever has just taken it may not have written so yet."""
    for _ in range(20):
        pid, _, host = os.pread(handle, 1000, 0).decode(errors="replace").strip().partition(" ")
        if host:
            return f"process {pid} on {host}"
        time.sleep(0.01)
    return "another process"


def _write(handle: int, text: str) -> None:
    """Replace what a lock file holds; on a full disk it stays empty, and the lock holds all the same."""
    os.ftruncate(handle, 0)
    try:
        os.pwrite(handle, text.encode(), 0)
    except OSError as error:
        log.warning("the lock's owner cannot be written down (%s)", error.strerror)
