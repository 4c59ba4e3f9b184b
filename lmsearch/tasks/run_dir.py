"""Run directories: one folder per run, claimed by its configuration, so that the same command continues it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lmsearch.config import default_run_dir, run_digest
from lmsearch.engine.log import environment, write_json
from lmsearch.errors import ConfigError

MARKER = "run_id.txt"  # in the folder of a run that its configuration has claimed


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


def claim_run_dir(cfg: DictConfig, task: str, content: object) -> Path:
    """Return the folder of a training run, with config.yaml and environment.json in it.

    A run is what its configuration and `content` (JSON values: the directions that its files named, the weights that it
    starts from) say, but for how many seeds or trials it has: with more of them it goes on. A folder that holds a checkpoint
    of the same run is continued; one with a checkpoint, or the genotype of a search, of another run is refused unless
    overwrite=true, so that nothing is lost by a mistyped command.
    """
    run_dir = open_run_dir(cfg, task)
    inside = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    identity = f"{task} {run_digest(cfg)} {inside}"
    marker = run_dir / MARKER
    checkpoints = [
        *run_dir.glob("checkpoint.pt"),
        *run_dir.glob("*-s*/checkpoint.pt"),
        *run_dir.glob("trials.journal"),
        *run_dir.glob("s[0-9]*/checkpoint.pt"),
    ]  # of this run, of a comparison's arms, of a discrete search, of a search's seeds
    before = marker.read_text().strip() if marker.exists() else ""
    same = before == identity
    result = run_dir / "genotype.json"
    searched = before.startswith("search ") and result.exists()  # else put there for other tasks to read
    if (checkpoints or searched) and not same and not cfg.overwrite:
        raise ConfigError(
            f"{run_dir} holds another run; choose another run_dir=, or overwrite=true to start over in it"
        )
    if cfg.overwrite:
        fresh = (*run_dir.glob("recheck*.pt"), *run_dir.glob("s[0-9]*/recheck*.pt"))
        for path in (*checkpoints, *fresh, *run_dir.glob("s[0-9]*/genotype.json")):
            path.unlink()
        if searched:
            result.unlink()
    marker.write_text(identity + "\n")
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    write_json(run_dir / "environment.json", environment(cfg.seed))
    return run_dir
