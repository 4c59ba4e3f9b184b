"""Networks and the files that were exported of them, scored on one test set."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from lmsearch.data.loaders import EvalLoader
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.train import Precision, evaluate
from lmsearch.errors import ConfigError, DataError
from lmsearch.tasks.parts.build import build_objective
from lmsearch.tasks.parts.trained import images_per_step, own_source

BATCH = 64  # images at a time
CPU = Precision(torch.device("cpu"))


def test_scores(nets: Mapping[str, nn.Module], spec: ModelSpec, checkpoint: str) -> tuple[str, dict[str, float]]:
    """Return the metric of the data that a network was trained on, and the score of every network on its test set.

    Raises ConfigError or DataError where the data are not at hand.
    """
    source = own_source(spec, checkpoint)
    objective = build_objective(source.info)
    number = min(BATCH, images_per_step(None, source.info))
    loader = EvalLoader(source.test, batch_size=number, what=f"{source.info.name} test set")
    scores = {name: evaluate(net, loader, objective, CPU, what="test").score for name, net in nets.items()}
    return f"test_{objective.metric}", scores


def told_accuracy(nets: Mapping[str, nn.Module], spec: ModelSpec, checkpoint: str) -> str:
    """Return a line with the score of every network, or why there is none."""
    try:
        metric, scores = test_scores(nets, spec, checkpoint)
    except (ConfigError, DataError) as error:
        return f"accuracy was not measured: {error}"
    return f"{metric}: " + ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
