"""What a search may choose from: the supernet's description, the search space and how many directions each layer keeps."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmsearch.data import SearchLoaders, Source, search_loaders
from lmsearch.data.info import Stream
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError, SearchSpaceError
from lmsearch.scan.directions import label
from lmsearch.search.derivation.choice import Quota, check_budget, planned
from lmsearch.search.derivation.kinds import derivation_kind
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.supernet.network import layer_candidates
from lmsearch.search_space import SearchSpace, load_search_space, resolve_keep
from lmsearch.settings.tasks import Searching
from lmsearch.tasks.parts.build import check_classes, check_training, layer_grids, model_spec

log = logging.getLogger(__name__)
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Candidates:
    """`spec` is the supernet, which holds every layer's candidates; `quota` says how many directions are kept."""

    spec: ModelSpec
    space: SearchSpace
    quota: Quota

    @property
    def keep(self) -> tuple[int, ...]:
        """Directions that each layer is expected to keep: what samples and shrinking go by."""
        return planned(self.quota, [len(layer) for layer in self.spec.directions])


def find_candidates(
    settings: Searching, source: Source, *, space: SearchSpace | None = None, budget: int | None = None
) -> Candidates:
    """Put search space (None: the one that the settings name), model and grids together.

    Every mistake in them and in the recipe is found here, before anything is written.
    """
    check_classes(settings.optim, source)
    space = space or load_search_space(settings.search_space)
    grids, padding = layer_grids(settings, source.info)
    distinct_on = grids if settings.search.deduplicate else None
    candidates = layer_candidates(space, grids, padding=padding, deduplicate=settings.search.deduplicate)
    for layer, (mine, grid) in enumerate(zip(candidates, grids, strict=True)):
        if left_out := [d for d in space.layer_candidates(len(grids))[layer] if d not in mine]:
            log.info(
                "layer %d: %s visit its %dx%d tokens like another candidate; searched once",
                layer,
                ", ".join(map(label, left_out)),
                *grid,
            )
    if budget is None:
        quota = Quota(keep=resolve_keep(space, settings.keep, len(grids), grids=distinct_on, padding=padding))
    else:
        quota = budget_of(budget, settings.keep, candidates)
    spec = model_spec(settings, source.info, candidates, merge="weighted")
    if (partial := getattr(settings.search, "partial_channels", 1)) != 1:
        spec = replace(spec, options=spec.options | {"partial_channels": partial})
    check_training(settings, spec)
    return Candidates(spec, space, quota)


def budget_of(budget: int, keep: int | list[int] | None, candidates: Sequence[Sequence[str]]) -> Quota:
    """Return the quota of a total budget; raise SearchSpaceError where it contradicts keep or cannot be shared."""
    if keep is not None:
        raise SearchSpaceError(
            f"budget={budget} and keep={keep} contradict each other: budget is the total over all layers; "
            "set keep=null, or leave budget out"
        )
    check_budget(budget, [len(names) for names in candidates])
    return Quota(budget=budget)


def search_data(settings: Searching, source: Source, precision: Precision, *, world: World = SINGLE) -> SearchLoaders:
    """Return the batches for weights and alphas, and the held-out samples, of which each process of `world` has a part."""
    return search_loaders(
        source,
        holdout=held_out_share(settings, source),
        batch_size=settings.batch_size,
        seed=settings.seed,
        world=world,
        num_workers=settings.readers,
        pin_memory=precision.device.type == "cuda",
    )


def held_out_share(settings: Searching, source: Source) -> float:
    """Return the share of the training set that is held out: what is set or, where nothing is, what the derivation can use."""
    if settings.search.holdout is not None:
        return settings.search.holdout
    size = None if isinstance(source.train, Stream) else source.train.epoch_size(1)
    sample_bytes = FLOAT_BYTES * source.info.in_chans * math.prod(source.info.img_size)
    kind = derivation_kind(settings.supernet.derivation)
    return kind.share_of(size, batch_size=settings.batch_size, sample_bytes=sample_bytes)


def hand_made_choice(space: SearchSpace, names: Sequence[str], keep: Sequence[int]) -> Architecture:
    """Return the first keep[l] of the named directions for layer l, all of them where fewer are named.

    Raises ConfigError where one is named twice, DirectionError for what is no direction.
    """
    directions = [space.direction(name) for name in names]
    if repeated := [name for name, direction in zip(names, directions, strict=True) if directions.count(direction) > 1]:
        raise ConfigError(f"hand_made=[{', '.join(names)}] names one direction twice: {', '.join(repeated)}")
    return tuple(tuple(directions[:k]) for k in keep)
