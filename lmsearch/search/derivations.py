"""The ways from a trained supernet to a choice, by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.genotype import LayerChoice
from lmsearch.search.architects import architect_kind
from lmsearch.search.climb import derive_climb
from lmsearch.search.derive import Probabilities, Quota, choose, quota_of
from lmsearch.search.perturbation import derive_perturbation
from lmsearch.search.supernet import Evaluate

DERIVATIONS = ("topk", "perturbation", "climb")


def saw_holdout(derivation: str, architect: str) -> bool:
    """True where the held-out samples decided on directions, so that a test needs others."""
    return derivation != "topk" or architect_kind(architect).uses_holdout


def derive_by(
    name: str, module: nn.Module, probabilities: Probabilities, evaluate: Evaluate, quota: Quota, *, seed: int
) -> tuple[tuple[LayerChoice, ...], dict[str, Any]]:
    """Return each layer's choice and how it was made, for genotype.json.

    "topk" takes the most probable directions; the others mask the supernet: `evaluate(module)` scores the same held-out
    samples every time, and `seed` draws where a climb starts.
    """
    if name == "topk":
        return choose(probabilities, quota_of(quota, probabilities)), {"method": "topk"}
    if name == "perturbation":
        return derive_perturbation(module, probabilities, evaluate, quota)
    if name == "climb":
        return derive_climb(module, probabilities, evaluate, quota, seed=seed)
    raise ConfigError(f"derivation={name!r} is not accepted{did_you_mean(name, DERIVATIONS)}")
