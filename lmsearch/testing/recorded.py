"""A command of lmsearch that writes down its training steps: python -m lmsearch.testing.recorded <file> <command ...>

The file gets a line per step as soon as it is done: when, in seconds, and a word that is the same where the same step is done
again. Of several processes the first writes. Trainings in processes of their own (workers=) are not seen.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from lmsearch.cli import main as lmsearch
from lmsearch.engine.digest import digest_of
from lmsearch.engine.loop import StepObserver, observing_steps
from lmsearch.engine.objectives import Scores

LETTERS = 16  # of a word


class Step(NamedTuple):
    """A training step that was done: when it ended, and the word that tells it from the run's others."""

    at: float
    word: str


def writing_to(path: Path) -> StepObserver:
    """Return what appends every step to a file, each in one piece, so that a kill tears no line."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(epoch: int, step: int, scores: Scores) -> None:
        word = digest_of((epoch, step, scores.losses))[:LETTERS]
        os.write(file, f"{time.time():.6f} {word}\n".encode())

    return write


def steps_in(path: Path) -> list[Step]:
    """Return the steps that a file holds; none where it is not there yet."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Step(float(at), word) for at, word in (line.split() for line in lines)]


def main() -> int:
    """Run the command of the command line, which follows the name of the file; return its exit code."""
    path, words = Path(sys.argv[1]), sys.argv[2:]
    if os.environ.get("RANK", "0") != "0":
        return lmsearch(words)
    with observing_steps(writing_to(path)):
        return lmsearch(words)


if __name__ == "__main__":
    sys.exit(main())
