"""Which samples an epoch visits, in which batches, on which rank.

Rank r of W takes every W-th sample of one shuffled list, so the ranks' batches number s together are exactly the batch number s
of a single process with W times the batch size.
"""

from __future__ import annotations

import numpy as np

from lmsearch.data.checks import whole
from lmsearch.data.keyed import permutation
from lmsearch.errors import DataError


def train_order(size: int, *, batch_size: int, world_size: int, drop_last: bool, address: tuple[int | str, ...]) -> np.ndarray:
    """Return the positions (of range(size)) that all ranks together visit, shuffled by `address`.

    `drop_last` keeps whole batches on every rank; otherwise the list is wrapped around to a multiple of `world_size`.
    """
    return whole_batches(permutation(size, *address), batch_size=batch_size, world_size=world_size, drop_last=drop_last)


def whole_batches(order: np.ndarray, *, batch_size: int, world_size: int, drop_last: bool) -> np.ndarray:
    """Cut a list (n, ...) to whole batches on every rank or, without `drop_last`, wrap it around to the same length on each."""
    size = len(order)
    if drop_last:
        batches = train_length(size, batch_size=batch_size, world_size=world_size, drop_last=True)
        return order[: batches * batch_size * world_size]
    return order[np.arange(-(-size // world_size) * world_size) % size]


def balanced_order(classes: np.ndarray, *address: int | str) -> np.ndarray:
    """Return (n, 2): n draws of n samples, every class as often as the others to within one, shuffled by `address`.

    Column 0 is the position, column 1 how often the epoch has drawn that sample before. Samples of a small class come
    several times, each as often as the others to within one; of a large class an epoch sees some, others in the next.
    """
    present = np.unique(classes)
    share, extra = divmod(len(classes), len(present))
    drawn = []
    for place, number in enumerate(present[permutation(len(present), *address, "classes")]):
        own = np.flatnonzero(classes == number)
        wanted = share + (place < extra)
        rounds = range(-(-wanted // len(own)))
        positions = [own[permutation(len(own), *address, "class", int(number), again)] for again in rounds]
        copies = np.repeat(np.arange(len(rounds)), len(own))
        drawn.append(np.stack([np.concatenate(positions or [own[:0]]), copies], axis=1)[:wanted])
    return np.concatenate(drawn)[permutation(len(classes), *address)]


def train_length(size: int, *, batch_size: int, world_size: int, drop_last: bool) -> int:
    """Return the number of batches of one epoch on each rank."""
    if drop_last:
        return size // (batch_size * world_size)
    per_rank = -(-size // world_size)
    return -(-per_rank // batch_size)


def cut(positions: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut (n,) positions into batches of `batch_size`, the last one perhaps smaller."""
    return [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]


def paired(size: int) -> np.ndarray:
    """Return the places (size,) of a batch in pairs: p and size - 1 - p, which mixup mixes, follow each other."""
    front = np.arange(-(-size // 2))
    return np.stack([front, size - 1 - front], axis=1).ravel()[:size]  # the middle of an odd batch is its own partner


def check_batches(size: int, *, batch_size: int, world_size: int, drop_last: bool, what: str) -> None:
    """Raise DataError where an epoch would hold no batch."""
    if train_length(size, batch_size=batch_size, world_size=world_size, drop_last=drop_last) == 0:
        fits = size // world_size
        remedy = f"lower batch_size to at most {fits}" if fits else "give it more samples"
        raise DataError(f"{what}: {size} sample(s) make no full batch of {batch_size} on {world_size} process(es); {remedy}")


def check_rank(rank: int, world_size: int) -> tuple[int, int]:
    """Return (rank, world_size) or raise DataError."""
    rank, world_size = whole("rank", rank), whole("world_size", world_size, least=1)
    if rank >= world_size:
        raise DataError(f"rank is {rank}; expected less than world_size, which is {world_size}")
    return rank, world_size
