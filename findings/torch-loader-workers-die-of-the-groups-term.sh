#!/usr/bin/env bash
# A training that answers SIGTERM by saving loses that where torch reads its data with worker processes.
#
# Schedulers and `timeout` send SIGTERM to the whole process group. A program whose handler only notes the signal, to stop after its step,
# goes on with num_workers=0. With workers the same program ends inside next(loader): torch gives workers a handler of its own, in C, which
# replaces the one that they inherit, they die, and the main process gets RuntimeError before its step is done. Ignoring SIGTERM in
# worker_init_fn, which runs after that handler was set, keeps them alive; they still end with their parent.
#
# Seen with torch 2.13.0, Python 3.11, Linux:
# num_workers=0: noted the signal, did 20 of 20 steps
# num_workers=2: RuntimeError: DataLoader worker (pid ...) exited unexpectedly (or: is killed by signal: Terminated)
# num_workers=2, ignoring it in worker_init_fn: noted the signal, did 20 of 20 steps
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
cat > train.py <<'PY'
import signal
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        time.sleep(0.1)
        return torch.tensor(index)


def ignore(_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
loader = DataLoader(Numbers(), batch_size=1, num_workers=int(sys.argv[1]), worker_init_fn=ignore if sys.argv[2] == "ignore" else None)
steps = 0
try:
    for steps, _ in enumerate(loader, start=1):
        if steps == 2:
            print("under way", flush=True)
    print(f"{'noted the signal' if asked else 'saw no signal'}, did {steps} of 20 steps")
except RuntimeError as error:
    print(f"RuntimeError: {error}")
PY
venv/bin/python -W ignore - <<'PY'
import os
import re
import signal
import subprocess
import sys

told = {}
for workers, mode in (("0", "-"), ("2", "-"), ("2", "ignore")):
    run = subprocess.Popen([sys.executable, "-W", "ignore", "train.py", workers, mode], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout.readline().strip() == "under way"
    os.killpg(run.pid, signal.SIGTERM)
    out = re.sub(r"pid \d+|pid\(s\) [\d, ]+", "pid ...", run.communicate(timeout=60)[0].strip())
    name = f"num_workers={workers}" + (", ignoring it in worker_init_fn" if mode == "ignore" else "")
    told[name] = out
    print(f"{name}: {out}")
first, second, third = told.values()
assert first == third == "noted the signal, did 20 of 20 steps", "the loader lives otherwise now"
assert second.startswith("RuntimeError: DataLoader worker"), "workers outlive the signal now"
PY
