#!/usr/bin/env bash
# The largest loss over all processes is a fine number although one of them has NaN: whether NaN is seen depends on who has it.
#
# all_reduce with MAX or MIN is the usual way to ask whether any process has left the numbers: of losses, of norms of gradients, of times.
# Gloo, which carries it between CPUs, compares, and a comparison with NaN is false. What process 0 has stays, NaN included; the NaN
# of another one goes. So a check that was tried with a broken process 0 misses the same break in process 1, and the training goes on.
# SUM keeps NaN, and torch.max in one process does. Reduce a flag, torch.isfinite as 0 or 1, in place of the values.
#
# Seen with PyTorch 2.13.0, Python 3.11; losses of two processes, and what both have after all_reduce:
# losses    MAX   MIN   SUM   torch.max
# 1, 2      2     1     3     2
# nan, 1    nan   nan   nan   nan
# 1, nan    1     1     nan   nan
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
cat > reduce.py <<'PY'
import math
import sys

import torch
import torch.distributed as dist

CASES = {(1, 2): ("2", "1", "3", "2"), (math.nan, 1): ("nan",) * 4, (1, math.nan): ("1", "1", "nan", "nan")}
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
if rank == 0:
    print("losses    MAX   MIN   SUM   torch.max")
for losses, expected in CASES.items():
    found = []
    for how in (dist.ReduceOp.MAX, dist.ReduceOp.MIN, dist.ReduceOp.SUM):
        mine = torch.tensor([float(losses[rank])])
        dist.all_reduce(mine, how)
        found.append(f"{mine.item():g}")
    found.append(f"{torch.tensor(losses).max().item():g}")
    if rank == 0:
        print(f"{f'{losses[0]:g}, {losses[1]:g}':9} {found[0]:5} {found[1]:5} {found[2]:5} {found[3]}")
    assert tuple(found) == expected, "NaN is reduced otherwise now"
dist.barrier()
dist.destroy_process_group()
PY
export GLOO_SOCKET_IFNAME=lo
venv/bin/python -W ignore reduce.py 1 "$work/meeting" & other=$!
venv/bin/python -W ignore reduce.py 0 "$work/meeting"
wait "$other"
