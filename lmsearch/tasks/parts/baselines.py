"""Simple baselines beside the nets of `retrain` and `compare`: what a network must beat to be worth anything."""

from __future__ import annotations

import logging

import numpy as np
import torch

from lmsearch.data import Source
from lmsearch.data.summary import as_arrays
from lmsearch.engine.objectives import Objective, class_counts
from lmsearch.engine.progress import CountProgress
from lmsearch.report.baselines import BASELINES, SIDE

log = logging.getLogger(__name__)
LIMIT = 20_000  # training or test images up to which baselines run


def simple_baselines(source: Source, limit: int | None, objective: Objective) -> dict[str, float]:
    """Test score of logistic regression and nearest neighbour on the pixels, of images of 32 pixels at most.

    Empty without classes and where a set has more than `limit` (None: LIMIT) images.
    """
    limit = LIMIT if limit is None else limit
    arrays = as_arrays(source, limit=limit, side=SIDE)
    if arrays is None:
        if source.info.targets.classes and limit > 0:
            log.info("baselines: left out, a set has more than baseline_limit=%d images", limit)
        return {}
    *known, truth = arrays
    if len(np.unique(known[1])) < 2:
        return {}

    def score(answers: np.ndarray) -> float:
        return objective.summarise(class_counts(torch.from_numpy(answers), torch.from_numpy(truth), source.info.num_classes))

    found = {}
    with CountProgress("baselines", total=len(BASELINES), unit="on the pixels") as progress:
        for name, baseline in BASELINES.items():
            progress.tell(f"{name} on {len(known[0])} images")
            found[name] = score(baseline(*known))
            progress.advance(1)
    return found
