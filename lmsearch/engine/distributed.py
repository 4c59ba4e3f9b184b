"""The processes that train one network together. `World()` is the single process, so nothing else asks whether there are more."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from lmsearch.errors import LmsearchError

Exchange = Callable[[Tensor], list[Tensor]]  # from a tensor of every process to all of them, by rank
Add = Callable[[Tensor], None]  # replaces a tensor by its sum over the processes
T = TypeVar("T")


def alone(tensor: Tensor) -> list[Tensor]:
    """Return what a single process gets from all processes."""
    return [tensor]


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`; `exchange` shows every process the tensors of all, which lie on `device` and are of one shape.

    `add` sums large ones without showing them; None does it by `exchange`. `call` names the call of torchrun that started them,
    also where it starts them again ("": none did).
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    exchange: Exchange = alone
    add: Add | None = None
    call: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank is {self.rank}; expected 0 to {self.size - 1}, the size being {self.size}")
        if self.size > 1 and self.exchange is alone:
            raise ValueError(f"{self.size} processes need a way to exchange tensors")

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its mean over the processes, in place."""
        if self.size == 1:
            return
        listed = list(tensors)
        if self.add is None:
            for tensor in listed:
                tensor.copy_(torch.stack(self._all(tensor)).mean(0))
            return
        for kind in dict.fromkeys(tensor.dtype for tensor in listed):
            mine = [tensor for tensor in listed if tensor.dtype == kind]
            whole = torch.cat([tensor.detach().reshape(-1) for tensor in mine]).to(self.device)  # one message for all
            self.add(whole)
            means = whole.div_(self.size).to(mine[0].device).split([tensor.numel() for tensor in mine])
            torch._foreach_copy_(mine, [mean.view_as(tensor) for mean, tensor in zip(means, mine, strict=True)])

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        return torch.stack(self._all(tensor)).sum(0).to(tensor.dtype)

    def any(self, answer: bool) -> bool:
        """Return whether the answer of any process is yes."""
        return answer if self.size == 1 else bool(torch.stack(self._all(torch.tensor(int(answer)))).any())

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the samples (n, ...) of all processes in their order, where process r holds every size-th one from r on.

        Where processes hold other numbers of samples, those that have more come last.
        """
        counts, padded = self._all_padded(tensor)
        interleaved = torch.stack(padded, dim=1).flatten(0, 1)  # (most * size, ...)
        held = torch.tensor([turn < count for turn in range(max(counts)) for count in counts], device=tensor.device)
        return interleaved[held]

    def gather_each(self, samples: tuple[T, ...]) -> tuple[T, ...]:
        """Return what all processes have of their samples, one object each, in the order of `gather`. Objects are pickled."""
        if self.size == 1:
            return samples
        mine = torch.frombuffer(bytearray(pickle.dumps(samples)), dtype=torch.uint8)
        sent = [part[:length].numpy().tobytes() for length, part in zip(*self._all_padded(mine), strict=True)]
        held: list[tuple[T, ...]] = [pickle.loads(text) for text in sent]
        turns = range(max(map(len, held)))
        return tuple(own[turn] for turn in turns for own in held if turn < len(own))

    def assert_same(self, digest: str, *, what: str) -> None:
        """Raise LmsearchError unless all processes have the same hexadecimal digest of `what`."""
        mine = torch.tensor(list(bytes.fromhex(digest)))
        if different := [rank for rank, other in enumerate(self._all(mine)) if not torch.equal(other, mine)]:
            raise LmsearchError(f"{what} of process {different[0]} is not that of process {self.rank}")

    def _all_padded(self, tensor: Tensor) -> tuple[list[int], list[Tensor]]:
        """Return the lengths of the tensors (n, ...) of all processes by rank, and these with zeros up to the longest."""
        counts = [int(count) for count in self._all(torch.tensor(len(tensor)))]
        return counts, self._all(torch.cat([tensor, tensor.new_zeros(max(counts) - len(tensor), *tensor.shape[1:])]))

    def _all(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes by rank, where this one's lies."""
        return [other.to(tensor.device) for other in self.exchange(tensor.to(self.device))]


SINGLE = World()
