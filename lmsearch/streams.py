"""stdout and stderr of a command, whose reader may be gone: a pipe that nobody reads any more, a terminal that was closed."""

from __future__ import annotations

import os
import select
import sys
from typing import TextIO


def say(text: str) -> None:
    """Print a text on stderr; where that cannot be done, it goes nowhere: why a command ends matters more than the telling."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        drop(sys.stderr)


def let_go_of_output() -> None:
    """Print what stdout still holds; where that cannot be done, it goes nowhere, and does not change the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        drop(sys.stdout)


def output_closed() -> bool:
    """Tell whether nobody reads the output any more, as after `| head`; what is still printed then goes nowhere."""
    output = select.poll()
    output.register(sys.stdout, 0)  # errors are told unasked
    if not output.poll(0):
        return False
    drop(sys.stdout)
    return True


def drop(stream: TextIO) -> None:
    """Let all that a stream holds and will be given go nowhere; else Python would try it again when it ends, and fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
