"""What the trials of a sweep were begun on: what its files held, and the samples. Trials on others are not comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import optuna
from optuna.trial import TrialState

from lmsearch.data.manifest import DIGITS, Manifest
from lmsearch.engine.checkpoint import fingerprint, read_model
from lmsearch.errors import LmsearchError, SweepError
from lmsearch.genotype import load_genotype
from lmsearch.reading import user_path
from lmsearch.scan.directions import former_names
from lmsearch.search_space import load_search_space
from lmsearch.sweep.study import FAILED, Sweep, find_study
from lmsearch.trials.patience import patiently

FILES = "files"  # attribute of a study: a digest of what each file holds that its sweep names
SAMPLES = "samples "  # begins the names of attributes: of every data configuration, number and digest by set
ON = "put back what was there, or choose another run_dir=, or overwrite=true to start over"


def _searched(name: str) -> object:
    """Return what a search space decides."""
    space = load_search_space(name)
    return [space.per_layer or space.candidates, space.keep]


def _weights(source: str) -> object:
    """Return a digest of weights."""
    return fingerprint(read_model(user_path(source))[1])


READ: dict[str, Callable[[str], object]] = {  # what of the file that a key names makes a trial another one
    "genotype": lambda source: load_genotype(source).directions,
    "search_space": _searched,
    "init_from": _weights,
    "checkpoint": _weights,
}


def files_of(sweep: Sweep) -> dict[str, str]:
    """Return a digest of what each file holds that a sweep names, by its word; what cannot be read here has none."""
    drawn = [parameter.word(value) for key, parameter in sweep.parameters.items() if key in READ for value in parameter.probes()]
    found: dict[str, str] = {}
    for word in (*sweep.overrides, *drawn):
        key, _, value = word.partition("=")
        if key in READ and value != "null":
            with suppress(LmsearchError):  # of which the trials will tell
                found[word] = _digest(former_names(READ[key](value)))
    return found


def check_files(study: optuna.Study, sweep: Sweep, files: Mapping[str, str]) -> None:
    """Write down what the files of a new study hold; raise SweepError where trials were begun on something else.

    Studies of before, which did not write it down, go on.
    """
    known = study.user_attrs.get(FILES) or {}
    if not any(t.state != TrialState.FAIL and FAILED not in t.user_attrs for t in study.get_trials(deepcopy=False)):
        for name in [name for name, value in study.user_attrs.items() if name.startswith(SAMPLES) and value is not None]:
            study.set_user_attr(name, None)
        known = {}
    if other := [word for word, digest in files.items() if known.get(word, digest) != digest]:
        raise SweepError(f"{other[0]} holds something else now than the trials of study {sweep.study!r} were begun on; {ON}")
    if files.keys() - known.keys():
        study.set_user_attr(FILES, {**files, **known})


def check_samples(sweep: Sweep, data: Mapping[str, Any], manifests: Mapping[str, Manifest]) -> None:
    """Write down the samples of the first trial on `data`, a configuration; raise SweepError where a later one has others."""
    study = patiently(partial(find_study, sweep))
    if study is None:
        raise SweepError(f"study {sweep.study!r} was deleted")
    name, mine = f"{SAMPLES}{_digest(data)}", {kind: [m.number, _digest(m.to_dict())] for kind, m in manifests.items()}
    known = study.user_attrs.get(name)
    if known is None:
        patiently(partial(study.set_user_attr, name, mine))
    elif other := [kind for kind in mine if known.get(kind, mine[kind]) != mine[kind]]:
        (had, _), (has, _) = known[other[0]], mine[other[0]]
        numbers = f"{had} then, {has} now" if had != has else f"{has} then and now, but others"
        told = f"the {other[0]} samples are not those that the trials of study {sweep.study!r} were begun on"
        raise SweepError(f"{told} ({numbers}); {ON}")


def _digest(content: object) -> str:
    """Return a short digest of JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGITS]
