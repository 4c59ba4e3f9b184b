"""Discrete search on a table: strategies ask, the table answers, nothing is trained."""

from __future__ import annotations

import numpy as np

from lmsearch.engine.randomness import key
from lmsearch.errors import DataError
from lmsearch.scanbench.spaces import SPACES, space_of
from lmsearch.scanbench.table import Table
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.discrete.strategies import History, Strategy, Tried


def space_to_search(table: Table) -> ArchitectureSpace:
    """Return the space of a table that holds one space only, over the table's own candidates; raise DataError for others."""
    names = list(dict.fromkeys(map(space_of, table.architectures)))
    if len(names) != 1:
        held = f"{len(names)} spaces ({', '.join(names)})" if names else "no architectures"
        raise DataError(
            f"this table of {table.task} holds {held}; a search needs one space: table.space(name) of the whole table"
        )
    space = SPACES[names[0]]
    return ArchitectureSpace.of((table.candidates,) * space.depth, (space.keep,) * space.depth)


def replay(table: Table, strategy: Strategy, *, evaluations: int, seed: int) -> list[Tried]:
    """Let a strategy try `evaluations` architectures (all, where the space is smaller) and return them in order.

    Every architecture is trained once, as a real search would: its score is the table's of one seed, drawn by `seed`.
    """
    space = space_to_search(table)
    tried: list[Tried] = []
    for number in range(min(evaluations, space.size)):
        history = History(space, tried, {one.architecture for one in tried})
        architecture = strategy.propose(history, np.random.default_rng(key(seed, "proposal", number)))
        drawn = int(np.random.default_rng(key(seed, "training", number)).integers(table.num_seeds))
        tried.append(Tried(architecture, table.score(architecture, drawn)))
    return tried


def best_of(tried: list[Tried]) -> Architecture:
    """Return the architecture with the highest score, of equal ones the earlier."""
    return max(tried, key=lambda one: one.score).architecture
