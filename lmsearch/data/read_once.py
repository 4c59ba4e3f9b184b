"""Samples that are read once and gone through again and again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lmsearch.data.batch import Batch
from lmsearch.data.info import Samples
from lmsearch.data.order import Ranks


@dataclass
class ReadOnce:
    """The samples of `whole`, read in the first pass and kept as they are then."""

    whole: Samples
    kept: list[Batch] | None = None

    @property
    def num_samples(self) -> int:
        """The number of samples."""
        return self.whole.num_samples

    @property
    def world(self) -> Ranks:
        """The processes that share them."""
        return self.whole.world

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[Batch]:
        if self.kept is None:
            self.kept = list(self.whole)
        return iter(self.kept)
