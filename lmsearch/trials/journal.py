"""The file of the trials, one record a line. What a full disk or a kill left of a record never meets the next one."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from lmsearch.errors import StorageError
from lmsearch.files import write_all

log = logging.getLogger(__name__)
LOCK_S = 60  # a lock that was held this long is taken from its holder
TAIL = 1 << 20  # bytes at the end of a journal in which its last line is looked for


class JournalFile(JournalFileBackend):
    """Optuna's journal file, whose last line is cut off before every record where it is half of one, or none.

    Optuna passes over a last line that it cannot read, and appends to it: the study is then lost for all.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal at `path`, creating it where it is new."""
        self.path = path
        super().__init__(str(path), lock_obj=lock_of(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records as whole lines, or none of them: raises StorageError where the disk does not take them."""
        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with locked(self.path), self.path.open("r+b", buffering=0) as file:
            end = cut_last_line(file)
            try:
                write_all(file, lines)
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(end)
                raise StorageError(f"storage={str(self.path)!r} cannot be written ({error.strerror})") from error


def check_journal(path: Path) -> None:
    """Raise ValueError where a file that exists does not begin as a journal does."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        if "op_code" not in json.loads(file.readline()):
            raise ValueError("not a journal")


def mend_journal(path: Path) -> None:
    """Cut a last line that is no record off a journal that exists."""
    if not path.exists():
        return
    with path.open("rb", buffering=0) as file:
        whole = ends_whole(file)
    if not whole:
        with locked(path), path.open("r+b", buffering=0) as file:  # nobody is writing now
            cut_last_line(file)


def ends_whole(file: FileIO) -> bool:
    """Tell whether a file is empty or ends with a whole record; of a longer line than TAIL, with its end."""
    return _good_part(file) == file.seek(0, os.SEEK_END)


def cut_last_line(file: FileIO) -> int:
    """Cut a last line that is no record off a file, go to its end and return where that is; nobody else may be writing."""
    if (good := _good_part(file)) != file.seek(0, os.SEEK_END):
        file.truncate(good)
    return file.seek(0, os.SEEK_END)


def _good_part(file: FileIO) -> int:
    """Return how many bytes of a file are left without a last line that is not finished, or no JSON."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - TAIL)
    file.seek(start)
    tail = file.readall()
    begin = tail.rfind(b"\n", 0, -1) + 1
    if not tail or (start and not begin):
        return size
    last = tail[begin:]
    try:
        json.loads(last)
        whole = last.endswith(b"\n")
    except ValueError:
        whole = False
    return size if whole else size - len(last)


def lock_of(path: Path) -> JournalFileSymlinkLock:
    """Return the lock of a file, which works over a network file system too; a dead holder is passed over after a minute."""
    return JournalFileSymlinkLock(str(path.resolve()), grace_period=LOCK_S)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; one that stays so long that the lock was taken away leaves it."""
    lock = lock_of(path)
    lock.acquire()
    mine = _holder(lock)
    try:
        yield
    finally:
        if _holder(lock) == mine:
            lock.release()
        else:
            log.warning("%s was locked for over %d s: another process has taken the lock", path, LOCK_S)


def _holder(lock: JournalFileSymlinkLock) -> tuple[int, int] | None:
    """Return what tells who holds a lock, a link beside its file, from a later holder, or None where nobody does."""
    try:
        link = os.lstat(lock._lock_file)
    except FileNotFoundError:
        return None
    return link.st_ino, link.st_mtime_ns
