"""Metrics: numbers equal naive counts and scikit-learn's, sums over batches give what the set gives, one place names them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as naive
from torch import Tensor

from lmsearch.data.mixup import smooth_one_hot
from lmsearch.engine.objectives import (
    METRICS,
    Objective,
    Scores,
    class_accuracy,
    classification,
    dense_regression,
    metric_for,
    objective_for,
    top5_accuracy,
)
from lmsearch.errors import ConfigError

CLASSES = 7
ABSENT = 5  # a class without samples


def answers(count: int = 200) -> tuple[Tensor, Tensor]:
    """Logits (n, C) that are right more often than not, and unequal classes (n,), one of them absent."""
    g = torch.Generator().manual_seed(3)
    share = torch.tensor([60.0, 20, 10, 5, 3, 0, 2])
    targets = torch.multinomial(share, count, replacement=True, generator=g)
    logits = torch.randn(count, CLASSES, generator=g)
    logits[torch.arange(count), targets] += 1.0
    return logits, targets


def evaluated(objective: Objective, logits: Tensor, targets: Tensor, *, size: int) -> Scores:
    batches = zip(logits.split(size), targets.split(size), strict=True)
    return objective.of_set([objective.evaluation(*batch) for batch in batches])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_whole_number_type_are_those_of_int64(dtype: torch.dtype) -> None:
    logits, targets = answers()
    objective = classification(0.1)
    one, other = (objective.evaluation(logits, given) for given in (targets.to(dtype), targets))
    assert torch.equal(one.losses, other.losses) and torch.equal(one.scores, other.scores)
    assert torch.equal(one.sums, other.sums) and torch.equal(one.true_classes, other.true_classes)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("size", [13, 200])
@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy"])
def test_a_metric_of_classes_is_scikit_learns_from_samples_and_from_sums(name: str, size: int) -> None:
    logits, targets = answers()
    objective = classification(metric=name)
    scores = evaluated(objective, logits, targets, size=size)
    judge = naive.accuracy_score if name == "accuracy" else naive.balanced_accuracy_score
    expected = judge(targets.numpy(), logits.argmax(1).numpy())
    assert objective.summarise(scores.sums) == pytest.approx(expected, abs=1e-7)
    assert scores.score == pytest.approx(expected, abs=1e-6)


def test_counts_are_the_confusion_matrix_and_top_five_is_exact() -> None:
    logits, targets = answers()
    counts = evaluated(classification(), logits, targets, size=13).sums
    labels = list(range(CLASSES))
    assert np.array_equal(counts[:, :-1], naive.confusion_matrix(targets, logits.argmax(1), labels=labels))
    assert top5_accuracy(counts) == pytest.approx(naive.top_k_accuracy_score(targets, logits, k=5, labels=labels))
    of_class = class_accuracy(counts)
    assert math.isnan(of_class[ABSENT])
    for c in set(labels) - {ABSENT}:
        assert of_class[c] == pytest.approx(np.mean([p.argmax() == c for p, t in zip(logits, targets, strict=True) if t == c]))


def test_accuracy_from_sums_is_the_mean_of_samples_to_the_last_bit() -> None:
    logits, targets = answers(797)
    scores = evaluated(classification(), logits, targets, size=64)
    assert classification().summarise(scores.sums) == scores.score == (logits.argmax(1) == targets).double().mean().item()


def test_the_standard_error_of_balanced_accuracy_is_that_of_a_sample_within_classes() -> None:
    logits, targets = answers()
    objective = classification(metric="balanced_accuracy")
    error = objective.standard_error(evaluated(objective, logits, targets, size=50))
    right = (logits.argmax(1) == targets).double()
    within = [right[targets == c] for c in range(CLASSES) if c != ABSENT]
    assert error == pytest.approx(math.sqrt(sum(r.var(correction=0) / len(r) for r in within)) / len(within), rel=1e-6)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_a_single_sample_tells_no_standard_error(metric: str) -> None:
    logits, targets = answers()
    objective = classification(metric=metric)
    assert objective.standard_error(evaluated(objective, logits[:1], targets[:1], size=1)) == math.inf


def test_choices_by_a_balanced_metric_go_by_the_mean_of_the_classes_losses() -> None:
    logits, targets = answers()
    objective = classification(metric="balanced_accuracy")
    scores = evaluated(objective, logits, targets, size=50)
    of_class = [scores.losses[targets == c].mean().item() for c in range(CLASSES) if c != ABSENT]
    assert objective.for_choice(scores).loss == pytest.approx(np.mean(of_class), rel=1e-5)
    assert scores.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item(), rel=1e-5), "reported plain"
    plain = evaluated(classification(), logits, targets, size=50)
    assert classification().for_choice(plain) is plain


def test_class_weights_count_in_soft_targets_as_in_class_indices() -> None:
    logits, targets = answers()
    weights = torch.arange(1.0, CLASSES + 1)
    soft = smooth_one_hot(targets, CLASSES, 0.1)
    hard = classification(0.1, class_weights=weights).losses(logits, targets)
    assert torch.allclose(hard, classification(class_weights=weights).losses(logits, soft), atol=1e-5)
    assert torch.allclose(hard, -(weights * soft * logits.log_softmax(1)).sum(1), atol=1e-5)


def test_sums_of_dense_targets_give_their_mean_squared_error() -> None:
    g = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(2, 12, 6, 1, generator=g)
    objective = dense_regression()
    scores = evaluated(objective, outputs, targets, size=5)
    expected = ((outputs - targets) ** 2).mean().item()
    assert objective.summarise(scores.sums) == pytest.approx(expected) and scores.score == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_scores_are_signed_so_that_higher_is_better(name: str) -> None:
    metric = METRICS[name]
    assert metric.signed(0.25) == (0.25 if metric.higher_is_better else -0.25)
    assert metric.signed(metric.signed(0.25)) == 0.25
    assert metric.score_name == (name if metric.higher_is_better else f"minus {name}")
    assert objective_for(metric.target, metric=name).metric is metric
    assert metric_for(metric.target).target == metric.target


@pytest.mark.parametrize(("target", "name"), [("dense", "accuracy"), ("class", "mse"), ("class", "f1")])
def test_a_metric_that_does_not_fit_the_data_is_refused(target: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"metric='{name}'.*accepted: "):
        objective_for(target, metric=name)


def test_no_other_file_compares_the_names_of_metrics(root: Path) -> None:
    """A metric is a record: what follows from it is asked of it."""
    compared = re.compile(rf"""(==|!=|in) \(?["']({"|".join(METRICS)})["']""")
    files = [path for path in (root / "lmsearch").rglob("*.py") if path.parent.name != "objectives"]
    assert [str(path) for path in files if compared.search(path.read_text())] == []
