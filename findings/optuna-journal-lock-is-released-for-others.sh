#!/usr/bin/env bash
# Who was slow with a lock of Optuna's journal, and lost it, takes the lock away from the next holder when it releases "its own".
#
# A lock that is held for longer than the grace period (30 s) is taken over by a process that waits for it. The first holder is not told,
# and release() asks only whether a lock is there, not whose: it removes the lock of the second, and a third may enter beside it. Where
# nobody has locked in the meantime, release() of the first raises RuntimeError, in whatever work the lock had protected. Nothing is
# said at the time. So what may take longer than the grace period, such as a call to a database that is away, must not be done under
# the lock, and the lock's file has to be looked at before it is released.
#
# Seen with optuna 5.0.0, Python 3.11:
# first holder slow, second took over; after the first released: the second's lock is gone, a third got it at once
# first holder slow, second took over and released; the first's release: RuntimeError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q optuna==5.0.0
venv/bin/python -W ignore - <<'PY'
import logging
import os
import time

import optuna
from optuna.storages.journal import JournalFileSymlinkLock

optuna.logging.set_verbosity(logging.ERROR)
open("journal.log", "w").close()
first, second, third = (JournalFileSymlinkLock("journal.log", grace_period=1) for _ in range(3))

first.acquire()
second.acquire()  # waits until the first has had it for longer than a second
first.release()  # at last
gone = not os.path.lexists("journal.log.lock")
begin = time.monotonic()
third.acquire()
at_once = time.monotonic() - begin < 0.5
told = "the second's lock is gone" if gone else "the second's lock stays"
print(f"first holder slow, second took over; after the first released: {told}, a third got it {'at once' if at_once else 'later'}")
third.release()

first.acquire()
second.acquire()
second.release()
try:
    first.release()
    raised = "nothing"
except RuntimeError:
    raised = "RuntimeError"
print(f"first holder slow, second took over and released; the first's release: {raised}")
assert gone and at_once and raised == "RuntimeError", "the lock knows its holder now"
PY
