"""What a search may choose from: the supernet's description, the search space and how many directions each layer keeps."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from omegaconf import DictConfig

from lmsearch.data import Source
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.scan_orders import label
from lmsearch.search.supernet import layer_candidates
from lmsearch.search_space import SearchSpace, load_search_space, resolve_keep
from lmsearch.tasks.build import layer_grids, model_spec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidates:
    """`spec` is the supernet, which holds every layer's candidates; `keep` has one number per layer."""

    spec: ModelSpec
    space: SearchSpace
    keep: tuple[int, ...]


def find_candidates(cfg: DictConfig, source: Source) -> Candidates:
    """Put search space, model and grids together; every mistake in them is found here, before anything is written."""
    space = load_search_space(cfg.search_space)
    grids, padding = layer_grids(cfg, source.info)
    keep = resolve_keep(space, cfg.keep, len(grids), grids=grids if cfg.search.deduplicate else None, padding=padding)
    candidates = layer_candidates(space, grids, padding=padding, deduplicate=cfg.search.deduplicate)
    for layer, (mine, grid) in enumerate(zip(candidates, grids, strict=True)):
        if left_out := [d for d in space.layer_candidates(len(grids))[layer] if d not in mine]:
            log.info(
                "layer %d: %s visit its %dx%d tokens like another candidate; searched once",
                layer,
                ", ".join(map(label, left_out)),
                *grid,
            )
    return Candidates(model_spec(cfg, source.info, candidates, merge="mixed"), space, keep)
