"""The folder of a run. All that writes into one does it here: whole files, of the main process alone; every process reads.

What ended a run any process writes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lmsearch.context import DRAWING
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.lock import holding
from lmsearch.engine.torch_file import save_torch
from lmsearch.files import (
    append_line,
    keep_copy,
    make_folder,
    open_to_append,
    remove,
    remove_leftovers,
    write_bytes,
    write_csv,
    write_figure,
    write_image,
    write_json,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch.utils.tensorboard import SummaryWriter

FAILURE = "error.txt"  # the traceback of what ended a run
TRIAL = "trial.json"  # what a sweep says of the trial that ran there


def failure_line(text: str) -> str:
    """Return the line of a traceback that names the error, "" for an empty text."""
    lines = text.strip().splitlines()
    last = max((number for number, line in enumerate(lines) if line.startswith(("  ", "Traceback"))), default=-1)
    return next(iter(lines[last + 1 :] or lines[-1:]), "")


@dataclass(frozen=True)
class RunDir:
    """The folder at `path`, into which the main process of `world` writes; in the others, what writes does nothing.

    `run_dir / name` is the path of a file in it, to read. What is written is whole or not there, as lmsearch.files has it;
    methods that write raise FileError where they cannot.
    """

    path: Path
    world: World = SINGLE

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __str__(self) -> str:
        return str(self.path)

    def inside(self, name: str) -> RunDir:
        """Return a folder inside, which may not be there yet."""
        return RunDir(self.path / name, self.world)

    def make(self, *, key: str = "run_dir") -> None:
        """Create the folder; raise FolderError, naming the configuration key, where it cannot be written."""
        if self.world.main:
            make_folder(self.path, key=key)

    @contextmanager
    def locked(self, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
        """Hold the folder's lock while the block runs; see engine.lock.holding. Raises InUseError."""
        if not self.world.main:
            yield
            return
        with holding(self.path, shared=shared, wait=wait):
            yield

    @contextmanager
    def owned(self, *, key: str = "run_dir") -> Iterator[None]:
        """Create the folder and let nobody else write into it while the block runs; raise InUseError where another does."""
        self.make(key=key)
        with self.locked():
            if self.world.main:
                remove_leftovers(self.path)
            yield

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file; text as UTF-8, its line ends as they are."""
        if self.world.main:
            write_bytes(self / name, content.encode() if isinstance(content, str) else content)

    def write_failure(self, text: str) -> None:
        """Write what ended this process, the main one or another: who fails knows best why."""
        write_bytes(self / FAILURE, text.encode())

    def write_json(self, name: str, values: object) -> None:
        """Write plain values as sorted, indented JSON, in which numbers that are not finite are null."""
        if self.world.main:
            write_json(self / name, values)

    def write_csv(self, name: str, rows: Iterable[Sequence[object]]) -> None:
        """Write rows of comma-separated values."""
        if self.world.main:
            write_csv(self / name, rows)

    def write_figure(self, name: str, draw: Callable[[], Figure]) -> None:
        """Draw a figure and write it in the format that the name's ending tells."""
        if self.world.main and DRAWING.get():
            write_figure(self / name, draw())

    def write_image(self, name: str, image: Image) -> None:
        """Write a picture in the format that the name's ending tells."""
        if self.world.main:
            write_image(self / name, image)

    def write_torch(self, name: str, content: dict[str, Any]) -> None:
        """Write tensors and plain values in PyTorch's format."""
        if self.world.main:
            save_torch(self / name, content)

    def keep_copy(self, name: str, copy: str) -> None:
        """Let a file be there under a second name as well, which then stays as it is when the first is written anew."""
        if self.world.main:
            keep_copy(self / name, self / copy)

    def append_line(self, name: str, line: str) -> None:
        """Append one line to a file, creating it where it is new."""
        if self.world.main:
            with open_to_append(self / name) as file:
                append_line(file, line)

    def output(self, name: str) -> TextIO:
        """Open a file for what a task or a process prints, which goes on at its end; of other processes it goes nowhere."""
        return open(self / name if self.world.main else os.devnull, "a", encoding="utf-8")

    def events(self, name: str, *, purge_step: int) -> SummaryWriter | None:
        """Open a folder of TensorBoard events, which forget what was at `purge_step` and later; None but in the main process."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and needed by training runs only

        return SummaryWriter(self / name, purge_step=purge_step) if self.world.main else None

    def remove(self, name: str) -> None:
        """Delete a file if there is one; raise FileError where it cannot be deleted, as a folder of its name."""
        if self.world.main:
            remove(self / name)

    def remove_if_empty(self) -> bool:
        """Delete the folder if nothing is in it, and tell whether it is gone."""
        if self.world.main:
            with suppress(OSError):  # something is in it, or came just now
                self.path.rmdir()
        return not self.path.exists()

    def clear(self) -> None:
        """Delete the folder with all that is in it, as far as that goes."""
        if self.world.main:
            shutil.rmtree(self.path, ignore_errors=True)
