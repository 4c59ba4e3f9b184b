#!/usr/bin/env bash
# torchrun ends with exit code 1, whatever code its processes end with.
#
# A cluster's script asks the exit code of a training whether to queue it again: 75 (EX_TEMPFAIL) is the usual word for "saved, start me
# again". Under torchrun the question is lost: processes that all end with 75 make torchrun end with 1, after a table that names the 75.
# Processes that end in peace when torchrun gets SIGTERM, with 0, make it end with 1 and a traceback as well.
#
# Seen with PyTorch 2.13.0, Python 3.11:
# one process, code 75, without torchrun    75
# two processes, code 75, under torchrun    1
# two processes that end with 0 on SIGTERM  1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
printf 'import sys\nsys.exit(75)\n' > again.py
cat > peaceful.py <<'PY'
import os
import pathlib
import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
pathlib.Path(f"ready{os.environ['RANK']}").touch()
while True:
    signal.pause()
PY
run() { venv/bin/python -m torch.distributed.run --standalone --nproc-per-node 2 "$@" > log 2>&1; }
plain=0; venv/bin/python again.py || plain=$?
several=0; run again.py || several=$?
echo "one process, code 75, without torchrun    $plain"
echo "two processes, code 75, under torchrun    $several"
grep -q "exitcode  *: 75" log
run peaceful.py & torchrun=$!
until [ -e ready0 ] && [ -e ready1 ]; do sleep 0.1; done
pkill -TERM -P "$torchrun" -f torch.distributed.run
ended=0; wait "$torchrun" || ended=$?
echo "two processes that end with 0 on SIGTERM  $ended"
[ "$plain" = 75 ] && [ "$several" = 1 ] && [ "$ended" = 1 ]
