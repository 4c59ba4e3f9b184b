"""Processes that were started again meet where none of the earlier ones was, whatever those left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from lmsearch.engine.meeting import HERE, OFFER, meeting_place, name_of_call

SOON = timedelta(seconds=0.3)
WORKER = """
import os, signal, sys, time
import torch
from lmsearch.engine.processes import joined

rank, folder = int(os.environ["RANK"]), sys.argv[1]
with joined(torch.device("cpu")) as world:
    world.wait()
    if world.main:
        print(world.call, file=open(f"{folder}/calls", "a"))
    if not os.path.exists(f"{folder}/died"):
        if rank == 1:
            open(f"{folder}/died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(120)  # a long step, in which nobody hears of it
    counts = world.gather(torch.tensor([int(os.environ["TORCHELASTIC_RESTART_COUNT"])]))
    if world.main:
        open(f"{folder}/counts", "w").write(" ".join(map(str, counts.tolist())))
"""


def meet(store: dist.Store, size: int) -> set[str]:
    """Let so many processes, here threads, meet, and return where they did."""
    with ThreadPoolExecutor(size) as pool:
        waiting = [pool.submit(meeting_place, store, rank, size, wait=timedelta(seconds=20)) for rank in reversed(range(size))]
        return {one.result() for one in waiting}


def test_all_processes_of_a_start_meet_at_one_place_and_those_of_the_next_at_another() -> None:
    store = dist.HashStore()
    places = [meet(store, size) for size in (3, 3, 2)]
    assert [len(place) for place in places] == [1, 1, 1] and len(set.union(*places)) == 3
    assert name_of_call(store) == name_of_call(store) != name_of_call(dist.HashStore())


def test_what_processes_left_that_died_before_they_met_misleads_nobody() -> None:
    store = dist.HashStore()
    with pytest.raises(dist.DistStoreError, match="not all processes of this start came"):
        meeting_place(store, 1, 3, wait=SOON)
    store.set(f"{HERE}/2", "dead")
    with pytest.raises(dist.DistStoreError):
        meeting_place(store, 0, 3, wait=SOON)  # which has made an offer to both
    offered = store.get(OFFER)
    (place,) = meet(store, 3)
    assert place not in offered.decode() and place in store.get(OFFER).decode()


@pytest.mark.slow
def test_a_machine_whose_process_died_and_one_that_only_follows_meet_again(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "two", "--local-addr", "127.0.0.1",
        str(tmp_path / "worker.py"), str(tmp_path),
    ]  # fmt: skip
    machines = [subprocess.Popen(start, env=os.environ | {"OMP_NUM_THREADS": "1"}) for _ in range(2)]
    try:
        assert [machine.wait(100) for machine in machines] == [0, 0]
    finally:
        for machine in machines:
            machine.terminate()  # and with it the processes that it has started
        for machine in machines:
            machine.wait(60)
    first, again = (tmp_path / "calls").read_text().split()
    assert first == again, "of one call of torchrun"
    assert sorted((tmp_path / "counts").read_text().split()) == ["0", "1"], "as each machine counts its own"
