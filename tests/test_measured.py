"""What retrain, evaluate and compare tell of a classifier: numbers by class, confusion matrix, table of epochs, best weights."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from interruptions import cut_in_epoch

from lmsearch.cli import main
from lmsearch.data import DataInfo
from lmsearch.engine.best import Best
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, read_model, save_checkpoint
from lmsearch.engine.log import RunLog
from lmsearch.engine.objectives import METRICS, Scores, class_counts, classification
from lmsearch.engine.run_dir import RunDir
from lmsearch.report.classes import absent, class_lines, one_sided
from lmsearch.tasks.parts.measured import measured

NET = ["model.depth=1", "model.embed_dim=8", "model.patch_size=2"]
TINY = [*NET, "batch_size=128", "epochs=3", "optim.warmup_epochs=0", "optim.lr=0.02"]


@pytest.fixture(scope="module")
def genotype(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genotype") / "one.json"
    path.write_text('[["h"]]')
    return path


@pytest.fixture(scope="module")
def retrained(genotype: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("measured") / "run"
    assert main(["retrain", *TINY, f"genotype={genotype}", f"run_dir={run_dir}"]) == 0
    return run_dir


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def table(run_dir: Path) -> list[dict]:
    return list(csv.DictReader((run_dir / "results.csv").read_text().splitlines()))


def info_of(names: tuple[str, ...]) -> DataInfo:
    return DataInfo("mine", len(names), names, (8, 8), 1, (0.5,), (0.5,))


def test_metrics_of_a_classifier_are_those_of_its_confusion_matrix(retrained: Path) -> None:
    metrics, confusion = read(retrained / "metrics.json"), read(retrained / "confusion.json")
    counts = np.array(confusion["counts"])
    recalls = counts.diagonal() / counts.sum(1)
    assert counts.sum() == metrics["num_test"] == 359
    assert confusion["class_names"] == [str(n) for n in range(10)]
    assert metrics["test_accuracy"] == pytest.approx(counts.diagonal().sum() / 359)
    assert metrics["test_balanced_accuracy"] == pytest.approx(recalls.mean())
    assert metrics["test_class_accuracy"] == pytest.approx(dict(zip(confusion["class_names"], recalls, strict=True)))
    assert metrics["test_accuracy"] <= metrics["test_top5_accuracy"] <= 1
    assert {f"val_{name}" for name in ("accuracy", "balanced_accuracy", "top5_accuracy", "class_accuracy")} <= metrics.keys()
    assert metrics["metric"] == "accuracy"


def test_evaluating_says_the_same_again_class_by_class(
    retrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", f"checkpoint={retrained}", f"run_dir={tmp_path}"]) == 0
    told, metrics, before = capsys.readouterr().out, read(tmp_path / "metrics.json"), read(retrained / "metrics.json")
    for split in ("test", "val"):
        for name in ("accuracy", "balanced_accuracy", "top5_accuracy", "class_accuracy"):
            assert metrics[f"{split}_{name}"] == before[f"{split}_{name}"]
    assert (tmp_path / "confusion.json").read_bytes() == (retrained / "confusion.json").read_bytes()
    assert f"test_balanced_accuracy: {metrics['test_balanced_accuracy']:.4f}" in told
    for name, value in metrics["test_class_accuracy"].items():
        assert f"  {name}  {value:.4f} of " in told


def test_an_evaluation_ends_with_where_to_look_next_and_a_quiet_one_is_its_result(
    retrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", f"checkpoint={retrained}", f"run_dir={tmp_path}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: lmsearch predict images=... checkpoint={retrained}"
    assert main(["evaluate", "quiet=true", f"checkpoint={retrained}", f"run_dir={tmp_path}"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("test_accuracy: ")


def test_the_best_weights_are_those_of_the_best_epoch_on_validation(retrained: Path, tmp_path: Path) -> None:
    metrics = read(retrained / "metrics.json")
    lines = [json.loads(line) for line in (retrained / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    assert (metrics["best_epoch"], metrics["best_val_accuracy"]) == (best["epoch"], best["val_accuracy"])
    assert main(["evaluate", f"checkpoint={retrained / 'best.safetensors'}", f"run_dir={tmp_path}"]) == 0
    assert read(tmp_path / "metrics.json")["val_accuracy"] == pytest.approx(best["val_accuracy"])


def test_an_interrupted_training_keeps_the_same_best(genotype: Path, tmp_path: Path) -> None:
    command = ["retrain", *TINY, "optim.lr=0.5", "optim.ema_decay=0.5", "optim.clip_grad=1.0", f"genotype={genotype}"]
    assert main([*command, f"run_dir={tmp_path / 'whole'}"]) == 0
    with cut_in_epoch(3):
        assert main([*command, f"run_dir={tmp_path / 'cut'}"]) == 130
    assert main([*command, f"run_dir={tmp_path / 'cut'}"]) == 0
    names = ("best.safetensors", "results.csv", "confusion.json")
    assert all((tmp_path / "whole" / n).read_bytes() == (tmp_path / "cut" / n).read_bytes() for n in names)
    whole, cut = (read(tmp_path / name / "metrics.json") for name in ("whole", "cut"))
    assert whole | {"train_s": 0} == cut | {"train_s": 0}


def test_averaged_weights_are_what_is_evaluated_and_kept(genotype: Path, tmp_path: Path) -> None:
    """With a slow average the epochs' net and the averaged one differ; the last epoch's score is the final one's."""
    assert main(["retrain", *TINY, "epochs=2", "optim.ema_decay=0.9", f"genotype={genotype}", f"run_dir={tmp_path}"]) == 0
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["val_accuracy"] == read(tmp_path / "metrics.json")["val_accuracy"]
    assert not torch.equal(load_checkpoint(tmp_path)["model"]["head.weight"], read_model(tmp_path)[1]["head.weight"])


def test_ties_of_the_best_go_by_the_loss_and_errors_are_better_when_lower(tmp_path: Path) -> None:
    spec = ModelSpec("local_vim_nano", (("h",),))
    for metric, values, losses, expected in (
        ("accuracy", (0.5, 0.75, 0.75, 0.75), (1.0, 0.9, 0.8, 0.8), 2),
        ("mse", (0.5, 0.25, 0.75, 0.5), (0.5, 0.25, 0.75, 0.5), 1),
    ):
        best = Best(RunDir(tmp_path), spec, METRICS[metric])
        for epoch, (value, loss) in enumerate(zip(values, losses, strict=True)):
            best.offer(torch.nn.Linear(1, 1), Scores(torch.tensor([loss]), torch.tensor([value])), epoch=epoch)
        assert best.epoch == expected


def test_a_run_that_was_begun_before_bests_were_kept_goes_on(genotype: Path, tmp_path: Path) -> None:
    command = ["retrain", *TINY, "epochs=1", f"genotype={genotype}", f"run_dir={tmp_path}"]
    assert main(command) == 0
    state = load_checkpoint(tmp_path)
    del state["best"]
    save_checkpoint(RunDir(tmp_path), state)
    assert main(command) == 0
    assert "best_epoch" not in read(tmp_path / "metrics.json")


def test_the_table_of_epochs_has_the_same_columns_throughout(retrained: Path, tmp_path: Path) -> None:
    rows = table(retrained)
    lines = [json.loads(line) for line in (retrained / "metrics.jsonl").read_text().splitlines()]
    assert [{k: float(v) for k, v in row.items()} for row in rows] == lines
    with RunLog(RunDir(tmp_path)) as log:  # results.csv is written when it closes
        log.write(0, {"train_loss": 1.0}, layers={"layers.0": {"h": 0.25, "v": 0.75}})
        log.write(1, {"train_loss": 0.5, "health/gap": 0.125})
    first, second = table(tmp_path)
    assert list(first) == list(second) == ["epoch", "train_loss", "directions/layers.0/h", "directions/layers.0/v", "health/gap"]
    assert (first["directions/layers.0/v"], first["health/gap"], second["directions/layers.0/v"]) == ("0.75", "", "")


def test_a_class_without_samples_is_null_left_out_of_the_mean_and_said() -> None:
    names = ("a", "b", "c")
    truth, answers = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 2, 1, 0])
    scores = Scores(torch.zeros(6), (truth == answers).float(), truth, class_counts(answers, truth, 3))
    metrics = measured(info_of(names), classification(), test=scores, val=scores)
    assert metrics["test_class_accuracy"] == {"a": 0.75, "b": 0.5, "c": None}
    assert metrics["test_balanced_accuracy"] == 0.625 and "test_top5_accuracy" not in metrics
    counts = scores.sums[:, :-1].numpy()
    assert absent(names, counts) == "no samples of c: left out of the balanced accuracy"
    assert absent(names[:2], counts[:2, :2]) is None
    assert class_lines(names, metrics["test_class_accuracy"], counts) == ["  b  0.5000 of 2", "  a  0.7500 of 4"]


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ([[120, 0, 0], [6, 0, 0], [6, 0, 0]], "132 of 132 answers are 'a'; of the 12 samples of other classes 0 are right"),
        ([[119, 1, 0], [5, 1, 0], [6, 0, 0]], "130 of 132 answers are 'a'; of the 12 samples of other classes 1 are right"),
        ([[120, 0, 0], [0, 6, 0], [0, 0, 6]], None),  # unequal, and right
        ([[120, 0, 0], [3, 3, 0], [3, 0, 3]], None),
        ([[50, 0, 0], [0, 0, 0], [0, 0, 0]], None),  # nothing else was there to find
    ],
)
def test_one_class_that_takes_nearly_all_answers_is_told(counts: list[list[int]], told: str | None) -> None:
    assert one_sided(("a", "b", "c"), np.array(counts)) == told


def test_of_many_classes_the_worst_are_told_in_one_line() -> None:
    names = [f"c{n}" for n in range(30)]
    counts = np.diag(np.arange(30)) + np.diag(30 - np.arange(1, 30), -1) + np.diag([1] * 30)
    accuracy = {name: row[n] / row.sum() for n, (name, row) in enumerate(zip(names, counts, strict=True))}
    (line,) = class_lines(names, accuracy, counts)
    assert line.startswith("  worst of 30 classes: c1 0.0") and line.count(",") == 9
