"""Processes that `lmsearch bench` starts to measure what cannot be measured in its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from lmsearch.errors import KernelError
from lmsearch.paths import PACKAGE


def last_word_of(module: str, words: Sequence[str], *, what: str, without: Sequence[str] = ()) -> str:
    """Run `python -m module words...` and return the last word that it prints; raise KernelError, naming `what`, if it fails.

    The process has this one's environment, but for the variables `without`.
    """
    path = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept: Mapping[str, str] = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True, text=True, check=False, env={**kept, "PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise KernelError(f"measuring {what} failed: {reason}")
    return done.stdout.split()[-1]
