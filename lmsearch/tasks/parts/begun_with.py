"""Weights to start from that are still being trained: a run that began with them goes on, though their file holds others."""

from __future__ import annotations

from pathlib import Path

from lmsearch.engine.checkpoint import CHECKPOINT, weights_file
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.state import older_states
from lmsearch.reading import object_in
from lmsearch.status import RunStatus
from lmsearch.tasks.parts.runs import read_run

FILE = "init_from.json"  # in the folder of such a run


def still_training(init_from: str) -> bool:
    """Tell whether weights are those of a run that has not finished."""
    path = weights_file(Path(init_from))
    run = read_run(path.parent) if path.name == CHECKPOINT else None
    return run is not None and run.state is not RunStatus.FINISHED


def begun_with(run_dir: Path) -> str | None:
    """Return the fingerprint of the weights that the run in a folder began with; None where it is not known or saved nothing."""
    saved = (run_dir / CHECKPOINT).exists() or older_states(run_dir)
    return object_in(run_dir / FILE).get("fingerprint") if saved else None


def note_beginning(run_dir: RunDir, mark: str) -> None:
    """Write down which weights a run begins with."""
    run_dir.write_json(FILE, {"fingerprint": mark})
