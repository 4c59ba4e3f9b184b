"""What a trained network is measured by: the numbers of metrics.json, and the confusion matrix of its test samples."""

from __future__ import annotations

import logging
import math

import numpy as np

from lmsearch.data import DataInfo
from lmsearch.engine.objectives import TOP, Objective, Scores, accuracy, balanced_accuracy, class_accuracy, top5_accuracy
from lmsearch.engine.run_dir import RunDir
from lmsearch.figures.confusion import confusion_figure
from lmsearch.report.classes import absent, class_lines, one_sided

log = logging.getLogger(__name__)


def measured(info: DataInfo, objective: Objective, *, test: Scores, val: Scores) -> dict:
    """Return the numbers of metrics.json that the scores of both sets tell, whatever the metric."""
    numbers = {"test_loss": test.loss, "num_test": len(test.scores), "metric": objective.metric.name}
    for split, scores in (("test", test), ("val", val)):
        numbers[f"{split}_{objective.metric}"] = scores.score
        if info.targets.classes:
            numbers |= {f"{split}_{name}": value for name, value in by_class(info, scores).items()}
    return numbers


def by_class(info: DataInfo, scores: Scores) -> dict:
    """Return accuracies over samples and over classes; None for a class that has no samples."""
    counts = scores.class_counts
    of_class = [None if math.isnan(value) else value for value in class_accuracy(counts).tolist()]
    top = {"top5_accuracy": top5_accuracy(counts)} if len(counts) > TOP else {}
    return {
        "accuracy": accuracy(counts),
        "balanced_accuracy": balanced_accuracy(counts),
        "class_accuracy": dict(zip(info.class_names, of_class, strict=True)),
    } | top


def write_confusion(run_dir: RunDir, info: DataInfo, test: Scores) -> None:
    """Write confusion.json and confusion.png of the test samples, where the targets are classes."""
    if not info.targets.classes:
        return
    counts = confusion(test)
    content = {"class_names": list(info.class_names), "counts": counts.tolist(), "rows": "true", "columns": "predicted"}
    run_dir.write_json("confusion.json", content | {"set": "test"})
    title = f"{len(test.scores)} test samples"
    run_dir.write_figure("confusion.png", confusion_figure(info.class_names, counts, title=title))


def warn_about_classes(info: DataInfo, *, test: Scores, val: Scores, what: str) -> None:
    """Warn where a set lacks a class, and where one class takes nearly all answers; `what` names the network."""
    if not info.targets.classes:
        return
    for split, scores in (("validation", val), ("test", test)):
        if (missing := absent(info.class_names, confusion(scores))) is not None:
            log.warning("%s set: %s", split, missing)
    if (told := one_sided(info.class_names, confusion(test))) is not None:
        log.warning("%s: %s; see optim.class_weights, data.sampler and test_balanced_accuracy", what, told)


def show(info: DataInfo, metrics: dict, test: Scores, *, parameters: int | None = None) -> None:
    """Print the test score and, of classes, the balanced accuracy and every class's or the worst ones'."""
    size = "" if parameters is None else f" ({parameters:,} parameters)"
    if not info.targets.classes:
        print(f"test_{metrics['metric']}: {test.score:.4f} on {metrics['num_test']} samples{size}")
        return
    print(f"test_accuracy: {metrics['test_accuracy']:.4f} on {metrics['num_test']} samples{size}")
    top = f", test_top5_accuracy: {metrics['test_top5_accuracy']:.4f}" if "test_top5_accuracy" in metrics else ""
    print(f"test_balanced_accuracy: {metrics['test_balanced_accuracy']:.4f}{top}; by class:")
    print("\n".join(class_lines(info.class_names, metrics["test_class_accuracy"], confusion(test))))


def confusion(scores: Scores) -> np.ndarray:
    """Return the confusion matrix (C, C) of an evaluation: rows true classes, columns answers."""
    matrix: np.ndarray = scores.class_counts[:, :-1].numpy()
    return matrix
