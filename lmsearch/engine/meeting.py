"""How processes that torchrun starts agree on where in its store they meet, after any of them died and all were started again.

The store outlives them, so it still holds what earlier ones left. What torchrun tells of its restarts does not tell them apart:
each machine counts those that its own processes caused, and a machine that only follows counts none.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta

import torch.distributed as dist

LOOK_S = 0.05  # between two looks at the store
HERE, OFFER, CALL = "lmsearch/here", "lmsearch/offer", "lmsearch/call"


def name_of_call(store: dist.Store) -> str:
    """Return a name that all processes of one call of torchrun have alike, those that it starts again too, and no other call."""
    return store.compare_set(CALL, "", secrets.token_hex(8)).decode()


def meeting_place(store: dist.Store, rank: int, size: int, *, wait: timedelta) -> str:
    """Return a prefix for the store that the processes of this start have alike, and no earlier ones had.

    Raises dist.DistStoreError where not all of them come within that time.
    """
    until = time.monotonic() + wait.total_seconds()
    return _offered(store, size, until) if rank == 0 else _taken(store, rank, until)


def _offered(store: dist.Store, size: int, until: float) -> str:
    """Offer a place to those who said that they are here, anew where one of them turns out to be another, until all took it."""
    others, place, told = range(1, size), "", list[str]()
    while True:
        here = [_read(store, f"{HERE}/{rank}") for rank in others]
        if all(here) and here != told:
            place, told = f"lmsearch-{secrets.token_hex(8)}", here
            store.set(OFFER, " ".join([place, *told]))
        if told and all(store.check([_taken_by(place, rank)]) for rank in others):
            store.set(_closed(place), "1")
            return place
        _pause(until)


def _taken(store: dist.Store, rank: int, until: float) -> str:
    """Say that this process is here, take what is then offered to it, and return that when all did."""
    name = secrets.token_hex(8)
    store.set(f"{HERE}/{rank}", name)
    while True:
        place, *told = _read(store, OFFER).split() or [""]
        if name in told:
            store.set(_taken_by(place, rank), "1")
            if store.check([_closed(place)]):
                return place
        _pause(until)


def _read(store: dist.Store, key: str) -> str:
    """Return what the store holds under a key, "" for nothing."""
    return store.get(key).decode() if store.check([key]) else ""


def _taken_by(place: str, rank: int) -> str:
    return f"{place}/taken/{rank}"


def _closed(place: str) -> str:
    return f"{place}/closed"


def _pause(until: float) -> None:
    """Wait a little; raise DistStoreError where the time is up."""
    if time.monotonic() >= until:
        raise dist.DistStoreError("not all processes of this start came")
    time.sleep(LOOK_S)
