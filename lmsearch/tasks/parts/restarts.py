"""Jobs that start again by themselves: what `overwrite=true` has started over once goes on from then on.

torchrun starts all processes again where one dies, SLURM queues a job again. Neither may delete what the job did before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import FileError
from lmsearch.reading import read_text

FILE = "started_over.txt"  # in the folder of a run: which job has started what over, a line each
log = logging.getLogger(__name__)


def starts_over(run_dir: RunDir, what: str, *, asked: bool) -> bool:
    """Tell, alike in all processes, whether to start `what` over in a folder where that is `asked`: once in a job."""
    if not asked:
        return False
    world = run_dir.world
    lines = _lines(run_dir) if world.main else []  # before the others may meet what it deletes
    if not world.any(any(f"{job} {what}" in lines for job, again in jobs(world).items() if again)):
        return True
    log.info("overwrite=true has started this run over already; after the restart of the job it goes on")
    return False


def again_in_this_job(run_dir: RunDir, beginning: str) -> bool:
    """Tell whether this job, started again, has started over in a folder what begins with these words."""
    lines, mine = _lines(run_dir), [job for job, again in jobs(run_dir.world).items() if again]
    return any(line.startswith(f"{job} {beginning}") for line in lines for job in mine)


def note_start(run_dir: RunDir, what: str) -> None:
    """Write down that this job has started `what` over in a folder; what other jobs did is forgotten."""
    mine = jobs(run_dir.world)
    before = [line for line in _lines(run_dir) if line.startswith(tuple(f"{job} " for job in mine))]
    if mine:
        run_dir.write(FILE, "".join(f"{line}\n" for line in dict.fromkeys([*before, *(f"{job} {what}" for job in mine)])))
    else:
        run_dir.remove(FILE)


def jobs(world: World = SINGLE, environment: Mapping[str, str] = os.environ) -> dict[str, bool]:
    """Return the names of the jobs that this process belongs to, each with whether it may have been started before.

    A SLURM job may hold commands that someone types one after the other, and torchrun's own count knows one machine alone.
    """
    found = {f"torchrun:{world.call}": True} if world.call else {}
    if "TORCHELASTIC_RUN_ID" in environment:
        name = f"{environment['TORCHELASTIC_RUN_ID']}:{environment.get('MASTER_PORT', '')}"
        found[f"torchrun:{name}"] = _count(environment, "TORCHELASTIC_RESTART_COUNT") > 0
    if "SLURM_JOB_ID" in environment:
        name = f"{environment.get('SLURM_CLUSTER_NAME', '')}:{environment['SLURM_JOB_ID']}"
        found[f"slurm:{name}"] = _count(environment, "SLURM_RESTART_COUNT") > 0
    return found


def _count(environment: Mapping[str, str], name: str) -> int:
    """Return how often a job was started again, as far as a variable tells."""
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else 0


def _lines(run_dir: RunDir) -> list[str]:
    """Return the lines of the file; none where it is not there, or damaged."""
    path = run_dir / FILE
    if not path.is_file():
        return []
    try:
        return read_text(path, where=str(path), error=FileError).splitlines()
    except FileError:
        return []
