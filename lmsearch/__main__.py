"""The command `lmsearch`, also as `python -m lmsearch`: a signal is one line at any time, while modules are imported too."""

from __future__ import annotations

import os
import sys

try:
    import signal

    from lmsearch.interrupts import INTERRUPTED, quitting_at_once
except KeyboardInterrupt:  # before quitting_at_once is there to answer
    try:
        os.write(2, b"\nlmsearch: interrupted\n")
    finally:
        os._exit(130)


def main() -> int:
    """Run the command line of this process."""
    quitting_at_once()  # until the task is imported and has something to save
    from lmsearch.cli import main as run  # slow: it imports Hydra

    try:
        return run()
    except KeyboardInterrupt:  # while an earlier one was being answered
        return INTERRUPTED
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left to save


if __name__ == "__main__":
    sys.exit(main())
