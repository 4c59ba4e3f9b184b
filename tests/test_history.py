"""How directions move during a search: what metrics.jsonl says of it, and what is measured where no alphas learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from lmsearch.engine.log import direction_history
from lmsearch.models import create_model
from lmsearch.search.derivation.marginal import marginal_worth
from lmsearch.search.supernet.masking import Choice, Evaluate


def test_probabilities_become_a_series_per_direction() -> None:
    lines = [{"epoch": n, "loss": 1.0, "probabilities": {"layers.0": {"h": p, "v": 1 - p}}} for n, p in ((0, 0.5), (1, 0.75))]
    found = direction_history(lines)
    assert found is not None and (found.label, found.epochs) == ("probability", (0, 1))
    assert found.layers == {"layers.0": {"h": (0.5, 0.75), "v": (0.5, 0.25)}}


def test_what_was_not_measured_is_no_number() -> None:
    found = direction_history([{"epoch": 0}, {"epoch": 1, "worth": {"a": {"h": 1.0}}}, {"epoch": 3, "worth": {"a": {"v": 2.0}}}])
    assert found is not None and found.epochs == (1, 3) and found.label.startswith("worth")
    assert found.layers["a"]["h"][0] == 1.0 and math.isnan(found.layers["a"]["h"][1]) and math.isnan(found.layers["a"]["v"][0])


@pytest.mark.parametrize("lines", [[], [{"epoch": 0, "val_loss": 1.0}]])
def test_a_run_that_says_nothing_of_directions_has_no_history(lines: list[dict]) -> None:
    assert direction_history(lines) is None


class Priced:
    """Scores of choices that only what they hold decides: a loss of 3 less the prices of their directions."""

    def __init__(self, prices: dict[int, float]) -> None:
        self.prices = prices

    def each(self, module: nn.Module, choices: Sequence[Choice]) -> list[Any]:
        totals = [sum(self.prices.get(i, 0.0) for b in choice.values() for i in b.active) for choice in choices]
        return [SimpleNamespace(losses=torch.full((2,), 3.0 - total)) for total in totals]


def test_a_direction_is_worth_what_choices_with_it_save() -> None:
    names = ["h", "h_flip", "v", "v_flip"]
    supernet = create_model("local_vim_nano", directions=[names, names[:2]], depth=2, merge="weighted")
    found = marginal_worth(supernet, cast(Evaluate, Priced({2: 1.0})), (2, 2), seed=0)
    assert max(found["layers.0"], key=found["layers.0"].__getitem__) == "v" and found["layers.0"]["v"] == pytest.approx(1.0)
    assert set(found) == {"layers.0"}, "the second layer keeps all it has"
    assert found == marginal_worth(supernet, cast(Evaluate, Priced({2: 1.0})), (2, 2), seed=0)
