#!/usr/bin/env bash
# The mean squared error of five images over two processes is 20 where it is 16: the means of the parts are averaged, however large they are.
#
# A DTensor promises the numbers of one process. Where its rows do not divide by the processes, as in the last batch, mse_loss, huber_loss,
# smooth_l1_loss and both binary cross-entropies take the mean of each part and then the mean of those; an image in the smaller part counts
# more. l1_loss, kl_div, mean() and the same error written with square() and mean() are right, and cross_entropy refuses such rows. Nothing
# is said, and with parts of one size all agree. Take reduction="sum" and divide, or write the mean out.
#
# Seen with PyTorch 2.13.0, Python 3.11; errors 0, 0, 0, 4 and 8, the first three of process 0:
# loss                              on one process  sharded
# mse_loss                          16.00           20.00
# mse_loss of the first four        4.00            4.00
# (x - y).square().mean()           16.00           16.00
# mse_loss, reduction="sum", / 5    16.00           16.00
# huber_loss                        2.20            2.75
# smooth_l1_loss                    2.20            2.75
# binary_cross_entropy_with_logits  2.82            3.35
# l1_loss                           2.40            2.40
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
cat > losses.py <<'PY'
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
ERRORS = torch.tensor([[0.0], [0.0], [0.0], [4.0], [8.0]])
CASES = (
    ("mse_loss", F.mse_loss, 5, 16.0, 20.0),
    ("mse_loss of the first four", F.mse_loss, 4, 4.0, 4.0),
    ("(x - y).square().mean()", lambda x, y: (x - y).square().mean(), 5, 16.0, 16.0),
    ('mse_loss, reduction="sum", / 5', lambda x, y: F.mse_loss(x, y, reduction="sum") / len(x), 5, 16.0, 16.0),
    ("huber_loss", F.huber_loss, 5, 2.2, 2.75),
    ("smooth_l1_loss", F.smooth_l1_loss, 5, 2.2, 2.75),
    ("binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, 5, 2.82, 3.35),
    ("l1_loss", F.l1_loss, 5, 2.4, 2.4),
)
if rank == 0:
    print(f"{'loss':33} on one process  sharded")
for name, loss, count, by_one, by_two in CASES:
    errors = ERRORS[:count]
    alone = loss(errors, torch.zeros_like(errors)).item()
    sharded = distribute_tensor(errors, mesh, [Shard(0)])
    together = loss(sharded, torch.zeros_like(sharded)).full_tensor().item()
    if rank == 0:
        print(f"{name:33} {alone:<15.2f} {together:.2f}")
    assert (round(alone, 2), round(together, 2)) == (by_one, by_two), "losses of uneven parts are taken otherwise now"
dist.barrier()
dist.destroy_process_group()
PY
export GLOO_SOCKET_IFNAME=lo
venv/bin/python -W ignore losses.py 1 "$work/meeting" & other=$!
venv/bin/python -W ignore losses.py 0 "$work/meeting"
wait "$other"
