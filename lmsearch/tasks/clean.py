"""lmsearch clean: what of the runs in a folder could go; it goes only with delete=true. What is in use or no run's stays."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from lmsearch.config import settings_of
from lmsearch.engine.checkpoint import CHECKPOINT
from lmsearch.engine.lock import LOCK
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.state import older_states
from lmsearch.errors import InUseError
from lmsearch.files import LEFTOVER
from lmsearch.genotype import FILE
from lmsearch.settings.looking import Clean
from lmsearch.status import RunStatus
from lmsearch.tasks.parts.restarts import FILE as STARTED_OVER
from lmsearch.tasks.parts.run_dir import MARKER, RESULTS, WORK
from lmsearch.tasks.parts.runs import Run, runs_in, state_of
from lmsearch.tasks.status import size_text

RECHECK = re.compile(r"recheck\d+\.pt")  # the state of a network of the recheck
EVENTS = re.compile(r"events\.out\.tfevents\..+")
# What a run that never saved any work may have left; whatever else lies in its folder is the user's.
OF_RUNS = {
    MARKER, FILE, *RESULTS, "config.yaml", "environment.json", "genotype.png", "output.txt", STARTED_OVER,
}  # fmt: skip


@dataclass(frozen=True)
class Going:
    """Files of a run that could go, each under its folder, and why."""

    why: str
    files: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(os.lstat(path).st_size for path in self.files if path.exists())


def run(cfg: DictConfig) -> int:
    """List what could go or, with delete=true, delete it."""
    settings = settings_of(Clean, cfg)
    folder, freed, listed = Path(settings.runs).resolve(), 0, 0
    for one in runs_in(folder):
        if one.owner is not None:
            if one.path == folder:
                raise InUseError(f"{one.path} is in use by {one.owner}")
            print(f"{one.path}: in use by {one.owner}; left alone")
            continue
        for going in could_go(one, one.state):
            listed += 1
            freed += delete(one) if settings.delete else told(one, going)
            if settings.delete:
                break  # all of the run's have gone
    print(closing(settings, listed, freed))
    return 0


def could_go(one: Run, state: RunStatus) -> Iterator[Going]:
    """Yield what of a run nobody needs any more: a failed one without saved work, older checkpoints, leftovers of kills."""
    folders = folders_of(one)
    names = [path for folder in folders for path in files_in(folder)]
    worked = any(path.name in WORK for path in names)
    if state is RunStatus.FAILED and not worked and one.claim.run and one.task != "sweep":  # whose trials may be in a database
        events = [path for folder in folders for path in files_in(folder / "tb") if EVENTS.fullmatch(path.name)]
        yield Going("failed before it saved any work", tuple(path for path in names if path.name in OF_RUNS) + tuple(events))
    if state is RunStatus.FINISHED:
        states = {CHECKPOINT, *(path.name for path in names if RECHECK.fullmatch(path.name))}
        aside = [name for folder in folders for file in states for _, name in older_states(folder, file)]
        if older := tuple(path for path in names if path.name in aside):
            yield Going("older checkpoints of a finished run", older)
        trained = [path for path in names if path.name == "checkpoint.pt" and (path.parent / "model.safetensors").exists()]
        if trained and not one.claim.parts and one.task == "retrain":
            yield Going("the checkpoint of a finished training, whose weights are in model.safetensors", tuple(trained))
    if leftovers := tuple(path for path in names if LEFTOVER.fullmatch(path.name)):
        yield Going("left by a process that was killed while it wrote", leftovers)


def folders_of(one: Run) -> list[Path]:
    """Return the folder of a run and those of its seeds or arms; a link is no folder of it."""
    parts = [one.path / part for part in one.claim.parts]
    return [one.path, *(part for part in parts if part.is_dir() and not part.is_symlink())]


def files_in(folder: Path) -> list[Path]:
    """Return the regular files of a folder itself, none where it is a link or not there."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))


def told(one: Run, going: Going) -> int:
    """Print what could go of a run, and return its bytes."""
    names = ", ".join(str(path.relative_to(one.path)) for path in going.files)
    print(f"{one.path}: {going.why}: {names} ({size_text(going.size)})")
    return going.size


def delete(one: Run) -> int:
    """Delete what could go of a run while nobody else writes there, and return how many bytes that were."""
    freed, folders = 0, [RunDir(path) for path in folders_of(one)]
    with ExitStack() as locks:
        try:
            for folder in folders:
                locks.enter_context(folder.locked())
        except InUseError as error:
            print(f"{error}; left alone")
            return 0
        for going in could_go(one, state_of(one.path, one.task, one.claim)):  # it may have gone on since it was listed
            size = going.size
            for path in going.files:
                RunDir(path.parent).remove(path.name)
            freed += size
            print(f"{one.path}: deleted {len(going.files)} files ({size_text(size)}): {going.why}")
        if not (one.path / MARKER).exists():
            remove_empty(folders)
    return freed


def remove_empty(folders: Sequence[RunDir]) -> None:
    """Delete the folders of a run that is gone, as far as nothing else lies in them."""
    for folder in reversed(folders):
        folder.inside("tb").remove_if_empty()
        folder.remove(LOCK)
        if not folder.remove_if_empty():
            left = ", ".join(sorted(entry.name for entry in os.scandir(folder.path)))
            print(f"{folder}: left, since it also holds {left}")


def closing(settings: Clean, listed: int, freed: int) -> str:
    """Return the last line: what it comes to, and what to do next."""
    if settings.delete:
        return f"{size_text(freed)} deleted"
    if not listed:
        return f"nothing in {settings.runs} could go"
    return f"{size_text(freed)} could go; nothing was deleted. next: the same command with delete=true"
