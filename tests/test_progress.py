"""Progress: every phase of a search and of a comparison says what it does and how long it still takes."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch

from lmsearch.cli import main
from lmsearch.config import compose, plain_config
from lmsearch.context import QUIET, setting
from lmsearch.engine import progress
from lmsearch.engine.objectives import Scores
from lmsearch.engine.progress import CountProgress, Phase, TrainingProgress, duration, evaluated
from lmsearch.run_identity import config_digest

SMALL = ["data=planted", "data.grid=3", "model.embed_dim=8", "model.d_state=2", "batch_size=128", "data.steps_per_epoch=5"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every line that a log would show at intervals."""
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    caplog.set_level(logging.INFO, logger=progress.__name__)
    return caplog


def lines(told: pytest.LogCaptureFixture, title: str) -> list[str]:
    return [r.getMessage() for r in told.records if r.name == progress.__name__ and r.getMessage().startswith(title)]


def test_no_phase_of_a_search_is_silent(told: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    words = ["search", *SMALL, "keep=2", "epochs=4", "search.recheck=0.5", "search=darts", "model.depth=2", f"run_dir={tmp_path}"]
    assert main(words) == 0
    for title in ("search  step", "derivation", "checks", "recheck 1/2  step", "recheck 1: checks", "evaluation"):
        assert lines(told, title) or (title == "derivation" and lines(told, "search")), title
    trained = [line for line in lines(told, "search  step") if "loss" in line]
    assert trained[-1].startswith("search  step 20/20") and " 0 s left" not in trained[-1], "what comes after counts"


def test_a_derivation_says_how_far_it_is(told: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    assert main(["search", *SMALL, "keep=2", "epochs=1", "search.recheck=0", f"run_dir={tmp_path}"]) == 0
    assert any(line.endswith(" left") for line in lines(told, "derivation"))


def test_arms_and_baselines_of_a_comparison_are_told_of(told: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    genotype = tmp_path / "genotype.json"
    genotype.write_text('{"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h", "v"]}]}')
    words = [
        "compare",
        f"genotype={genotype}",
        "epochs=1",
        "optim.warmup_epochs=0",
        "model.depth=1",
        "model.embed_dim=8",
        "batch_size=256",
    ]
    assert main([*words, f"run_dir={tmp_path / 'run'}"]) == 0
    assert lines(told, "searched (seed 0)  step") and lines(told, "searched (seed 0): evaluation")
    assert any("logistic regression" in line for line in lines(told, "baselines"))


def test_time_left_includes_what_comes_later(monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: 10.0 * next(clock))
    scores = Scores(torch.zeros(4), torch.ones(4))
    with TrainingProgress("t", total_steps=4, later=100) as shown:
        shown.step(0, scores)
    assert "min left" in lines(told, "t  step 1/4")[0]


def test_evaluations_count_for_the_innermost_block_alone(told: pytest.LogCaptureFixture) -> None:
    evaluated(3)  # nothing is shown, so nothing counts
    with CountProgress("outer", total=2, unit="things"), Phase("inner", images=8) as inner:
        evaluated(3)
        evaluated(7)
    assert inner.done == 10 and inner.total == 10
    assert [line.split(" through")[0] for line in lines(told, "inner")] == ["inner  3 images", "inner  10 images"]


def test_the_epoch_and_the_best_directions_so_far_are_told(told: pytest.LogCaptureFixture) -> None:
    scores = Scores(torch.zeros(4), torch.ones(4))
    with TrainingProgress("t", total_steps=4, epochs=2) as shown:
        shown.step(1, scores)
        shown.best({f"layers.{n}": ["h", "v"] for n in range(8)})
    step, best = lines(told, "t  ")
    assert step.startswith("t  step 1/4  epoch 2/2  loss 0.000") and " GB" in step
    assert best.startswith("t  best so far  layers.0: h v  |  layers.1: h v") and best.endswith("and 2 more")


def test_a_quiet_run_shows_no_progress(told: pytest.LogCaptureFixture) -> None:
    with setting(QUIET, True), TrainingProgress("t", total_steps=1, epochs=1) as shown, Phase("inner") as inner:
        shown.step(0, Scores(torch.zeros(4), torch.ones(4)))
        shown.best({"layers.0": ["h"]})
        inner.evaluated(3)
    assert lines(told, "") == []


def test_how_much_is_told_is_no_part_of_what_a_run_is(capsys: pytest.CaptureFixture[str]) -> None:
    digests = {config_digest(plain_config(compose("search", words))) for words in ([], ["quiet=true"], ["verbose=true"])}
    assert len(digests) == 1
    assert main(["search", "quiet=true", "verbose=true"]) == 2
    assert "quiet=true and verbose=true contradict each other" in capsys.readouterr().err


def test_a_quiet_command_prints_its_result_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search, found = tmp_path / "search", tmp_path / "found"
    assert main(["search", "quiet=true", *SMALL, "epochs=1", f"run_dir={search}"]) == 0
    assert re.fullmatch(r"search status: \w+: .+\n", capsys.readouterr().out)
    assert main(["compare", "quiet=true", "epochs=1", f"genotype={search}", f"run_dir={found}"]) == 0
    assert re.fullmatch(r"[^\n]*searched.+\n", capsys.readouterr().out)


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (130, "2 min"), (7100, "118 min"), (9000, "2.5 h")])
def test_durations_have_two_figures(seconds: float, said: str) -> None:
    assert duration(seconds) == said
