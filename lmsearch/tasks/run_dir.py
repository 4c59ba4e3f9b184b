"""Run directories: one folder per run, claimed by its configuration, so that the same command continues it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lmsearch.config import config_digest, default_run_dir
from lmsearch.engine.log import environment, write_json
from lmsearch.errors import ConfigError


def open_run_dir(cfg: DictConfig, task: str, *, data: str | None = None, model: str | None = None) -> Path:
    """Create the output folder of a task that does not train, and return it."""
    run_dir = Path(cfg.run_dir) if cfg.run_dir else default_run_dir(task, cfg, data=data, model=model)
    make_folder(run_dir)
    return run_dir


def make_folder(path: Path) -> None:
    """Create a folder and its parents; raise ConfigError where that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run_dir={str(path)!r} cannot be created ({error.strerror})") from error


def claim_run_dir(cfg: DictConfig, task: str) -> Path:
    """Return the folder of a training run, with config.yaml and environment.json in it.

    A folder that holds a run of the same configuration is continued; one that holds another run is refused unless
    overwrite=true, so that nothing is lost by a mistyped command.
    """
    run_dir = open_run_dir(cfg, task)
    digest = f"{task} {config_digest(cfg)}"
    marker = run_dir / "run_id.txt"
    if marker.exists() and marker.read_text().strip() != digest:
        if not cfg.overwrite:
            raise ConfigError(
                f"{run_dir} holds a run of another configuration; choose another run_dir=, or overwrite=true"
            )
        for stale in ("checkpoint.pt", "metrics.jsonl"):
            (run_dir / stale).unlink(missing_ok=True)
    elif cfg.overwrite:
        (run_dir / "checkpoint.pt").unlink(missing_ok=True)
    marker.write_text(digest + "\n")
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    write_json(run_dir / "environment.json", environment(cfg.seed))
    return run_dir
