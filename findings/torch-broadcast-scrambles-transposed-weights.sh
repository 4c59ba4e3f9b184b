#!/usr/bin/env bash
# Weights that process 0 sends to the others arrive with their numbers in other places where process 0 holds them transposed.
#
# Weights that come from JAX or TensorFlow are often views made by .T: the shape of a Linear's weight, another order in memory. Between CPUs
# (gloo) broadcast sends the memory as it lies and does not ask whether the receiver's lies alike: the shapes agree, and no process
# complains. Only process 0 has the weights then, the others another matrix, from which they evaluate and average gradients. Send
# tensor.contiguous(), and compare digests of the weights over all processes before a training begins.
#
# Seen with PyTorch 2.13.0, Python 3.11; process 0 has [[0, 3], [1, 4], [2, 5]], process 1 a new tensor of zeros:
# broadcast of                  process 0                 process 1
# weights                       [[0, 3], [1, 4], [2, 5]]  [[0, 1], [2, 3], [4, 5]]
# weights.contiguous()          [[0, 3], [1, 4], [2, 5]]  [[0, 3], [1, 4], [2, 5]]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
cat > send.py <<'PY'
import sys

import torch
import torch.distributed as dist

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
weights = torch.arange(6.0).reshape(2, 3).T
if rank == 0:
    print(f"{'broadcast of':29} {'process 0':25} process 1")
for label, sent, same in (("weights", weights, False), ("weights.contiguous()", weights.contiguous(), True)):
    mine = sent if rank == 0 else torch.zeros(3, 2)
    dist.broadcast(mine, 0)
    held = [None, None]
    dist.all_gather_object(held, [[int(number) for number in row] for row in mine.tolist()])
    if rank == 0:
        print(f"{label:29} {str(held[0]):25} {held[1]}")
    assert (held[0] == held[1]) is same, "layouts are met otherwise now"
dist.barrier()
dist.destroy_process_group()
PY
export GLOO_SOCKET_IFNAME=lo
venv/bin/python -W ignore send.py 1 "$work/meeting" & other=$!
venv/bin/python -W ignore send.py 0 "$work/meeting"
wait "$other"
