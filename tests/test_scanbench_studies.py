"""The studies on ScanBench: rows, tables made of them, budgets that hold, and verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.e3_scanbench import analysis
from experiments.e3_scanbench import run as e3
from experiments.e3_scanbench.scores import fair_epochs, score_fair
from experiments.e3_scanbench.tasks import DENSE, PLANTED_RECIPE, TASKS, BenchTask
from experiments.e5_race import run as e5
from experiments.e5_race import verdict
from experiments.e5_race.arms import ARMS, HAND_MADE, Arena, epochs_for, hand_made, stand_alone
from lmsearch.scanbench.spaces import SPACES, from_text
from lmsearch.search.architectures import Architecture
from lmsearch.search.strategies import RandomSearch


def records(task: BenchTask) -> list[dict]:
    """Return rows in which an architecture scores by how many of its directions are h, with a little noise per seed."""
    rng = np.random.default_rng(0)
    rows = [row for row in e3.rows() if row.part == task.name]
    scores = [row.words[1].replace("h_flip", "").count("h") + 0.01 * rng.normal() for row in rows]
    return [
        {"part": row.part, "words": list(row.words), "val": s, "test": s} for row, s in zip(rows, scores, strict=True)
    ]


@pytest.mark.parametrize("study", [e3, e5])
def test_every_row_of_a_study_has_a_key_of_its_own(study: object) -> None:
    keys = [row.key for row in study.rows()]
    assert keys and len(set(keys)) == len(keys)


def test_the_tables_take_162_rows_per_seed() -> None:
    assert sum(row.part == "digits" for row in e3.rows()) == 4 * 162


def test_every_scored_task_has_45_supernets_of_each_kind_over_its_spaces() -> None:
    rows = e3.rows()
    assert all(sum(row.part.startswith(f"{kind}_") for row in rows) == 45 for kind in ("scores", "fair"))
    assert "fair_digits 1layer-top4 seed4" in {row.key for row in rows}


def test_a_table_is_made_of_complete_rows_only() -> None:
    task = TASKS["sum_v"]
    rows = records(task)
    table = analysis.table_of(task, rows)
    assert table.val.shape == (162, 2) and table.mean((("h",), ("h",))) > 1.9
    assert analysis.table_of(task, rows[:-1]) is None


def test_a_score_is_compared_with_its_table_and_the_ceiling() -> None:
    table = analysis.table_of(TASKS["sum_h"], records(TASKS["sum_h"])).space("1 layer, top 2")
    said = table.val.mean(1).tolist()
    row = {"part": "scores_sum_h", "words": ["1layer-top2", "seed0"], "alpha": said, "masked": said, "perturbation": said[::-1]}
    alpha, _, perturbation = analysis.agreement(table, "1 layer, top 2", [row])
    assert alpha["tau"] == 1 and alpha["reaches_half_of_ceiling"] and not perturbation["reaches_half_of_ceiling"]


def test_fair_scores_are_compared_once_they_have_rows() -> None:
    table = analysis.table_of(TASKS["sum_h"], records(TASKS["sum_h"])).space("1 layer, top 2")
    said = table.val.mean(1).tolist()
    row = {"part": "fair_sum_h", "words": ["1layer-top2", "seed3"], "masked_fair": said, "perturbation_fair": said[::-1]}
    found = analysis.agreement(table, "1 layer, top 2", [row])
    assert [(r["score"], r["supernets"], r["reaches_half_of_ceiling"]) for r in found] == [
        ("masked_fair", 1, True), ("perturbation_fair", 1, False)
    ]  # fmt: skip


def test_the_figure_is_drawn_while_rows_are_missing(tmp_path: Path) -> None:
    table = analysis.table_of(TASKS["sum_h"], records(TASKS["sum_h"]))
    values = np.random.default_rng(0).normal(size=(2, 28))
    rows = [analysis.compared(table.space("1 layer, top 2"), "1 layer, top 2", "masked_fair", values)]
    rows.append(analysis.compared(table.space("1 layer, top 2"), "1 layer, top 4", "alpha", values))
    analysis.draw({"agreement": rows}, tmp_path / "found.png")
    assert (tmp_path / "found.png").stat().st_size > 0


@pytest.mark.parametrize(("name", "times"), list(zip(SPACES, (4, 4, 2), strict=True)))
def test_a_fair_supernet_costs_no_more_than_a_full_one(name: str, times: int) -> None:
    task, space = TASKS["digits"], SPACES[name]
    assert fair_epochs(task, space) == times * task.recipe.epochs
    assert times * space.keep <= len(space.candidates)


def test_a_fair_supernet_scores_every_architecture() -> None:
    source = {"name": "graded", "grid": 8, "steps_per_epoch": 1, "val_size": 4, "test_size": 4}
    task = BenchTask("tiny", source, "local_vim", DENSE, replace(PLANTED_RECIPE, epochs=1))
    found = score_fair(task, task.build(), SPACES["1 layer, top 4"], 0)
    assert (found["epochs"], found["cost"]) == (2, 2 * 4)  # epochs of one step of four branches
    assert len(set(found["masked_fair"])) > 60 and len(set(found["perturbation_fair"])) > 60


@pytest.mark.parametrize(("count", "error"), [(70, 0.082), (64, 0.086), (28, 0.134)])
def test_the_chance_level_of_tau_is_the_known_one(count: int, error: float) -> None:
    assert analysis.chance(count) == pytest.approx(error, abs=6e-4)


def test_a_mirrored_architecture_keeps_candidate_order() -> None:
    assert analysis.mirrored("h+v_flip/w2") == "h_flip+v/w2_flip"
    for space in SPACES.values():
        assert {from_text(analysis.mirrored(e3.to_text(a))) for a in space.architectures()} == set(space.architectures())


@pytest.mark.parametrize("space", [*SPACES.values(), e5.LIVE_SPACE])
def test_no_arm_of_the_race_spends_more_than_the_budget(space: object) -> None:
    judged: list[Architecture] = []

    def judge(architecture: Architecture, run: int) -> tuple[float, float]:
        judged.append(architecture)
        return float(len(judged)), float(run)

    arena = Arena(e5.live_task(0), e5.source_of("graded0"), space, 0, judge)
    shipped, test = stand_alone(arena, RandomSearch())
    assert len(set(judged)) == arena.evaluations and shipped == judged[-1] and test == len(judged) - 1
    assert len(judged) * arena.alone_cost <= arena.budget < (len(judged) + 1) * arena.alone_cost
    judged.clear()
    hand_made(arena)
    assert len(judged) * arena.alone_cost <= arena.budget
    whole = space.depth * len(space.candidates)
    epochs = epochs_for(arena, arena.budget - arena.alone_cost, whole)
    assert epochs == arena.task.recipe.epochs, "the default search trains as long as one network"


def test_hand_made_sets_are_as_large_as_what_a_layer_keeps() -> None:
    assert all(len(names) == keep for keep, sets in HAND_MADE.items() for names in sets)


def test_the_drawn_directions_are_not_all_alike() -> None:
    assert len({e5.drawn_direction(seed) for seed in e5.TABLE_SEEDS}) >= 5


def test_a_race_won_by_far_is_won_on_both_primary_comparisons() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"part": "live", "words": ["x", str(n)], "test": {a: rng.normal() * 0.01 + (a == "default") for a in ARMS}}
        for n in range(12)
    ]
    found = verdict.summarise(rows)["live"]
    assert found["primary"] == {"random": "better", "hand-made": "better"}
    assert found["ours_wins_ties_losses"]["tpe"] == [12, 0, 0]
