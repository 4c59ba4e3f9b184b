#!/usr/bin/env bash
# A process that has just started reports the peak memory of the one that started it as its own.
#
# resource.getrusage(RUSAGE_SELF).ru_maxrss is the usual answer to "how much memory did this take". Linux carries the mark over
# fork and exec. So a small program that a large one starts, such as a worker, a job or a test, reports what the large one once
# held, even where that was freed before. VmHWM in /proc/self/status belongs to the program alone.
#
# Seen with Python 3.11, NumPy 2.4.6, Linux; the parent held 400 MiB and freed it:
# ru_maxrss of the child: as the parent's, more than 400 MiB
# VmHWM of the child: less than 100 MiB
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6
venv/bin/python - <<'PY'
import subprocess
import sys

import numpy as np

CHILD = """
import resource
status = open("/proc/self/status").read()
own = int(status.partition("VmHWM:")[2].split()[0])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, own)
"""
held = np.ones(400 << 20, dtype=np.uint8)
del held
answer = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True).stdout
told, own = (int(kib) / 1024 for kib in answer.split())
print(f"ru_maxrss of the child: {told:.0f} MiB   VmHWM of the child: {own:.0f} MiB")
assert told > 400 and own < 100, "a child's peak is its own now"
PY
