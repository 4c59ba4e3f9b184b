"""What a trained network is measured by: the numbers of metrics.json, and the confusion matrix of its test samples."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import numpy as np

from lmsearch.context import tell
from lmsearch.data import DataInfo
from lmsearch.engine.objectives import TOP, Objective, Scores, accuracy, balanced_accuracy, class_accuracy, top5_accuracy
from lmsearch.engine.objectives.segmentation import class_iou, pixel_accuracy_of
from lmsearch.engine.run_dir import RunDir
from lmsearch.figures.confusion import confusion_figure
from lmsearch.figures.precision import precision_figure
from lmsearch.report.classes import absent, class_lines, one_sided
from lmsearch.stats.detection import Precision

log = logging.getLogger(__name__)
SHOWN = 20  # classes of pixels or objects that are printed
PRECISION = "precision_recall.png"


def measured(info: DataInfo, objective: Objective, *, test: Scores, val: Scores) -> dict:
    """Return the numbers of metrics.json that the scores of both sets tell, whatever the metric."""
    numbers = {"test_loss": test.loss, "num_test": len(test.scores), "metric": objective.metric.name}
    for split, scores in (("test", test), ("val", val)):
        numbers[f"{split}_{objective.metric}"] = scores.score
        if info.targets.classes:
            numbers |= {f"{split}_{name}": value for name, value in by_class(info, scores).items()}
        elif info.targets.per_pixel:
            numbers |= {f"{split}_{name}": value for name, value in by_pixel(info, scores).items()}
        numbers |= {f"{split}_{name}": value for name, value in scores.told.items()}
        numbers |= {f"{split}_class_{kind}_ap": class_ap(info, found) for kind, found in scores.precisions.items()}
    return numbers


def class_ap(info: DataInfo, found: Precision) -> dict[str, float | None]:
    """Return the AP of every class; None for one of which there are no objects."""
    known = {label: value for label, value in enumerate(found.of_class.tolist()) if not math.isnan(value)}
    return {name: known.get(label) for label, name in enumerate(info.class_names)}


def by_pixel(info: DataInfo, scores: Scores) -> dict:
    """Return the share of right pixels and the IoU of every class; None for one in neither truth nor answers."""
    counts = scores.confusion
    of_class = [None if math.isnan(value) else value for value in class_iou(counts).tolist()]
    return {"pixel_accuracy": pixel_accuracy_of(counts), "class_iou": dict(zip(info.class_names, of_class, strict=True))}


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
    """Write confusion.json and confusion.png of the test samples, or of their pixels, where the targets are classes of them."""
    if not (info.targets.classes or info.targets.per_pixel):
        return
    counts = confusion(info, test)
    content = {"class_names": list(info.class_names), "counts": counts.tolist(), "rows": "true", "columns": "predicted"}
    run_dir.write_json("confusion.json", content | {"set": "test"})
    title = f"{'pixels of ' if info.targets.per_pixel else ''}{len(test.scores)} test samples"
    run_dir.write_figure("confusion.png", lambda: confusion_figure(info.class_names, counts, title=title))


def write_precision(run_dir: RunDir, info: DataInfo, test: Scores) -> None:
    """Draw the precision over recall of the detections in test images, where the targets are objects."""
    if test.precisions:
        panels = {f"{kind} precision at IoU 0.5": found.curve for kind, found in test.precisions.items()}
        run_dir.write_figure(PRECISION, lambda: precision_figure(info.class_names, panels))


def warn_about_classes(info: DataInfo, *, test: Scores, val: Scores, what: str) -> None:
    """Warn where a set lacks a class, and where one class takes nearly all answers; `what` names the network."""
    if info.targets.per_pixel and (told := one_sided(info.class_names, confusion(info, test))) is not None:
        log.warning("%s: %s (counted in pixels); more epochs or a larger optim.lr may help", what, told)
    if not info.targets.classes:
        return
    for split, scores in (("validation", val), ("test", test)):
        if (missing := absent(info.class_names, confusion(info, scores))) is not None:
            log.warning("%s set: %s", split, missing)
    if (told := one_sided(info.class_names, confusion(info, test))) is not None:
        log.warning("%s: %s; see optim.class_weights, data.sampler and test_balanced_accuracy", what, told)


def show(info: DataInfo, metrics: dict, test: Scores, *, parameters: int | None = None) -> None:
    """Print the test score, which quiet=true leaves, and what is known of single classes, or of the worst of many."""
    size = "" if parameters is None else f" ({parameters:,} parameters)"
    if not info.targets.classes:
        print(f"test_{metrics['metric']}: {test.score:.4f} on {metrics['num_test']} samples{size}")
        show_dense(info, metrics, test)
        return
    judged = f"test_{metrics['metric']}"
    print(f"{judged}: {metrics[judged]:.4f} on {metrics['num_test']} samples{size}")
    others = ("test_accuracy", "test_balanced_accuracy", "test_top5_accuracy")
    beside = [name for name in others if name in metrics and name != judged]
    tell(", ".join(f"{name}: {metrics[name]:.4f}" for name in beside) + "; by class:")
    tell("\n".join(class_lines(info.class_names, metrics["test_class_accuracy"], confusion(info, test))))


def show_dense(info: DataInfo, metrics: dict, test: Scores) -> None:
    """Print what is known of classes of pixels, or of objects, besides the metric."""
    if info.targets.per_pixel:
        known = {name: value for name, value in metrics["test_class_iou"].items() if value is not None}
        tell(f"test_pixel_accuracy: {metrics['test_pixel_accuracy']:.4f}; IoU by class, worst first:")
        tell_worst(known)
    for kind in test.precisions:
        tell(", ".join(f"test_{name}: {value:.4f}" for name, value in test.told.items() if name.startswith(kind)) + "; by class:")
        known = {name: value for name, value in metrics[f"test_class_{kind}_ap"].items() if value is not None}
        tell_worst(known)


def tell_worst(by_class: Mapping[str, float]) -> None:
    """Print the values of classes, the worst first, of many the worst alone."""
    worst = sorted(by_class, key=lambda name: by_class[name])
    tell("  " + ", ".join(f"{name} {by_class[name]:.4f}" for name in worst[:SHOWN]))


def confusion(info: DataInfo, scores: Scores) -> np.ndarray:
    """Return the confusion matrix (C, C) of an evaluation: rows true classes, columns answers."""
    matrix: np.ndarray = (scores.confusion if info.targets.per_pixel else scores.class_counts[:, :-1]).numpy()
    return matrix
