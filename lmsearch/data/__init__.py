"""Data: sources by name, and loaders whose every batch is a function of (seed, epoch, sample), never of process state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from lmsearch.data.batch import Batch, PlainLoader
from lmsearch.data.checks import opening
from lmsearch.data.info import DataInfo, Source
from lmsearch.data.loaders import EvalLoader, Loaders, SearchLoaders, TrainLoader, build_loaders, search_loaders, spread
from lmsearch.data.mixup import mixup_cutmix
from lmsearch.data.predict import load_images
from lmsearch.data.sources.dense import build_dense
from lmsearch.data.sources.digits import build_digits
from lmsearch.data.sources.idx import build_idx
from lmsearch.data.sources.imagefolder import build_imagefolder
from lmsearch.data.sources.planted import build_planted
from lmsearch.data.summary import as_arrays
from lmsearch.errors import DataError, did_you_mean, short

SOURCES: dict[str, Callable[..., Source]] = {
    "dense": build_dense,
    "digits": build_digits,
    "idx": build_idx,
    "imagefolder": build_imagefolder,
    "planted": build_planted,
}
NOT_BUILT = ("sampler", "preset")  # of a run's data: how training draws them, and what the command line called them
TEXTS = ("root", "target", "format", "val_digest", "direction", "task", "memorise", "on_error", "names")

__all__ = [
    "NOT_BUILT",
    "SOURCES",
    "Batch",
    "DataInfo",
    "EvalLoader",
    "Loaders",
    "PlainLoader",
    "SearchLoaders",
    "Source",
    "TrainLoader",
    "as_arrays",
    "build_loaders",
    "build_source",
    "check_described",
    "load_images",
    "mixup_cutmix",
    "options_of",
    "search_loaders",
    "spread",
]


def check_described(options: object) -> None:
    """Raise DataError unless `options` are those of a data source as a run writes them down, its "name" among them."""
    if not isinstance(options, Mapping):
        raise DataError(f"the data source {short(options)} is not an object")
    name = options.get("name")
    if not isinstance(name, str):
        raise DataError(f"the data source's name is {short(name)}; expected text")
    accepted = [*options_of(name), "name", *NOT_BUILT]
    for option, value in options.items():
        if option not in accepted:
            raise DataError(f"data source {name!r} has no option {short(option)}{did_you_mean(str(option), accepted)}")
        if option in TEXTS and value is not None and not isinstance(value, str):
            raise DataError(f"{option} of data source {name!r} is {short(value)}; expected text")


@opening()
def build_source(name: str, **options: object) -> Source:
    """Build the data source `name` with its options; raise DataError for an unknown name or option, or a missing one."""
    accepted = options_of(name)
    for option in options:
        if option not in accepted:
            raise DataError(f"data source {name!r} has no option {option!r}{did_you_mean(option, accepted)}")
    for option, parameter in accepted.items():
        if parameter.default is parameter.empty and options.get(option) is None:
            raise DataError(f"data source {name!r} needs the option {option!r}")
    return SOURCES[name](**options)


def options_of(name: str) -> Mapping[str, inspect.Parameter]:
    """Return the options that the data source `name` takes; raise DataError for an unknown one."""
    if name not in SOURCES:
        raise DataError(f"{short(name)} is not a data source{did_you_mean(str(name), SOURCES)}")
    return inspect.signature(SOURCES[name]).parameters
