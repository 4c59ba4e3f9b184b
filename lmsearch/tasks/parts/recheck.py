"""The fresh supernets of a search's recheck: trained in its run directory, and read again by `lmsearch derive`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import takewhile
from pathlib import Path

import torch
from torch import nn

from lmsearch.engine.checkpoint import ModelSpec, fingerprint, load_checkpoint, load_model
from lmsearch.engine.distributed import World
from lmsearch.engine.progress import TrainingProgress
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.state import Keeping, RunState, older_states
from lmsearch.engine.stored import needed
from lmsearch.errors import CheckpointError
from lmsearch.search.session import SearchSession
from lmsearch.search.trust.recheck import SUPERNETS

log = logging.getLogger(__name__)


def file_of(number: int) -> str:
    """Return the name of the file that keeps a fresh supernet."""
    return f"recheck{number}.pt"


def trained_supernets(
    session: SearchSession, run_dir: RunDir, spec: ModelSpec, digest: str, *, keeping: Keeping
) -> Iterator[nn.Module]:
    """Train and yield one fresh supernet after the other, continuing where run_dir left off.

    They learn from the samples that the search's weights learned from, in the same order. What another search left in
    run_dir is not taken for theirs: `digest` is that of this one. Their states are kept as `keeping` says.
    """
    return session.recheck(partial(train_supernet, run_dir=run_dir, spec=spec, digest=digest, keeping=keeping))


def train_supernet(number: int, fresh: SearchSession, *, run_dir: RunDir, spec: ModelSpec, digest: str, keeping: Keeping) -> None:
    """Train the fresh supernet of this number, continuing where run_dir left off; see trained_supernets."""
    file, epochs, steps = file_of(number), fresh.recipe.epochs, fresh.timing.steps_per_epoch
    if run_dir.world.main:
        make_way(run_dir, file, {"digest": digest, "epochs": epochs})
    run_dir.world.wait()
    extra = {"relaxation": fresh.policy.relaxation.name, "epochs": epochs}
    state = RunState(run_dir, fresh.parts(), spec=spec, run=digest, extra=extra, file=file, keeping=keeping)
    start = state.restore()
    progress = TrainingProgress(
        f"recheck {number + 1}/{SUPERNETS}",
        total_steps=epochs * steps,
        done_steps=start.steps(steps),
        metric=fresh.objective.metric.in_training,
        later=(SUPERNETS - 1 - number) * epochs * steps,
        processes=run_dir.world.size,
    )
    with progress:
        fresh.train(start=start, state=state, on_step=progress.step)


def make_way(run_dir: RunDir, file: str, mine: Mapping[str, object]) -> None:
    """Remove states of a fresh supernet that do not say what is `mine` and, where none does, those that cannot be read."""
    damaged: dict[str, CheckpointError] = {}
    for name in (file, *(name for _, name in older_states(run_dir.path, file))):
        if not (run_dir / name).exists():
            continue
        try:
            state = load_checkpoint(run_dir / name)
        except CheckpointError as error:
            damaged[name] = error
            continue
        if mine.items() <= state.items():
            return  # the older ones are of the same training
        run_dir.remove(name)
    for name, damage in damaged.items():
        log.warning("%s; this supernet of the recheck is trained again", damage)
        run_dir.remove(name)


def fresh_state(path: Path) -> dict:
    """Return what a fresh supernet's file holds; raise CheckpointError where an entry that it needs is missing."""
    state = load_checkpoint(path)
    for name in ("epoch", "epochs", "digest", "model", "spec"):
        needed(state, name, source=str(path))
    return state


def read_alike(supernets: Iterator[nn.Module], world: World) -> Iterator[nn.Module]:
    """Yield supernets that every process has read; raise LmsearchError where one has read another, or none."""
    while True:
        supernet = next(supernets, None)
        world.assert_same(fingerprint({} if supernet is None else supernet.state_dict()), what="a supernet of the recheck")
        if supernet is None:
            return
        yield supernet


def stored_supernets(
    folder: Path, spec: ModelSpec, digest: str | None, *, backend: str, device: torch.device
) -> Iterator[nn.Module]:
    """Yield the fresh supernets that the search with this digest left in its folder.

    They end before the first that is not there, not done, not of the same candidates in the same order, or not as long as the
    one before: a recheck that ended early leaves no second one, or that of an earlier, shorter recheck. One that cannot be read
    is told of, and ends them too.
    """
    lengths = set()
    for path in takewhile(Path.exists, (folder / file_of(number) for number in range(SUPERNETS))):
        try:
            state = fresh_state(path)
        except CheckpointError as error:
            log.warning(
                "%s; nothing is rechecked without it; the search given again with search.recheck above 0 trains it anew", error
            )
            return
        lengths.add(state["epochs"])
        directions = ModelSpec.from_dict(state["spec"], source=str(path)).directions
        done = state["epoch"] >= state["epochs"] and state["digest"] == digest
        if len(lengths) > 1 or not done or directions != spec.directions:
            return
        yield load_model(spec, state["model"], source=str(path), backend=backend).to(device).eval()
