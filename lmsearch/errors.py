"""Errors that a user can cause: each message states the rule, the value, what is accepted and where it came from."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable

LONGEST = 1500  # characters of a message
QUOTED = 60  # characters of a quoted value
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # for a terminal


class LmsearchError(ValueError):
    """Base of every error that a user's input can cause; the command line prints it as one line.

    A message longer than LONGEST, which quotes long input, loses its middle.
    """

    exit_code = 2  # of the command line: bad input

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... ({len(text) - LONGEST:,} characters more) ... {text[-LONGEST // 2 :]}"
        super().__init__(text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without colours, or the name of its class where it has none."""
    return (COLOURS.sub("", str(error)).strip() or type(error).__name__).splitlines()[0]


class ConfigError(LmsearchError):
    """A configuration key or value that is not accepted."""


class OtherPresetsError(ConfigError):
    """A key that other presets have."""


class DirectionError(LmsearchError):
    """A name that is not a scan direction."""


class SearchSpaceError(LmsearchError):
    """A search space file that cannot be used."""


class GenotypeError(LmsearchError):
    """A genotype that cannot be read or does not fit the model."""


class ModelError(LmsearchError):
    """A model name or option that is not accepted."""


class NoAlphasError(ModelError, AttributeError):
    """What only a mixer of a supernet has was asked of another one: to Python, an attribute that is not there."""


class DataError(LmsearchError):
    """A dataset that is missing, empty or broken."""


class SourceError(DataError):
    """Data that cannot be opened or read, whatever is trained on them: a folder that is away, an image that is damaged."""


class CheckpointError(LmsearchError):
    """A checkpoint that is missing, damaged or of another model."""


class FileError(LmsearchError):
    """A file that cannot be written or read: a full disk, missing rights, damaged content."""


class FolderError(ConfigError, FileError):
    """An output folder that cannot be written."""


class InUseError(LmsearchError):
    """A run folder that another process is writing to."""


class StorageError(LmsearchError):
    """A storage of trials that cannot be opened."""


class StorageAwayError(StorageError):
    """A database of trials that did not answer for long, or cannot be written: no fault of the trials."""


class StudyDeletedError(StorageError):
    """Trials that another command deleted, as overwrite=true does, while this one was at them."""


class SweepError(LmsearchError):
    """A sweep that cannot be started, or whose trials cannot be judged."""


class ExportError(LmsearchError):
    """A network that cannot be exported as asked, or a file whose outputs are not the network's."""


class KernelError(LmsearchError):
    """Arguments that a kernel cannot take."""


class BackendUnavailableError(LmsearchError):
    """A forced backend that cannot run here; the message holds the command that would enable it."""


class _Quote(reprlib.Repr):
    """repr() that looks only at as much of a value as QUOTED characters show."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict, self.maxset = 4, 8, 8, 8, 8
        self.maxstring = self.maxother = QUOTED

    def repr_int(self, x: int, level: int) -> str:
        """Return a whole number, or how long it is: Python refuses to write out the longest ones."""
        return repr(x) if x.bit_length() < 4 * QUOTED else f"<a whole number of {x.bit_length()} bits>"


def short(value: object) -> str:
    """Return `value` as quoted text of one short line, however long or deep it is."""
    text = _Quote().repr(value).replace("\n", " ")
    return text if len(text) <= QUOTED else text[: QUOTED - 3] + "..."


def did_you_mean(value: str, accepted: Iterable[str], *, limit: int = 3) -> str:
    """Return "; nearest: a, b" for the accepted names closest to `value`, or the whole list where none is close."""
    accepted = list(accepted)
    near = difflib.get_close_matches(value[:QUOTED], accepted, n=limit, cutoff=0.5)
    if near:
        return f"; did you mean {', '.join(near)}?"
    return f"; accepted: {', '.join(accepted)}"
