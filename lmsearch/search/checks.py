"""Contradictions between the parts of a supernet search, found before anything is written or trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lmsearch.errors import ConfigError
from lmsearch.search.derivation import dominance
from lmsearch.search.derivation.choice import Quota, planned
from lmsearch.search.derivation.kinds import derivation_kind
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.search.supernet.policy import read_shrink

log = logging.getLogger(__name__)


def check_search(options: SearchOptions, quota: Quota, candidates: Sequence[int], *, epochs: int, derivation: str) -> None:
    """Raise ConfigError where samples, stages of shrinking, derivation or the alphas' warm-up do not fit.

    `candidates` counts those of each layer.
    """
    options.branches_per_step(planned(quota, candidates), candidates)
    stages, warm = read_shrink(options.shrink), options.alpha_warmup_epochs
    if stages and stages[0].progress * epochs <= warm:
        raise ConfigError(
            f"search.shrink drops branches at {stages[0].progress:g} of the search, when with search.alpha_warmup_epochs={warm}"
            f" of {epochs} their alphas have not learned yet; drop them later"
        )
    kind, architect = derivation_kind(derivation), options.kind
    if not architect.learns and kind.needs_alphas:
        given = f"search.derivation={derivation} with search.architect={architect.name}"
        raise ConfigError(f"{given}: without alphas none is more probable; use halving")
    if not kind.takes_budget and quota.budget is not None:
        raise ConfigError(
            f"budget={quota.budget} with search.derivation={derivation}, which takes keep; "
            "search.derivation=perturbation takes a budget"
        )
    if options.dominance is not None:
        check_dominance(options.dominance, planned(quota, candidates), candidates, epochs=epochs)
    if warm >= epochs:
        raise ConfigError(f"search.alpha_warmup_epochs={warm} leaves none of the {epochs} epochs to the alphas")


def check_dominance(level: float, keep: Sequence[int], candidates: Sequence[int], *, epochs: int) -> None:
    """Warn where a search never looks for a dominant direction, or has too few choices to find one."""
    if not any(dominance.due(epoch, epochs) for epoch in range(epochs)):
        log.warning("search.dominance=%g has no effect: a search of so few epochs (%d) has no look", level, epochs)
    elif dominance.least_level(keep, candidates) > level:
        log.warning("search.dominance=%g has no effect: %s", level, dominance.why_none(keep, candidates))
