"""The records of a study: a gzip file of JSON lines that grows by a compressed part per record.

Whatever ends a process while it writes, the parts before stay readable; `pack` makes one part of all, which is a tenth in size.
Processes that add to the same file wait for each other.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lmsearch.files import write_bytes

Record = dict[str, Any]
GZIP = 16 + zlib.MAX_WBITS  # zlib's word for: with a header of gzip


def read_records(path: Path) -> list[Record]:
    """Return the records of a file, none where there is no file; a part that was cut off counts as not there."""
    return [json.loads(line) for line in _whole_parts(path)[0].splitlines()]


def append_record(path: Path, record: Record) -> None:
    """Add one record; what a killed process left of its last part goes first."""
    with _alone(path) as file:
        file.truncate(_whole_parts(path)[1])
        file.write(gzip.compress(_line(record), mtime=0))


def pack_records(path: Path) -> None:
    """Write the file anew as one part. The same records always give the same bytes."""
    with _alone(path):
        write_bytes(path, gzip.compress(b"".join(map(_line, read_records(path))), mtime=0))


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """Yield the file, open to be added to, while no other process adds to it or packs it."""
    while True:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # else it was packed meanwhile: another file
                yield file
                return


def _line(record: Record) -> bytes:
    return json.dumps(record, sort_keys=True).encode() + b"\n"


def _whole_parts(path: Path) -> tuple[bytes, int]:
    """Return what the whole parts of a file hold, and their length in the file."""
    left = path.read_bytes() if path.exists() else b""
    size, text = len(left), b""
    while left:
        part = zlib.decompressobj(GZIP)
        inside = part.decompress(left)
        if not part.eof:
            break
        text, left = text + inside, part.unused_data
    return text, size - len(left)
