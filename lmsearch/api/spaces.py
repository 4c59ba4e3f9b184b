"""space=...: what the mixers of a user's network may choose from."""

from __future__ import annotations

from pathlib import Path

from lmsearch.search_space import SearchSpace, load_search_space

DEFAULT = "localmamba8"


def space_of(given: str | Path | SearchSpace | None) -> SearchSpace:
    """Return a search space by its shipped name or file, a given one itself, or the default."""
    return given if isinstance(given, SearchSpace) else load_search_space(DEFAULT if given is None else given)
