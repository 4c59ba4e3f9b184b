"""Faults of single annotations: they end the reading, or are counted and said where broken things are to be skipped."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from lmsearch.data.dense.records import Things
from lmsearch.errors import DataError

log = logging.getLogger(__name__)
SKIPPING = "data.on_error=skip leaves such objects out and counts them"


@dataclass
class Faults:
    """What was wrong with objects that are left out; with on_error "raise" the first one raises DataError."""

    on_error: str = "raise"
    found: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        """Note what is wrong with an object, in one line."""
        if self.on_error == "raise":
            raise DataError(f"{message}; {SKIPPING}")
        self.found.append(message)

    def say(self, where: str) -> None:
        """Log how many objects were left out, and the first of them."""
        if self.found:
            log.warning("%s: %d object(s) are left out, the first: %s", where, len(self.found), self.found[0])


def say_repeated(where: str, things: Things) -> None:
    """Warn where objects are listed more than once, as some converters write them."""
    if number := things.num_repeated():
        log.warning(
            "%s: %d of %d objects are listed again, with the class, box and outline of one before: each counts as an object, to"
            " learn and to be found; take them out",
            where, number, len(things),
        )  # fmt: skip
