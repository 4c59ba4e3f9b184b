"""Run folders that version 0.1.0 left: a search and a retraining after the first of three epochs, and a finished retraining.

They were made by its code: `data=digits model.depth=1 model.embed_dim=8 model.patch_size=4 model.d_state=2 batch_size=256
optim.warmup_epochs=0`, the search with `search=darts search.recheck=0`, the retrainings of hv.json.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from interruptions import signalled

from lmsearch.cli import main
from lmsearch.engine.checkpoint import load_checkpoint

RUNS = Path(__file__).parent / "runs_0.1.0.zip"
SMALL = ["model.depth=1", "model.embed_dim=8", "model.patch_size=4", "optim.warmup_epochs=0", "batch_size=256"]


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpack the folders into the working directory."""
    zipfile.ZipFile(RUNS).extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_search_goes_on_and_its_choice_is_derived_anew(old: Path) -> None:
    first = (old / "search" / "metrics.jsonl").read_text()
    words = ["search", "search=darts", "search.recheck=0", "data=digits", *SMALL, "model.d_state=2", "epochs=3", "run_dir=search"]
    with signalled(15, after=0) as done:
        assert main([*words, "resume=must"]) == 0
    assert done[0] == (1, 0), "the first epoch is not done again"
    assert (old / "search" / "metrics.jsonl").read_text().startswith(first)
    found = json.loads((old / "search" / "genotype.json").read_text())["layers"][0]["directions"]
    assert main(["derive", "checkpoint=search", "run_dir=derived"]) == 0
    assert json.loads((old / "derived" / "genotype.json").read_text())["layers"][0]["directions"] == found


@pytest.mark.slow
def test_a_retraining_goes_on(old: Path) -> None:
    words = ["retrain", "genotype=hv.json", *SMALL, "model.d_state=2", "epochs=3", "run_dir=retrain"]
    with signalled(15, after=0) as done:
        assert main([*words, "resume=must"]) == 0
    assert done[0] == (1, 0) and load_checkpoint(old / "retrain")["epoch"] == 3


def test_a_network_is_evaluated_as_it_was_and_trained_on(old: Path) -> None:
    before = json.loads((old / "done" / "metrics.json").read_text())
    assert main(["evaluate", "checkpoint=done", "run_dir=again"]) == 0
    assert json.loads((old / "again" / "metrics.json").read_text())["test_accuracy"] == pytest.approx(
        before["test_accuracy"],
        rel=1e-7,  # a mean of float32 numbers then
    )
    words = ["retrain", "genotype=hv.json", *SMALL, "model.d_state=2", "epochs=1", "baseline_limit=0", "init_from=done"]
    assert main([*words, "run_dir=further"]) == 0


def test_another_configuration_is_told_by_what_differs(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["retrain", "genotype=hv.json", *SMALL, "model.d_state=2", "epochs=3", "optim.lr=0.5", "run_dir=retrain"]
    assert main(words) == 2
    assert "there, 0.5 here" in capsys.readouterr().err
