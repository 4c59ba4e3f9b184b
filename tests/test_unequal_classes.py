"""Classes with unequal numbers of images: what is said, what evens them out, and what goes by the balanced metric."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.data import Source, build_loaders, build_source, search_loaders
from lmsearch.data.order import balanced_order
from lmsearch.engine.distributed import World
from lmsearch.engine.objectives import METRICS, Scores, balance, class_counts, class_weights
from lmsearch.engine.recipe import training_objective
from lmsearch.errors import DataError
from lmsearch.report.arms import Arm
from lmsearch.settings.tasks import Retrain
from lmsearch.stats.intervals import over_samples, wilson, wilson_by_class
from lmsearch.status import RunStatus
from lmsearch.tasks.parts.build import build_data, build_recipe, check_classes
from lmsearch.tasks.parts.runs import verdict_of

COUNTS = {"a": 120, "b": 6, "c": 6}
NET = ["model.patch_size=4", "model.depth=1", "model.embed_dim=8", "batch_size=33", "epochs=1", "optim.warmup_epochs=0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of 8x8 pixels, class by class: nothing can be learned, so a net answers what it sees most."""
    folder, rng = tmp_path_factory.mktemp("unequal"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name, count in COUNTS.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count if split == "train" else count // 2):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def genotype(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genotype") / "one.json"
    path.write_text('[["h"]]')
    return path


def words(root: Path) -> list[str]:
    return ["data=imagefolder", f"data.root={root}", "data.img_size=8", "data.in_chans=1", *NET]


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_unequal_classes_and_a_net_that_answers_one_of_them_are_said_once(
    root: Path, genotype: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["retrain", *words(root), "optim.lr=0.01", f"genotype={genotype}", f"run_dir={tmp_path}"]) == 0
    said = [record.getMessage() for record in caplog.records]
    (unequal,) = (line for line in said if "classes are unequal" in line)
    assert "from 6 of 'b' to 120 of 'a'" in unequal
    assert read(tmp_path / "metrics.json")["test_class_accuracy"] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert [line for line in said if "66 of 66 answers are 'a'; of the 6 samples of other classes 0 are right" in line]


@pytest.mark.parametrize("word", ["optim.class_weights=balanced", "data.sampler=balanced"])
def test_nothing_is_said_where_unequal_classes_are_evened_out(word: str, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = compose_settings(Retrain, [*words(root), "genotype=x", word])
    check_classes(cfg.optim, source := build_data(cfg.data))
    assert caplog.records == []
    labels = source.train.labels
    check_classes(cfg.optim, with_labels(source, np.where(labels == 1, 2, labels)))
    (line,) = (record.getMessage() for record in caplog.records)
    assert line == "no training image is of 1 of the 3 classes, of which nothing is learned: 'b'"
    with pytest.raises(DataError, match="data=imagefolder: all 132 training images are of one class, 'c'; expected two classes"):
        check_classes(cfg.optim, with_labels(source, np.full_like(labels, 2)))


def with_labels(source: Source, labels: np.ndarray) -> Source:
    """Return image folders with other training labels."""
    return replace(source, train=replace(source.train, labels=labels))


def test_the_balanced_metric_names_what_is_best_logged_and_searched(
    root: Path, genotype: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    balanced = [*words(root), "metric=balanced_accuracy"]
    assert main(["retrain", *balanced, f"genotype={genotype}", f"run_dir={tmp_path / 'net'}"]) == 0
    metrics = read(tmp_path / "net" / "metrics.json")
    (line,) = map(json.loads, (tmp_path / "net" / "metrics.jsonl").read_text().splitlines())
    assert metrics["metric"] == "balanced_accuracy" and "train_accuracy" in line
    score, said = f"{metrics['test_balanced_accuracy']:.4f}", capsys.readouterr().out
    assert verdict_of(tmp_path / "net", "retrain", RunStatus.FINISHED) == f"test_balanced_accuracy {score}"
    assert f"test_balanced_accuracy: {score} on" in said
    assert f"weights of epoch {metrics['best_epoch'] + 1} of 1, the best" in said
    assert metrics["best_val_balanced_accuracy"] == line["val_balanced_accuracy"]
    assert line["val_balanced_accuracy"] == pytest.approx(metrics["val_balanced_accuracy"], abs=1e-6)
    assert metrics["val_accuracy"] != metrics["val_balanced_accuracy"]
    space = tmp_path / "two.yaml"
    space.write_text("name: two\nkeep: 1\ncandidates: [h, v]\n")
    search = ["search", *balanced, f"search_space={space}", "search.recheck=0", f"run_dir={tmp_path / 'search'}"]
    assert main(search) == 0
    assert "holdout_balanced_accuracy" in read(tmp_path / "search" / "metrics.json")
    assert read(tmp_path / "search" / "genotype.json")["derivation"]["metric"] == "balanced_accuracy"
    assert main(["derive", f"checkpoint={tmp_path / 'search'}", "derivation=climb", f"run_dir={tmp_path / 'derived'}"]) == 0
    assert read(tmp_path / "derived" / "genotype.json")["derivation"]["metric"] == "balanced_accuracy"


def test_compare_goes_by_the_balanced_metric(root: Path, genotype: Path, tmp_path: Path) -> None:
    command = ["compare", *words(root), "metric=balanced_accuracy", f"genotype={genotype}", f"run_dir={tmp_path}"]
    assert main(command) == 0
    found = read(tmp_path / "comparison.json")
    arm = found["arms"]["searched"]["test_balanced_accuracy"]
    assert found["metric"] == "balanced_accuracy"
    assert arm["mean"] == pytest.approx(read(tmp_path / "searched-s0" / "metrics.json")["test_balanced_accuracy"])
    assert 0 <= arm["low"] < arm["mean"] < arm["high"] <= 1
    assert all(0 <= value < 0.9 for value in found["baselines"].values()), "baselines are judged by the same metric"


@pytest.mark.parametrize(
    ("given", "needle"),
    [
        (["metric=f1"], "metric='f1' is not accepted for data with classes; accepted: accuracy, balanced_accuracy"),
        (["metric=accuracy", "data=planted"], "accepted: mse"),
        (["optim.class_weights=balanced", "data=planted"], "optim.class_weights=balanced needs data with classes"),
        (["optim.class_weights=heavy"], "accepted: none, balanced"),
        (["data.sampler=even"], "accepted: shuffled, balanced"),
        (["model.global_pool="], 'model.global_pool="" does not go with data=digits, which has classes; accepted: null, avg'),
        (["data=planted", "model.global_pool=avg"], "model.global_pool=avg does not go with data=planted, which has a target"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    given: list[str], needle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", *given]) == 2
    assert needle in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_balanced_draws_are_even_and_the_same_for_a_seed_and_epoch() -> None:
    classes = np.repeat([0, 2, 3], [120, 6, 7])  # class 1 is absent
    drawn = balanced_order(classes, "shuffle", "train", 0, 3)
    assert np.array_equal(drawn, balanced_order(classes, "shuffle", "train", 0, 3))
    assert not np.array_equal(drawn, balanced_order(classes, "shuffle", "train", 0, 4))
    assert sorted(np.bincount(classes[drawn[:, 0]])[[0, 2, 3]]) == [44, 44, 45]
    assert len({tuple(row) for row in drawn.tolist()}) == len(drawn), "a sample is drawn once as each of its copies"
    times = np.bincount(drawn[:, 0], minlength=len(classes))
    for number in (0, 2, 3):
        assert np.ptp(times[classes == number]) <= 1
    first, second = (classes[drawn[:66, 0]], classes[drawn[66:, 0]])
    assert min(np.bincount(first, minlength=4)[2], np.bincount(second, minlength=4)[2]) > 10, "mixed over the epoch"


def batches(loader: object, epoch: int, **start: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader.set_epoch(epoch, **start)
    return list(loader)


def equal(first: list, second: list) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one[:3], other[:3], strict=True))


def test_balanced_batches_are_resumable_split_over_ranks_and_augment_every_copy_anew(root: Path) -> None:
    source = build_source("imagefolder", root=str(root), img_size=8, in_chans=1).balanced()
    whole = build_loaders(source, batch_size=32, seed=5).train
    seen = batches(whole, 2)
    assert equal(seen[2:], batches(build_loaders(source, batch_size=32, seed=5).train, 2, start_batch=2))
    worlds = [World(rank, 2, exchange=lambda tensor: [tensor] * 2) for rank in (0, 1)]
    ranks = [build_loaders(source, batch_size=32, seed=5, world=world).train.epoch_indices(2) for world in worlds]
    assert np.array_equal(np.sort(np.concatenate(ranks)), np.sort(whole.epoch_indices(2)))
    targets = torch.cat([batch[1] for batch in seen])
    assert targets.bincount().min() > len(targets) / 3 - 5
    images = torch.cat([batch[0] for batch in seen])[targets == 1].flatten(1)
    assert len(images.unique(dim=0)) > 2 * 6, "six images, drawn seven times each, look different every time"


@pytest.mark.slow
def test_workers_give_the_same_balanced_batches(root: Path) -> None:
    source = build_source("imagefolder", root=str(root), img_size=8, in_chans=1).balanced()
    alone, helped = (build_loaders(source, batch_size=32, seed=5, num_workers=n).train for n in (0, 2))
    assert equal(batches(alone, 1), batches(helped, 1))
    helped.close()


def test_a_search_draws_classes_alike_for_weights_alone(root: Path) -> None:
    source = build_source("imagefolder", root=str(root), img_size=8, in_chans=1).balanced()
    loaders = search_loaders(source, holdout=0.5, batch_size=32, seed=0)
    labels = source.train.labels
    assert np.bincount(labels[loaders.weights.epoch_indices(0)]).min() >= 20
    assert np.bincount(labels[loaders.alphas.epoch_indices(0)]).tolist() == [60, 3, 3]


@pytest.mark.parametrize(("sampler", "expected"), [("shuffled", [132 / 360, 132 / 18, 132 / 18]), ("balanced", None)])
def test_class_weights_are_those_of_scikit_learn_and_not_counted_twice(
    sampler: str, expected: list[float] | None, root: Path
) -> None:
    cfg = compose_settings(Retrain, [*words(root), "genotype=x", "optim.class_weights=balanced", "optim.label_smoothing=0"])
    source = build_source("imagefolder", root=str(root), img_size=8, in_chans=1)
    source = source if expected else source.balanced()
    objective = training_objective(build_recipe(cfg), source.info, build_loaders(source, batch_size=32, seed=0).train)
    logits, targets = torch.zeros(3, 3), torch.arange(3)
    weights = objective.losses(logits, targets) / np.log(3)
    assert weights.tolist() == pytest.approx(expected or [1.0] * 3)
    if expected:
        from sklearn.utils.class_weight import compute_class_weight

        assert expected == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=source.train.labels))
    assert class_weights(torch.tensor([4, 0, 12])).tolist() == pytest.approx([2.0, 1.0, 2 / 3])


def balanced_scores(right: torch.Tensor, classes: torch.Tensor) -> Scores:
    counts = class_counts(torch.where(right, classes, (classes + 1) % 3), classes, 3)
    return Scores(1.0 * ~right, right * balance(classes), classes, counts)


def test_a_paired_interval_of_balanced_accuracies_takes_the_classes_as_given() -> None:
    classes = torch.repeat_interleave(torch.arange(3), torch.tensor([50, 8, 5]))
    g = torch.Generator().manual_seed(1)
    one, other = (torch.rand(63, generator=g) < p for p in (0.8, 0.6))
    arms = [Arm("x", [], [balanced_scores(r, classes)], METRICS["balanced_accuracy"]) for r in (one, other)]
    difference = arms[0].minus(arms[1])
    own = [(one.double() - other.double())[classes == c].numpy() for c in range(3)]
    error = np.sqrt(sum(np.var(d, ddof=1) / len(d) for d in own)) / 3
    assert difference.mean == pytest.approx(np.mean([d.mean() for d in own]), abs=1e-6)
    assert (difference.high - difference.low) / 2 == pytest.approx(1.959964 * error, rel=1e-5)
    shares = [(one[classes == c].sum().item(), (classes == c).sum().item()) for c in range(3)]
    assert arms[0].interval() == wilson_by_class(*np.array(shares).T)
    assert arms[0].interval().mean == pytest.approx(np.mean([r / n for r, n in shares]))


@pytest.mark.slow
def test_intervals_of_balanced_accuracies_cover_the_truth() -> None:
    """Simulated: 95 % intervals hold the true value in 92 to 99 % of 2,000 sets, alone and paired."""
    rng, sizes = np.random.default_rng(0), np.array([200, 40, 15])
    chances, better = np.array([0.9, 0.7, 0.5]), np.array([0.93, 0.8, 0.7])
    classes = np.repeat(np.arange(3), sizes)
    weights = balance(torch.from_numpy(classes)).double().numpy()
    alone = paired = 0
    for _ in range(2000):
        draws = rng.random(len(classes))
        one, other = draws < better[classes], draws < chances[classes]  # the same samples are hard for both
        counts = np.array([one[classes == c].sum() for c in range(3)])
        interval = wilson_by_class(counts, sizes)
        alone += interval.low <= better.mean() <= interval.high
        difference = over_samples((one * 1.0 - other) * weights, classes)
        paired += difference.low <= (better - chances).mean() <= difference.high
    assert 0.92 < alone / 2000 < 0.99 and 0.90 < paired / 2000 < 0.99


def test_intervals_of_few_samples_stay_sensible() -> None:
    one, other = wilson_by_class(np.array([7]), np.array([9])), wilson(7 / 9, 9)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))
    rng, chances = np.random.default_rng(0), np.linspace(0.85, 0.99, 10)
    drawn = [wilson_by_class(rng.binomial(5, chances), np.full(10, 5)) for _ in range(1000)]
    assert 0.93 < np.mean([found.low <= chances.mean() <= found.high for found in drawn]) < 0.98
    full = wilson_by_class(np.array([4, 0, 3]), np.array([4, 0, 3]))
    assert full.mean == full.high == 1.0 and 0.5 < full.low < 1
    lonely = over_samples(np.array([0.0, 1.0, 0.0, 1.0, 1.0]), np.array([0, 0, 0, 1, 2]))
    assert np.isfinite([lonely.low, lonely.high]).all() and lonely.low < lonely.mean < lonely.high
    assert np.isfinite(over_samples(np.array([0.0, 1.0, 1.0]), np.array([0, 0, 1])).high)
