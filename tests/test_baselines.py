"""Simple baselines beside trained nets: what they cost at most, and that a net below one is pointed out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lmsearch.cli import main
from lmsearch.data import as_arrays, build_source
from lmsearch.report import baselines
from lmsearch.report.baselines import logistic_regression, shortfall


def test_a_net_below_a_baseline_is_named_with_what_beats_it() -> None:
    simple = {"logistic regression": 0.81, "nearest neighbour": 0.79}
    assert shortfall({"this net": 0.82}, simple) is None and shortfall({"this net": 0.1}, {}) is None
    said = shortfall({"searched": 0.80, "random": 0.83, "hand-made": 0.70}, simple)
    assert said.startswith("below logistic regression (0.8100) and nearest neighbour (0.7900) on the pixels: searched, hand-made")
    assert "nearest neighbour" not in shortfall({"this net": 0.8}, simple)


def test_logistic_regression_stops_after_the_work_it_may_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 20)).astype(np.float32), np.arange(200) % 3
    x[:, :3] += 3 * np.eye(3)[y]
    assert (logistic_regression(x, y, x) == y).mean() > 0.95
    monkeypatch.setattr(baselines, "WORK", 0.0)
    monkeypatch.setattr(baselines, "FEWEST_ITERATIONS", 1)
    assert (logistic_regression(x, y, x) == y).mean() > 1 / 3  # and no warning of scikit-learn's


def test_large_images_are_shrunk_for_the_baselines() -> None:
    digits = build_source("digits")
    whole, small = as_arrays(digits)[0], as_arrays(digits, side=4)[0]
    assert whole.shape[1] == 64 and small.shape[1] == 16 and np.array_equal(as_arrays(digits, side=32)[0], whole)
    images = torch.from_numpy(whole).reshape(-1, 4, 2, 4, 2)
    assert np.allclose(small, images.mean((2, 4)).flatten(1).numpy(), atol=1e-6)


def test_retrain_prints_baselines_and_warns_where_the_net_stays_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "g.json").write_text('[["h"]]')
    words = ["retrain", f"genotype={tmp_path / 'g.json'}", "model.depth=1", "model.embed_dim=8", "epochs=1", "batch_size=256"]
    assert main([*words, "optim.warmup_epochs=0", f"run_dir={tmp_path / 'run'}"]) == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["baselines"].keys() == {"logistic regression", "nearest neighbour"}
    assert found["baselines"]["nearest neighbour"] > 0.9 > found["test_accuracy"]
    assert "on the pixels: logistic regression 0." in capsys.readouterr().out
    assert "below logistic regression" in caplog.text
    assert main([*words, "optim.warmup_epochs=0", "baseline_limit=0", f"run_dir={tmp_path / 'other'}"]) == 0
    assert "baselines" not in json.loads((tmp_path / "other" / "metrics.json").read_text())
