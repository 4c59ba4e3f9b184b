"""ScanBench: small spaces of which every architecture was trained from scratch, as tables to search in within seconds.

from lmsearch import scanbench
table = scanbench.load("digits").space("1 layer, top 4")
table.mean((("h", "h_flip", "v", "v_flip"),)), table.noise_ceiling()
"""

from lmsearch.scanbench.replay import replay
from lmsearch.scanbench.spaces import SPACES, Space
from lmsearch.scanbench.table import Table, load, table_names

__all__ = ["SPACES", "Space", "Table", "load", "replay", "table_names"]
