"""Experiment E1 in small: planted directions are found and called so, and controls without one are called indeterminate."""

from __future__ import annotations

from pathlib import Path

import pytest

import lmsearch
from lmsearch.cli import main
from lmsearch.genotype import Genotype
from lmsearch.search_space import load_search_space

LIGHT = "search.health_every=0"
SLOW = pytest.mark.slow


def searched(run_dir: Path, *words: str) -> Genotype:
    """Search as E1 does."""
    assert main(["search", "data=planted", *words, LIGHT, f"run_dir={run_dir}"]) == 0
    return lmsearch.load_genotype(run_dir)


@pytest.mark.parametrize(("task", "direction"), [("decayed_sum", "w4_flip"), pytest.param("latest_key", "h", marks=SLOW)])
def test_a_planted_direction_is_found_and_the_verdict_is_ok(task: str, direction: str, tmp_path: Path) -> None:
    found = searched(tmp_path, f"data.task={task}", f"data.direction={direction}")
    assert found.directions == ((direction,),)
    assert found.health["status"] == "ok", found.health["reason"]


@pytest.mark.parametrize("task", ["token_mean", pytest.param("random", marks=SLOW)])
def test_a_control_without_a_direction_is_indeterminate(task: str, tmp_path: Path) -> None:
    fewer = ["data.steps_per_epoch=12"] if task == "token_mean" else []  # a control needs no long training to show nothing
    assert searched(tmp_path, f"data.task={task}", *fewer).health["status"] == "indeterminate"


@SLOW
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("direction", sorted(load_search_space("localmamba8_w4").candidates))
def test_every_planted_direction_is_found_for_every_seed(direction: str, seed: int, tmp_path: Path) -> None:
    found = searched(tmp_path, f"data.direction={direction}", f"seed={seed}", "search.recheck=0")
    assert found.directions == ((direction,),)
