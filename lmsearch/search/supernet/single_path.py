"""Shared weights without alphas: every step trains a few uniformly drawn branches per layer (SPOS, arXiv 1904.00420)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lmsearch.data import DataInfo, TrainLoader
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import Recipe, build_trainer
from lmsearch.engine.train import Precision, Trainer
from lmsearch.search.architects.learning import Frozen, Timing
from lmsearch.search.supernet.network import weight_parameters
from lmsearch.search.supernet.policy import BranchPolicy
from lmsearch.search.supernet.relax import RELAXATIONS


def single_path(
    spec: ModelSpec,
    keep: Sequence[int],
    recipe: Recipe,
    loader: TrainLoader,
    info: DataInfo,
    precision: Precision,
    *,
    seed: int,
    backend: str,
) -> tuple[BranchPolicy, Trainer]:
    """Return a fresh supernet under a policy that draws keep[l] branches of layer l, and its trainer on `loader`."""
    torch.manual_seed(key(seed, "init"))
    supernet = spec.build(backend=backend).to(precision.device)
    policy = BranchPolicy(supernet, RELAXATIONS["uniform"], keep, keep, seed)
    hook = Frozen(policy, Timing(len(loader), recipe.epochs))
    trainer = build_trainer(recipe, supernet, weight_parameters(supernet), loader, info, precision, seed=seed, hook=hook)
    return policy, trainer
