"""Which samples an epoch visits, in which batches, in which process.

Batch sizes count the samples of all W processes. Each takes a part of every batch of a single process, so that together they
hold just that; what mixup mixes, places p and B - 1 - p of a batch of B, is in one process where its part is of even size.
Places in a part are in ascending order, so that there its reverse holds what its samples are mixed with in the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from torch import Tensor

from lmsearch.data.keyed import permutation
from lmsearch.errors import DataError

T = TypeVar("T")


class Ranks(Protocol):
    """Which of how many processes this one is; lmsearch.engine.distributed.World is one."""

    @property
    def rank(self) -> int:
        """The number of this process."""

    @property
    def size(self) -> int:
        """The number of processes."""

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the samples (n, ...) of all processes in the order of EvalLoader, where they take turns."""

    def gather_each(self, samples: tuple[T, ...]) -> tuple[T, ...]:
        """Return what all processes have of their samples, one object each, in the same order."""

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""

    def any(self, answer: bool) -> bool:
        """Return whether the answer of any process is yes."""


class Alone:
    """The only process."""

    rank, size = 0, 1

    def gather(self, tensor: Tensor) -> Tensor:
        """Return its own samples."""
        return tensor

    def gather_each(self, samples: tuple[T, ...]) -> tuple[T, ...]:
        """Return its own samples."""
        return samples

    def total(self, tensor: Tensor) -> Tensor:
        """Return its own tensor."""
        return tensor

    def any(self, answer: bool) -> bool:
        """Return its own answer."""
        return answer


ALONE = Alone()


def sharers(batches: object) -> Ranks:
    """Return the processes that share these batches, of which each has a part: those of their loader.

    Of batches that no loader gives, such as a list of them, every process has the whole.
    """
    world: Ranks = getattr(batches, "world", ALONE)
    return world


def seen_by_all(batches: object, mine: int) -> int:
    """Return how many samples the processes that share these batches have seen, about, where the first has seen so many."""
    size = sharers(batches).size
    return mine if size == 1 else min(mine * size, getattr(batches, "num_samples", mine * size))


def of_one_kind(mine: T | None, world: Ranks, *, emptied: Callable[[T], T]) -> T | None:
    """Return what this process has found or, where that is nothing, what another has, emptied; None where nobody has any.

    So all processes bring the same kinds of tensors to an exchange, also one that could read none of its samples.
    """
    if not world.any(mine is None):
        return mine
    kinds = world.gather_each(() if mine is None else (emptied(mine),))
    return kinds[0] if mine is None and kinds else mine


def train_order(size: int, *, batch_size: int, drop_last: bool, address: tuple[int | str, ...]) -> np.ndarray:
    """Return the positions (of range(size)) that all processes together visit, shuffled by `address`; whole batches alone
    with `drop_last`.
    """
    return whole_batches(permutation(size, *address), batch_size=batch_size, drop_last=drop_last)


def whole_batches(order: np.ndarray, *, batch_size: int, drop_last: bool) -> np.ndarray:
    """Cut a list (n, ...) to whole batches with `drop_last`; otherwise the last one may be smaller."""
    return order[: len(order) // batch_size * batch_size] if drop_last else order


class OwnPart(NamedTuple):
    """What a process holds of a batch: the places (n,) there, ascending, and by what their mean counts in that over processes.

    So the mean over processes is that over the batch, also where parts are not equally large. `of` is how many the batch has.
    """

    places: np.ndarray
    weight: float
    of: int


def own_part(size: int, world: Ranks) -> OwnPart:
    """Return what this process holds of a batch of `size` samples; parts differ by one at most.

    A process that is left without one holds the first, which counts nothing, so that all do the same steps.
    """
    own = np.sort(np.array_split(paired(size), world.size)[world.rank])
    return OwnPart(own, weight_of(len(own), size, world), size) if len(own) else OwnPart(np.zeros(1, dtype=np.int64), 0.0, size)


def weight_of(own: int, size: int, world: Ranks) -> float:
    """Return by what the mean over `own` samples counts in the mean over processes, which have `size` of them together."""
    return own * world.size / size


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
    shuffled: np.ndarray = np.concatenate(drawn)[permutation(len(classes), *address)]
    return shuffled


def train_length(size: int, *, batch_size: int, drop_last: bool) -> int:
    """Return the number of batches of one epoch, the same in every process."""
    return size // batch_size if drop_last else -(-size // batch_size)


def cut(positions: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut (n,) positions into batches of `batch_size`, the last one perhaps smaller."""
    return [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]


def paired(size: int) -> np.ndarray:
    """Return the places (size,) of a batch in pairs: p and size - 1 - p, which mixup mixes, follow each other."""
    front = np.arange(-(-size // 2))
    return np.stack([front, size - 1 - front], axis=1).ravel()[:size]  # the middle of an odd batch is its own partner


def pairs_are_cut(size: int, world: Ranks) -> bool:
    """Tell whether one of the pairs of a batch of `size` is in two processes; all of them tell alike."""
    share, more = divmod(size, world.size)
    ends = (share * rank + min(rank, more) for rank in range(1, world.size))
    return any(end % 2 and end < size for end in ends)


def check_batches(size: int, *, batch_size: int, world: Ranks, drop_last: bool, what: str) -> None:
    """Raise DataError where an epoch would hold no batch."""
    if train_length(size, batch_size=batch_size, drop_last=drop_last) == 0:
        fits = size // world.size * world.size
        remedy = f"lower batch_size to at most {fits}" if fits else "give it more samples"
        raise DataError(f"{what}: {size} sample(s) make no full batch of {batch_size} on {world.size} process(es); {remedy}")


def shared_by(processes: int, usual: int) -> int:
    """Return the number nearest below `usual` that so many processes can share: one for each at least."""
    return max(usual // processes, 1) * processes


def share_of(batch_size: int, world: Ranks) -> int:
    """Return the samples of a batch in each process; raise DataError where processes would have different numbers of them."""
    if batch_size % world.size:
        more = (batch_size // world.size + 1) * world.size
        fitting = f"{more - world.size} or {more}" if batch_size > world.size else f"{more}"
        raise DataError(f"batch_size={batch_size} cannot be shared by {world.size} processes; batch_size={fitting} can")
    return batch_size // world.size
