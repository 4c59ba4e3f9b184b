"""Result files are written whole or not at all: into a temporary file beside them, flushed to the disk, then renamed.

Whatever happens while one is written (a full disk, a kill, a power cut), a reader sees the file of before or the new one.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lmsearch.errors import FileError, FolderError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # what a process that was killed while it wrote has left
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # whatever writes: TensorBoard and Optuna do so by themselves
NO_USE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EIO, errno.ENAMETOOLONG)
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)  # of file systems that cannot flush a folder


class _Watched(io.RawIOBase):
    """A file to write that remembers why a write failed, whatever the caller makes of the failure."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write all bytes."""
        try:
            return write_all(self.file, data)
        except OSError as error:
            self.failure = self.failure or error
            raise


@contextmanager
def replacing(path: str | Path, *, size: int | None = None) -> Iterator[_Watched]:
    """Give a binary file to write, which takes the place of `path` when the block ends without an exception.

    `size` is how many bytes will be written, if known, for the message. Raises FileError where they cannot be written; `path`
    is then as it was. What is no regular file, such as /dev/stdout, is written to directly.
    """
    path = Path(os.path.realpath(path))
    special = path.exists() and not path.is_file()
    target = path if special else path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    watched: _Watched | None = None
    try:
        with target.open("wb", buffering=0) as file:
            yield (watched := _Watched(file))
            if not special:
                os.fsync(file.fileno())
        if not special:
            os.replace(target, path)
            _sync_folder(path.parent)
    except BaseException as error:
        failure = error if watched is None or watched.failure is None else watched.failure
        message = None if not isinstance(failure, OSError) else cannot_write(path, failure, size=size)
        if not special:
            target.unlink(missing_ok=True)
        if message is not None:
            raise FileError(message) from failure
        raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, whole or not at all; raise FileError where it cannot be written."""
    with replacing(path, size=len(content)) as file:
        file.write(content)


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all, its line ends as they are; raise FileError where it cannot be written."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, values: object) -> None:
    """Write plain values as sorted, indented JSON, in which numbers that are not finite are null, whole or not at all."""
    write_text(path, json.dumps(finite(values), indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path: str | Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows of comma-separated values, whole or not at all."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    write_text(path, text.getvalue())


def write_figure(path: str | Path, figure: Figure, *, dpi: int = 120) -> None:
    """Write a figure in the format that the path's ending names, whole or not at all."""
    write_bytes(path, figure_bytes(figure, Path(path).suffix.removeprefix("."), dpi=dpi))


def figure_bytes(figure: Figure, ending: str, *, dpi: int = 120, salt: str = "") -> bytes:
    """Return a figure in the format that a file's ending names: equal bytes for equal figures.

    In SVG text stays text, and every id begins with `salt`: figures of one page need one each.
    """
    buffer = io.BytesIO()
    if ending == "png":  # savefig would draw everything twice
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        figure.set_dpi(dpi)
        FigureCanvasAgg(figure).print_png(buffer)
    elif ending == "svg":
        from matplotlib import rc_context

        with rc_context({"svg.hashsalt": "lmsearch", "svg.fonttype": "none"}):  # else ids are random
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        if salt:
            return re.sub(rb'( id="|href="#|url\(#)', rb"\1" + salt.encode() + b"-", buffer.getvalue())
    else:
        figure.savefig(buffer, format=ending, dpi=dpi)
    return buffer.getvalue()


def write_image(path: str | Path, image: Image) -> None:
    """Write an image in the format that the path's ending names, whole or not at all."""
    buffer = io.BytesIO()
    image.save(buffer, format=Path(path).suffix.removeprefix("."))
    write_bytes(path, buffer.getvalue())


def append_line(file: BinaryIO, line: str) -> None:
    """Append one line to a file that was opened without a buffer, and see that it is on the disk.

    Raises FileError where it cannot be written.
    """
    data = line.encode() + b"\n"
    try:
        write_all(file, data)
        os.fsync(file.fileno())
    except OSError as error:
        raise FileError(cannot_write(Path(file.name), error, size=len(data))) from error


def write_all(file: BinaryIO, data: bytes | memoryview) -> int:
    """Write all bytes to a file without a buffer, which may take fewer at a time, and return how many there are."""
    left = memoryview(data).cast("B")
    total = len(left)
    while len(left):
        left = left[file.write(left) :]
    return total


def open_to_append(path: Path) -> FileIO:
    """Open a file for `append_line`, creating it where it is new; raise FileError where it cannot be written."""
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise FileError(cannot_write(path, error)) from error


def make_folder(path: Path, *, key: str = "run_dir") -> None:
    """Create a folder and its parents; raise FolderError, naming the configuration key, where it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".writable").touch()
        (path / ".writable").unlink(missing_ok=True)  # two processes may try at once
    except OSError as error:
        raise FolderError(f"{key}={str(path)!r} cannot be written ({error.strerror})") from error


def keep_copy(path: Path, copy: Path) -> None:
    """Give a file a second name, without writing it again where the file system can; raise FileError where that fails."""
    remove(copy)
    try:
        os.link(path, copy)
    except OSError:  # no hard links there
        write_bytes(copy, path.read_bytes())


def remove(path: Path) -> None:
    """Delete a file if there is one; raise FileError where it cannot be deleted, as a folder of its name."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        why = "it is a folder" if path.is_dir() else error.strerror
        raise FileError(f"{path} cannot be deleted ({why}); move it away") from error


def finite(value: Any) -> Any:
    """Return plain values with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: finite(inside) for name, inside in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inside) for inside in value]
    if isinstance(value, StrEnum):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cannot_write(path: Path, error: OSError, *, size: int | None = None) -> str:
    """Return the line that says which file could not be written, why, how large it is and how much is free."""
    return f"{path} cannot be written ({error.strerror or error}){_room(path.parent, size)}"


def told_of(error: OSError) -> str | None:
    """Return the line for a file that cannot be written or used; None for an error that may be another."""
    if error.errno in NO_ROOM:
        return f"{error.filename or 'a file'} cannot be written ({error.strerror})"
    if error.errno in NO_USE and error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror})"
    return None


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of processes that were killed while they wrote into a folder; nobody may be writing there."""
    for path in folder.iterdir():
        if LEFTOVER.fullmatch(path.name):
            remove(path)


def _room(folder: Path, size: int | None) -> str:
    """Return how much was to be written and how much is free."""
    parts = [] if size is None else [f"{_amount(size)} to write"]
    if folder.is_dir():
        parts.append(f"{_amount(shutil.disk_usage(folder).free)} free")
    return f": {', '.join(parts)}" if parts else ""


def _amount(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"


def _sync_folder(folder: Path) -> None:
    """See that a rename is on the disk, where the file system can tell."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
