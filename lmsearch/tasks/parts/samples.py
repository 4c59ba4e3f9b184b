"""Which samples a run was begun on: it goes on with no others, and what a search held out stays held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from lmsearch.data import Source
from lmsearch.data.manifest import Manifest
from lmsearch.engine.digest import digest_of
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import CheckpointError, ConfigError
from lmsearch.reading import read_json

FILE = "manifest.json"  # in the folder of a run
TRAINING = "training"  # its name in it
SAMPLES = "samples"  # key of the training samples in the state of a search
ON_SAMPLES: ContextVar[Callable[[Mapping[str, Manifest]], None] | None] = ContextVar(
    "what hears, before a run begins, on which samples", default=None
)


def note_samples(run_dir: RunDir, source: Source, *, begun: bool) -> None:
    """Write down the training and validation samples of a run; what it has `begun` goes on with the same ones.

    Raises ConfigError where they are others. Runs of before, which did not write them down, go on. A sweep may refuse those that
    its other trials were not begun on.
    """
    path = run_dir / FILE
    mine = {TRAINING: training_samples(source), "validation": Manifest.of(source.val, source.info)}
    told = {name: manifest.to_dict() for name, manifest in mine.items()}
    run_dir.world.assert_same(digest_of(told), what="the list of training and validation samples")
    if begun and path.exists():
        known = read_json(path, error=ConfigError)
        for name, manifest in mine.items():
            there = known.get(name) if isinstance(known, dict) else known
            if change := Manifest.from_dict(there, source=str(path), error=ConfigError).change_to(manifest):
                raise ConfigError(
                    f"{run_dir}: the {name} samples are not those that the run was begun on ({change}); put them back, or choose"
                    " another run_dir= or overwrite=true to start over with these"
                )
    if (hears := ON_SAMPLES.get()) is not None:
        hears(mine)
    run_dir.world.wait()  # until all have read
    run_dir.write_json(FILE, told)


def searched_on(source: Source) -> dict[str, Any]:
    """Return what the state of a search tells of the samples of which it holds some out."""
    return {SAMPLES: training_samples(source).to_dict()}


def training_samples(source: Source) -> Manifest:
    """Return the manifest of the training samples; of millions it takes seconds, so a source remembers it."""
    if TRAINING not in source.remembered:
        source.remembered[TRAINING] = Manifest.of(source.train, source.info)
    return source.remembered[TRAINING]


def check_held_out(state: Mapping[str, Any], source: Source, *, where: str) -> None:
    """Raise CheckpointError where the training samples are not those of the search whose state this is.

    Then some that trained its supernet would be held out. States of before, which do not tell, pass.
    """
    if SAMPLES not in state:
        return
    change = Manifest.from_dict(state[SAMPLES], source=where, error=CheckpointError).change_to(training_samples(source))
    if change:
        raise CheckpointError(
            f"{where}: the training samples are not those of its search ({change}); images that trained would be held out:"
            " put them back, or search anew"
        )
