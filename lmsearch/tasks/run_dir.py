"""Run directories: one folder per run, claimed by its configuration, so that the same command continues it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lmsearch.config import default_run_dir, run_digest
from lmsearch.engine.log import environment
from lmsearch.errors import ConfigError, GenotypeError, short
from lmsearch.files import write_json, write_text
from lmsearch.genotype import FILE, Genotype, load_genotype
from lmsearch.reading import read_text

MARKER = "run_id.txt"  # in the folder of a run that its configuration has claimed
WORK = ("checkpoint.pt", "trials.journal")  # what a run cannot lose without losing work


@dataclass(frozen=True)
class Claim:
    """What a marker says: the run that a folder holds, and the folders inside that hold its seeds or arms."""

    run: str = ""  # task, digest of its configuration, digest of what its files held
    parts: tuple[str, ...] = ()

    @classmethod
    def read(cls, run_dir: Path) -> Claim:
        """Return the claim on a folder; one without a marker has none. Raises ConfigError where the marker is damaged."""
        marker = run_dir / MARKER
        lines = read_text(marker, where=str(marker), error=ConfigError).splitlines() if marker.exists() else []
        if outside := [name for name in lines[1:] if Path(name).is_absolute() or ".." in Path(name).parts]:
            raise ConfigError(f"{marker}: {short(outside[0])} is no folder inside, so the file is damaged")
        return cls(lines[0], tuple(lines[1:])) if lines else cls()

    def write(self, run_dir: Path) -> None:
        """Write the marker, whole or not at all."""
        write_text(run_dir / MARKER, "\n".join((self.run, *self.parts)) + "\n")

    @property
    def task(self) -> str:
        """The task of the run, "" for none."""
        return self.run.partition(" ")[0]

    def folders(self, run_dir: Path) -> list[Path]:
        """Return the folder and those of the parts."""
        return [run_dir, *(run_dir / name for name in self.parts)]


def open_run_dir(
    cfg: DictConfig, task: str, *, data: str | None = None, model: str | None = None, seed: int | None = None
) -> Path:
    """Create the output folder of a task that does not train, and return it."""
    run_dir = Path(cfg.run_dir) if cfg.run_dir else default_run_dir(task, cfg, data=data, model=model, seed=seed)
    make_folder(run_dir)
    return run_dir


def make_folder(path: Path, *, key: str = "run_dir") -> None:
    """Create a folder and its parents; raise ConfigError, naming the configuration key, where it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".writable").touch()
        (path / ".writable").unlink()
    except OSError as error:
        raise ConfigError(f"{key}={str(path)!r} cannot be written ({error.strerror})") from error


def claim_run_dir(
    cfg: DictConfig, task: str, content: object, *, parts: Sequence[str] = (), genotype: Genotype | None = None
) -> Path:
    """Return the folder of a training run, with config.yaml and environment.json in it.

    A run is what its configuration and `content` (JSON values: the directions that its files named, the weights that it
    starts from) say, but for how many seeds or trials it has: with more of them it goes on. `parts` names the folders inside
    that hold its seeds or arms, `genotype` is what it writes to genotype.json (a search cannot know yet).

    Raises ConfigError where something would be lost, unless overwrite=true, which starts the run over.
    """
    run_dir = open_run_dir(cfg, task)
    inside = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    before, mine = Claim.read(run_dir), Claim(f"{task} {run_digest(cfg)} {inside}", tuple(parts))
    unclaimed = tuple(name for name in mine.parts if name not in before.parts and not (run_dir / name / MARKER).exists())
    held = replace(before, parts=before.parts + unclaimed)  # what is there would be taken for this run's
    if cfg.overwrite:
        start_over(run_dir, held)
    else:
        refuse_loss(run_dir, held, mine, genotype)
    mine.write(run_dir)
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    write_json(run_dir / "environment.json", environment(cfg.seed))
    return run_dir


def refuse_loss(run_dir: Path, before: Claim, mine: Claim, genotype: Genotype | None) -> None:
    """Raise ConfigError where a run would write over the work or the genotype.json of another one, or its own of more seeds."""
    result = run_dir / FILE
    if before.run == mine.run:
        if more := [name for name in before.parts if name not in mine.parts and (run_dir / name).exists()]:
            raise ConfigError(f"{run_dir} holds more seeds already ({', '.join(more)}); choose another run_dir= for fewer")
        return
    searched = before.task == "search" and result.exists()  # else put there for other tasks to read
    works = any((folder / name).exists() for folder in before.folders(run_dir) for name in WORK)
    if works or searched or before.task == "sweep":  # whose trials may be in a database
        raise ConfigError(f"{run_dir} holds another run; choose another run_dir=, or overwrite=true to start over in it")
    copied = before.task == "retrain"  # by a retraining that never saved an epoch
    writes = mine.task == "search" or (genotype is not None and not holds(result, genotype))
    if writes and result.exists() and not copied:
        raise ConfigError(f"{result} would be lost; choose another run_dir=, or overwrite=true to replace it")


def start_over(run_dir: Path, before: Claim) -> None:
    """Delete the work of the run that a folder holds, and what a search found."""
    for folder in before.folders(run_dir):
        for path in (*(folder / name for name in WORK), *folder.glob("recheck*.pt")):
            path.unlink(missing_ok=True)
        if before.task == "search":
            (folder / FILE).unlink(missing_ok=True)


def holds(path: Path, genotype: Genotype) -> bool:
    """Tell whether a genotype.json is there and holds just this genotype."""
    try:
        return load_genotype(path) == genotype
    except GenotypeError:
        return False
