#!/usr/bin/env bash
# PyTorch's distributed checkpoint makes one state out of those of all processes: its parts are of different ones, and all get the same.
#
# dcp.save takes the state of every process. Where it is no DTensor, a value under the same name counts as the same value: one copy is
# written, by the process that has least to write so far, so which one's it is hangs on the sizes of all other entries. What differs by
# process, such as the state of its random numbers or which files it has still to read, comes back mixed: after going on, each process
# draws the same random numbers and reads the same part of the data, and nothing is said. A state of random numbers whose halves are of two
# processes is none. Give what differs a name that says whose it is, such as f"loader.{rank}", or gather it before.
#
# Seen with PyTorch 2.13.0, Python 3.11; two processes, gloo:
#           saved by              read by
# name      process 0  process 1  process 0  process 1
# random    0          1          0          0
# shard     0          1          1          1
# position  100        101        101        101
# own.0     7                     7
# own.1                8                     8
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
export GLOO_SOCKET_IFNAME=lo
venv/bin/python - <<'PY'
import json
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp

RANKS = (0, 1)
NAMES = ("random", "shard", "position")


def state_of(rank):
    return {"random": torch.full((4,), rank), "shard": rank, "position": 100 + rank, f"own.{rank}": 7 + rank}


def work(rank):
    dist.init_process_group("gloo", init_method=f"file://{Path.cwd()}/meeting", rank=rank, world_size=len(RANKS))
    dcp.save(state_of(rank), checkpoint_id="checkpoint")
    state = {"random": torch.full((4,), -1), "shard": -1, "position": -1, f"own.{rank}": -1}
    dcp.load(state, checkpoint_id="checkpoint")
    Path(f"{rank}.json").write_text(json.dumps(plain(state)))
    dist.destroy_process_group()


def plain(state):
    (number,) = set(state["random"].tolist())
    return {**state, "random": number}


mp.start_processes(work, nprocs=len(RANKS), start_method="fork")
saved = [plain(state_of(rank)) for rank in RANKS]
read = [json.loads(Path(f"{rank}.json").read_text()) for rank in RANKS]
print("          saved by              read by\nname      process 0  process 1  process 0  process 1")
for name in (*NAMES, "own.0", "own.1"):
    cells = (str(state.get(name, "")) for state in (*saved, *read))
    print(f"{name:10}{''.join(f'{cell:11}' for cell in cells)}".rstrip())
assert read[0] == {"random": 0, "shard": 1, "position": 101, "own.0": 7}, "process 0 reads another state now"
assert read[1] == {"random": 0, "shard": 1, "position": 101, "own.1": 8}, "process 1 reads another state now"
PY
