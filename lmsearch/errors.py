"""Errors that a user can cause: each message states the rule, the value, what is accepted and where it came from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LmsearchError(ValueError):
    """Base of every error that a user's input can cause; the command line prints it as one line."""


class ConfigError(LmsearchError):
    """A configuration key or value that is not accepted."""


class DirectionError(LmsearchError):
    """A name that is not a scan direction."""


class SearchSpaceError(LmsearchError):
    """A search space file that cannot be used."""


class GenotypeError(LmsearchError):
    """A genotype that cannot be read or does not fit the model."""


class ModelError(LmsearchError):
    """A model name or option that is not accepted."""


class DataError(LmsearchError):
    """A dataset that is missing, empty or broken."""


class CheckpointError(LmsearchError):
    """A checkpoint that is missing, damaged or of another model."""


class FileError(LmsearchError):
    """A file that cannot be written or read: a full disk, missing rights, damaged content."""


class StorageError(LmsearchError):
    """A storage of trials that cannot be opened."""


class SweepError(LmsearchError):
    """A sweep that cannot be started, or whose trials cannot be judged."""


class KernelError(LmsearchError):
    """Arguments that a kernel cannot take."""


class BackendUnavailableError(LmsearchError):
    """A forced backend that cannot run here; the message holds the command that would enable it."""


def did_you_mean(value: str, accepted: Iterable[str], *, limit: int = 3) -> str:
    """Return "; nearest: a, b" for the accepted names closest to `value`, or the whole list where none is close."""
    accepted = list(accepted)
    near = difflib.get_close_matches(value, accepted, n=limit, cutoff=0.5)
    if near:
        return f"; did you mean {', '.join(near)}?"
    return f"; accepted: {', '.join(accepted)}"
