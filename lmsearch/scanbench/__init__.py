"""ScanBench: small spaces of which every architecture was trained from scratch, as tables to search in within seconds.

from lmsearch import scanbench
table = scanbench.load("digits").space("1 layer, top 4")
table.mean((("h", "h_flip", "v", "v_flip"),)), table.noise_ceiling()

Tables and leaderboard are read without PyTorch; only `replay` needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmsearch.scanbench.board import Entry, judge, leaderboard
from lmsearch.scanbench.spaces import SPACES, Space
from lmsearch.scanbench.table import Table, load, table_names, versions

__all__ = ["SPACES", "Entry", "Space", "Table", "judge", "leaderboard", "load", "replay", "table_names", "versions"]


if TYPE_CHECKING:
    from lmsearch.scanbench.replaying import replay


def __getattr__(name: str) -> object:
    if name == "replay":
        from lmsearch.scanbench.replaying import replay  # imports PyTorch

        return replay
    raise AttributeError(f"module 'lmsearch.scanbench' has no attribute {name!r}")
