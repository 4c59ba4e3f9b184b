"""The batch size of a preset where torchrun starts processes: they must be able to share it."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from lmsearch.config_presets import split_overrides
from lmsearch.data.order import shared_by
from lmsearch.engine.processes import processes_in_all
from lmsearch.paths import data_dir


def share_batch(cfg: DictConfig, words: Sequence[str]) -> list[str]:
    """Let a configuration have a batch size that all processes can share, and return a line that says so; a given one stays."""
    _, given = split_overrides(words, conf_dir=data_dir("conf"))
    processes, usual = processes_in_all(), cfg.batch_size
    if processes < 2 or "batch_size" in given or usual is None or usual % processes == 0:
        return []
    cfg.batch_size = shared_by(processes, usual)
    return [f"batch_size={cfg.batch_size}, which {processes} processes can share (alone {usual}); optim.lr={cfg.optim.lr} stays"]
