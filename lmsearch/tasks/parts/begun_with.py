"""Weights to start from that are still being trained: a run that began with them goes on, though their file changes."""

from __future__ import annotations

import logging
from pathlib import Path

from lmsearch.engine.best import FILE as BEST
from lmsearch.engine.checkpoint import CHECKPOINT, MODEL, fingerprint, weights_file
from lmsearch.engine.distributed import World
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.state import older_states
from lmsearch.engine.warm_start import Start
from lmsearch.reading import object_in
from lmsearch.run_identity import run_digest
from lmsearch.settings.tasks import Retrain
from lmsearch.status import RunStatus
from lmsearch.tasks.parts.restarts import again_in_this_job
from lmsearch.tasks.parts.run_dir import BEGUN_WITH, folder_of
from lmsearch.tasks.parts.runs import read_run

log = logging.getLogger(__name__)


def still_training(init_from: str) -> bool:
    """Tell whether weights are those of a run that has not finished."""
    path = weights_file(Path(init_from))
    run = read_run(path.parent) if path.name in (CHECKPOINT, BEST) else None
    return run is not None and run.state is not RunStatus.FINISHED


def begun_with(run_dir: Path) -> str | None:
    """Return the fingerprint of the weights that the run in a folder began with; None where it is not known or saved nothing."""
    saved = any((run_dir / name).exists() for name in (CHECKPOINT, MODEL)) or older_states(run_dir)
    return object_in(run_dir / BEGUN_WITH).get("fingerprint") if saved else None


def beginning(settings: Retrain, start: Start, *, live: bool, world: World) -> str:
    """Return the fingerprint of the weights that a run starts from or, where these were `live`, has started from.

    Raises LmsearchError where the processes of `world` have read others, because they were written meanwhile.
    """
    now, folder = fingerprint(start.weights), RunDir(folder_of(settings, "retrain"), world)
    world.assert_same(now, what=f"what {start.source} held")
    over = settings.overwrite and not again_in_this_job(folder, f"retrain {run_digest(settings.content)} ")
    before = None if over else begun_with(folder.path)
    if before not in (None, now):
        log.info("%s holds other weights by now; the run goes on with those that it began with", start.source)
    elif live and before is None:
        log.warning("%s is not finished: training starts from the weights that it has by now", start.source)
    return before or now


def note_beginning(run_dir: RunDir, mark: str, *, live: bool) -> None:
    """Write down which weights a run begins with where these are `live`; of an earlier beginning nothing stays."""
    if live:
        run_dir.write_json(BEGUN_WITH, {"fingerprint": mark})
    elif begun_with(run_dir.path) != mark:
        run_dir.remove(BEGUN_WITH)
