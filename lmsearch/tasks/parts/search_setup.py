"""What a search is about: its candidates, and the options that say how the supernet is searched."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lmsearch.data import Source
from lmsearch.errors import ConfigError
from lmsearch.search.checks import check_search
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.settings.search import Supernet
from lmsearch.settings.tasks import Searching
from lmsearch.tasks.parts.candidates import Candidates, find_candidates, held_out_share


@dataclass(frozen=True)
class SearchSetup(Candidates):
    """What will be searched, and the options that say how."""

    options: SearchOptions
    holdout: float  # share of the training set

    @property
    def running(self) -> tuple[int, ...]:
        """Branches of each layer that run at a time, or may do so once alphas weigh them."""
        if self.options.dominance is not None:
            return tuple(len(layer) for layer in self.spec.directions)
        return self.options.branches_at_once(self.keep, [len(layer) for layer in self.spec.directions])


def search_setup(settings: Searching, source: Source, *, budget: int | None = None) -> SearchSetup:
    """Put search space, model and options together; every mistake in them is found here, before anything is written."""
    found = find_candidates(settings, source, budget=budget)
    options, holdout = search_options(settings.supernet), held_out_share(settings, source)
    setup = SearchSetup(found.spec, found.space, found.quota, options, holdout)
    counts = [len(layer) for layer in setup.spec.directions]
    check_search(setup.options, setup.quota, counts, epochs=settings.epochs, derivation=settings.supernet.derivation)
    if settings.precision == "fp16" and not setup.options.kind.fp16:
        how = setup.options.architect
        raise ConfigError(f"precision=fp16 with search.architect={how}: held-out gradients would underflow; use bf16")
    return setup


def search_options(search: Supernet) -> SearchOptions:
    """Return the keys that say how the supernet is searched."""
    return SearchOptions(**{f.name: getattr(search, f.name) for f in fields(SearchOptions)})
