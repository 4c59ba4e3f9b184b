"""Run directories: one folder per run, claimed by its configuration, so that the same command continues it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lmsearch.config import default_run_dir, run_digest
from lmsearch.engine.log import environment, write_json
from lmsearch.errors import ConfigError, GenotypeError
from lmsearch.genotype import Genotype, load_genotype

MARKER = "run_id.txt"  # in the folder of a run that its configuration has claimed
UNKNOWN = object()  # a genotype that a search has yet to find
PARTS = {"search": r"s\d+", "compare": r".+-s\d+"}  # folders inside that of a run, of its seeds or arms


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


def claim_run_dir(cfg: DictConfig, task: str, content: object, *, genotype: Genotype | object | None = None) -> Path:
    """Return the folder of a training run, with config.yaml and environment.json in it.

    `genotype` is what the run will write to genotype.json: UNKNOWN where it cannot know yet, None where it writes none.

    A run is what its configuration and `content` (JSON values: the directions that its files named, the weights that it
    starts from) say, but for how many seeds or trials it has: with more of them it goes on. A folder that holds a checkpoint
    of the same run is continued; one with a checkpoint of another run, or with a genotype.json that would be lost, is refused
    unless overwrite=true, so that nothing is lost by a mistyped command.
    """
    run_dir = open_run_dir(cfg, task)
    inside = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    identity = f"{task} {run_digest(cfg)} {inside}"
    marker = run_dir / MARKER
    before = marker.read_text().strip() if marker.exists() else ""
    folders = [run_dir, *parts_of(run_dir, before.partition(" ")[0])]
    same, result = before == identity, run_dir / "genotype.json"
    held = [f / name for f in folders for name in ("checkpoint.pt", "trials.journal") if (f / name).exists()]
    searched = before.startswith("search ") and result.exists()  # else put there for other tasks to read
    if not same and not cfg.overwrite:
        if held or searched or before.startswith("sweep "):
            raise ConfigError(f"{run_dir} holds another run; choose another run_dir=, or overwrite=true to start over in it")
        copied = before.startswith("retrain ")  # by a retraining that never saved an epoch
        if genotype is not None and result.exists() and not copied and not holds(result, genotype):
            raise ConfigError(f"{result} would be lost; choose another run_dir=, or overwrite=true to replace it")
    if cfg.overwrite:
        fresh = [path for folder in folders for path in folder.glob("recheck*.pt")]
        for path in (*held, *fresh, *(f / "genotype.json" for f in folders[1:]), *([result] if searched else [])):
            path.unlink(missing_ok=True)
    marker.write_text(identity + "\n")
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    write_json(run_dir / "environment.json", environment(cfg.seed))
    return run_dir


def refuse_fewer(cfg: DictConfig, run_dir: Path, name: str, part: str) -> None:
    """Raise ConfigError where the run has finished seeds beyond those asked for: their summary would be written over.

    A finished seed has a file `name` in its folder, whose name is `part` and the seed.
    """
    beyond = cfg.seed + cfg.seeds
    if (run_dir / f"{part}{beyond}" / name).exists():
        raise ConfigError(f"seeds={cfg.seeds}: {run_dir} holds more already; choose another run_dir= for fewer")


def holds(path: Path, genotype: Genotype | object) -> bool:
    """Tell whether a genotype.json holds just this genotype."""
    try:
        return load_genotype(path) == genotype
    except GenotypeError:
        return False


def parts_of(run_dir: Path, task: str) -> list[Path]:
    """Return the folders of the seeds of a search, or of the arms of a comparison, that run_dir holds the run of."""
    if task not in PARTS:
        return []
    return sorted(path for path in run_dir.iterdir() if path.is_dir() and re.fullmatch(PARTS[task], path.name))
