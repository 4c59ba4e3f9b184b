"""Predictions as files: CSV, JSON lines and JSON lists that grow with every batch, or one JSON file at the end."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lmsearch.errors import FileError
from lmsearch.files import cannot_write, write_all, write_text

ENDINGS = (".csv", ".jsonl", ".json")


@dataclass(frozen=True)
class Prediction:
    """One image: its most probable classes, the best first, or why it could not be read."""

    path: Path
    classes: tuple[tuple[str, float], ...] = ()
    error: str = ""


Write = Callable[[Sequence[Prediction]], None]


@contextmanager
def open_predictions(path: Path, *, top: int) -> Iterator[Write]:
    """Give a function that takes the predictions of a batch; rows of CSV and JSON lines are in the file when it returns.

    The columns are path, class, probability, class2, probability2, ... up to `top`, error. JSON maps paths to classes with
    probabilities, or to an error. File names that are no text (surrogates) keep their bytes. Raises FileError.
    """
    if path.suffix == ".json":
        found: dict[str, dict] = {}
        yield lambda batch: found.update({str(p.path): {"error": p.error} if p.error else dict(p.classes) for p in batch})
        write_text(path, json.dumps(found, indent=1) + "\n")
        return
    columns = columns_of(top)
    with _opened(path) as file:
        if path.suffix == ".csv":
            _append(file, path, ",".join(columns) + "\r\n")
        to_text = _csv_rows if path.suffix == ".csv" else _json_lines
        yield lambda batch: _append(file, path, to_text([record(p) for p in batch], columns))


class JsonList:
    """A JSON list that grows entry by entry, in <path>.part until it is closed: what came before an interruption is kept."""

    def __init__(self, path: Path) -> None:
        self.path, self.part = path, path.with_name(f"{path.name}.part")
        self.file, self.size = _opened(self.part), 0

    def add(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Append entries, all or none; raise FileError where they cannot be written, and then the list is as it was."""
        if entries:
            texts = ",\n".join(json.dumps(entry, sort_keys=True) for entry in entries)
            self._grow(f"{',' if self.size else '['}\n{texts}".encode())

    def close(self) -> None:
        """End the list, which takes its place; raise FileError where that cannot be written."""
        self._grow(b"\n]\n" if self.size else b"[]\n")
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.part, self.path)

    def _grow(self, data: bytes) -> None:
        try:
            write_all(self.file, data)
        except OSError as error:
            self.file.truncate(self.size)
            self.file.seek(self.size)
            raise FileError(cannot_write(self.part, error, size=len(data))) from error
        self.size += len(data)


def _opened(path: Path) -> BinaryIO:
    """Open a file to write, without a buffer, so that a batch is there whole or not."""
    try:
        return path.open("wb", buffering=0)
    except OSError as error:
        raise FileError(cannot_write(path, error)) from error


def _append(file: BinaryIO, path: Path, text: str) -> None:
    data = text.encode(errors="surrogateescape")
    try:
        write_all(file, data)
    except OSError as error:
        if path.is_file() and not path.stat().st_size:
            path.unlink()  # an empty file would only be in the way of the next try
        raise FileError(cannot_write(path, error, size=len(data))) from error


def columns_of(top: int) -> list[str]:
    """Return the names of the columns: those of the best class without a number."""
    numbers = ["", *(str(rank) for rank in range(2, top + 1))]
    return ["path", *(name + number for number in numbers for name in ("class", "probability")), "error"]


def record(prediction: Prediction) -> dict[str, str | float]:
    """Return what is known of an image under the names of the columns."""
    values: dict[str, str | float] = {"path": str(prediction.path)}
    for rank, (name, probability) in enumerate(prediction.classes, start=1):
        number = "" if rank == 1 else str(rank)
        values |= {f"class{number}": name, f"probability{number}": probability}
    return values | ({"error": prediction.error} if prediction.error else {})


def _csv_rows(records: list[dict], columns: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns).writerows(records)
    return text.getvalue()


def _json_lines(records: list[dict], columns: list[str]) -> str:
    return "".join(json.dumps({name: values.get(name) for name in columns}) + "\n" for values in records)
