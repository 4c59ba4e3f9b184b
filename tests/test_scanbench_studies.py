"""The studies on ScanBench: rows, tables made of them, budgets that hold, and verdicts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments.e3_scanbench import analysis
from experiments.e3_scanbench import run as e3
from experiments.e3_scanbench.scores import fair_epochs, options_of, score_fair, supernet
from experiments.e3_scanbench.tasks import DENSE, PLANTED_RECIPE, TASKS, BenchTask
from experiments.e5_race import run as e5
from experiments.e5_race import verdict
from experiments.e5_race.arms import (
    ARMS,
    DERIVING_EPOCHS,
    HAND_MADE,
    Arena,
    climbing_samples,
    deriving_samples,
    epochs_for,
    halving_samples,
    hand_made,
    quotas,
    stand_alone,
)
from experiments.study import Row
from lmsearch.scanbench.spaces import FIRST_SPACES, Space, from_text
from lmsearch.search.derivation.kinds import derivation_kind
from lmsearch.search.derivation.perturbation import branches_run
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.discrete.budget import evaluation_cost, training_cost
from lmsearch.search.discrete.strategies import RandomSearch
from lmsearch.search.supernet.network import named_mixers

FEW = {"name": "graded", "grid": 8, "steps_per_epoch": 1, "val_size": 4, "test_size": 4}
TINY = BenchTask("tiny", FEW, "local_vim", DENSE, replace(PLANTED_RECIPE, epochs=1))


def records(task: BenchTask) -> list[dict]:
    """Return rows in which an architecture scores by how many of its directions are h, with a little noise per seed."""
    rng = np.random.default_rng(0)
    rows = [row for row in e3.rows() if row.part == task.name]
    scores = [row.words[1].replace("h_flip", "").count("h") + 0.01 * rng.normal() for row in rows]
    return [{"part": row.part, "words": list(row.words), "val": s, "test": s} for row, s in zip(rows, scores, strict=True)]


@pytest.mark.parametrize("study", [e3, e5])
def test_every_row_of_a_study_has_a_key_of_its_own(study: object) -> None:
    keys = [row.key for row in study.rows()]
    assert keys and len(set(keys)) == len(keys)


def test_the_tables_take_162_rows_per_seed() -> None:
    assert sum(row.part == "digits" for row in e3.rows()) == 4 * 162


def test_every_scored_task_has_45_supernets_of_each_kind_over_its_spaces() -> None:
    rows = e3.rows()
    assert all(sum(row.part.startswith(f"{kind}_") for row in rows) == 45 for kind in ("scores", "fair", "strict"))
    assert "fair_digits 1layer-top4 seed4" in {row.key for row in rows}


def test_a_table_is_made_of_complete_rows_only() -> None:
    task = TASKS["sum_v"]
    rows = records(task)
    table = analysis.table_of(task, rows)
    assert table.val.shape == (162, 4) and table.mean((("h",), ("h",))) > 1.9
    assert analysis.table_of(task, rows[:-1]) is None


def test_a_score_is_compared_with_its_table_and_the_ceiling() -> None:
    table = analysis.table_of(TASKS["sum_h"], records(TASKS["sum_h"])).space("1 layer, top 2")
    said = table.val.mean(1).tolist()
    row = {"part": "scores_sum_h", "words": ["1layer-top2", "seed0"], "alpha": said, "masked": said, "perturbation": said[::-1]}
    alpha, _, perturbation = analysis.agreement(table, "1 layer, top 2", [row])
    assert alpha["tau"] == 1 and alpha["reaches_half_of_ceiling"] and not perturbation["reaches_half_of_ceiling"]
    one, other, rest = np.random.default_rng(0).normal(size=(3, 28))
    noise = replace(table, val=np.stack([one, -one, other, -other], axis=1) + 0.01 * rest[:, None])  # seeds contradict each other
    assert noise.noise_ceiling() == 0 and analysis.agreement(noise, "1 layer, top 2", [row])[0]["reaches_half_of_ceiling"] is None


def test_a_summary_leaves_tables_that_are_there_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "write_table", lambda table, path: pytest.fail(f"{path} is written anew"))
    assert "sum_h: 1 layer, top 2" in analysis.summarise(records(TASKS["sum_h"]))["tables"]


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


@pytest.mark.parametrize(("name", "times"), list(zip(FIRST_SPACES, (4, 4, 2), strict=True)))
def test_a_fair_supernet_costs_no_more_than_a_full_one(name: str, times: int) -> None:
    task, space = TASKS["digits"], FIRST_SPACES[name]
    assert fair_epochs(task, space) == times * task.recipe.epochs
    assert times * space.keep <= len(space.candidates)


def test_a_fair_supernet_scores_every_architecture() -> None:
    found = score_fair(TINY, TINY.build(), FIRST_SPACES["1 layer, top 4"], 0)
    assert (found["epochs"], found["cost"]) == (2, 2 * 4)  # epochs of one step of four branches
    assert len(set(found["masked_fair"])) > 60 and len(set(found["perturbation_fair"])) > 60


@pytest.mark.parametrize(("count", "error"), [(70, 0.082), (64, 0.086), (28, 0.134)])
def test_the_chance_level_of_tau_is_the_known_one(count: int, error: float) -> None:
    assert analysis.chance(count) == pytest.approx(error, abs=6e-4)


def test_a_mirrored_architecture_keeps_candidate_order() -> None:
    assert analysis.mirrored("h+v_flip/w2") == "h_flip+v/w2_flip"
    for space in FIRST_SPACES.values():
        assert {from_text(analysis.mirrored(e3.to_text(a))) for a in space.architectures()} == set(space.architectures())


@pytest.mark.parametrize("space", [*FIRST_SPACES.values(), e5.LIVE_SPACE])
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


@pytest.mark.parametrize("space", [*FIRST_SPACES.values(), e5.LIVE_SPACE])
def test_derivation_by_perturbation_is_paid_by_the_epoch_that_the_supernet_gives_up(space: Space) -> None:
    arena = Arena(e5.live_task(0), e5.source_of("graded0"), space, 0, lambda architecture, run: (0.0, 0.0))
    whole, batch = space.depth * len(space.candidates), arena.task.recipe.batch_size
    trained = training_cost(arena.steps - DERIVING_EPOCHS * 30, whole)
    derived = evaluation_cost(deriving_samples(arena), batch_size=batch, branches=branches_run(*quotas(space)))
    assert 0.9 * arena.budget < trained + derived + arena.alone_cost <= arena.budget


@pytest.mark.parametrize("space", [*FIRST_SPACES.values(), e5.LIVE_SPACE])
def test_halving_looks_at_as_many_samples_as_the_climb_is_paid_for(space: Space) -> None:
    arena = Arena(e5.live_task(0), e5.source_of("graded0"), space, 0, lambda architecture, run: (0.0, 0.0))
    keep, candidates = quotas(space)
    looked = partial(derivation_kind("halving").looked_at, keep=keep, candidates=candidates)
    paid, number = climbing_samples(arena), halving_samples(arena)
    assert paid <= number <= 256 and looked(number) <= paid and (number == 256 or looked(number + 1) > paid)


@pytest.mark.parametrize("space", [Space(2, 1), Space(1, 4), Space(3, 2)])
def test_the_branches_of_a_derivation_are_those_that_run(space: Space) -> None:
    options, ran = options_of("search=darts"), []
    found = supernet(TINY, TINY.build(), space, 0, options=options, derivation="perturbation")
    for mixer in named_mixers(found.supernet).values():
        mixer.register_forward_hook(lambda _, args, kwargs, out: ran.append(len(kwargs["active"])), with_kwargs=True)
    found.derive()
    assert sum(ran) == branches_run(*quotas(space))


def test_the_live_part_has_twelve_instances_that_share_neither_strengths_nor_images() -> None:
    live = [row.words for row in e5.rows() if row.part == "live"]
    assert len(live) == len({instance for instance, _ in live}) == 12
    assert len({tuple(e5.live_task(n).source["strengths"]) for n in e5.LIVE_INSTANCES}) == 12
    one, other = (e5.live_task(n).build().val.eval_batch(np.arange(4))[0] for n in (0, 1))
    assert not (one == other).any()


def test_rows_of_the_same_seed_draw_their_proposals_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e5, "race", lambda arena, table, arms: {"seed": arena.seed})
    rows = [Row("live", (f"instance{n}", "seed0")) for n in e5.LIVE_INSTANCES]
    rows += [Row("table", (space, f"seed{seed}")) for space in FIRST_SPACES for seed in e5.TABLE_SEEDS if planted_along_h(seed)]
    monkeypatch.setattr(e5, "retrained", lambda instance, seed, arms, known: {"seed": seed})
    rows += [row for row in e5.rows() if row.part == "retrained"]
    assert len({e5.work(row)["seed"] for row in rows}) == len(rows)


def planted_along_h(seed: int) -> bool:
    """Tell whether the table of the seed's direction is one that ships already."""
    return e5.drawn_direction(seed).removesuffix("_flip") == "h"


def test_hand_made_sets_are_as_large_as_what_a_layer_keeps() -> None:
    assert all(len(names) == keep for keep, sets in HAND_MADE.items() for names in sets)


def test_the_drawn_directions_are_not_all_alike() -> None:
    assert len({e5.drawn_direction(seed) for seed in e5.TABLE_SEEDS}) >= 5


def raced(part: str, words: tuple[str, str], advantage: float, rng: np.random.Generator) -> dict:
    """Return a row in which our search is better by `advantage`."""
    test = {arm: rng.normal() * 0.01 + advantage * (arm == verdict.OURS[part]) for arm in ARMS}
    return {"part": part, "words": list(words), "test": test, "percentile": dict.fromkeys(ARMS, 0.5)}


def test_a_race_won_by_far_is_won_on_both_primary_comparisons() -> None:
    rng = np.random.default_rng(0)
    found = verdict.summarise([raced("live", (f"instance{n}", "seed0"), 1.0, rng) for n in range(12)])["live"]
    assert found["primary"] == {"random": "better", "hand-made": "better"}
    assert found["ours_wins_ties_losses"]["tpe"] == [12, 0, 0]


def test_what_was_shipped_is_trained_anew_with_seeds_that_no_arm_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def trained(task: object, source: object, architecture: tuple, seed: int) -> tuple[float, float]:
        seen.append((architecture, seed))
        return len(seen), -len(seen)

    monkeypatch.setattr(e5, "train_alone", trained)
    found = e5.retrained(24, seed=3, arms=("random", "hand-made"))
    used = seen[: -2 * len(e5.NEW_RUNS)]
    again = seen[len(used) :]
    assert len(used) == 4 + 2 and not {seed for _, seed in used} & {seed for _, seed in again}
    assert [len(tests) for tests in found["retrained"].values()] == [3, 3]
    assert {e3.to_text(a) for a, _ in again} == set(found["shipped"].values())


def test_the_retrained_part_counts_the_new_trainings_and_reports_the_shipped_networks_beside_them() -> None:
    rng = np.random.default_rng(0)
    rows = [raced("retrained", (f"instance{n}", "seed0"), 0.0, rng) for n in range(24, 48)]
    for row in rows:
        row["retrained"] = {arm: [1.0 * (arm == "fair") + 0.01 * rng.normal() for _ in range(3)] for arm in e5.RETRAINED_ARMS}
    found = verdict.summarise(rows)
    assert found["retrained"]["primary"] == {"random": "better", "hand-made": "better"}
    assert found["retrained"]["pairs"] == 24 and set(found["retrained"]["test"]) == set(e5.RETRAINED_ARMS)
    assert abs(found[verdict.SHIPPED]["ours_minus"]["random"][0]) < 0.01 and "primary" not in found[verdict.SHIPPED]


def test_an_arm_that_was_added_later_is_compared_on_the_rows_that_it_shares() -> None:
    rng, last = np.random.default_rng(0), verdict.LATER["both table"].arm
    rows = [raced("table", (space, f"seed{seed}"), 0.0, rng) for seed in range(8) for space in FIRST_SPACES]
    for row in rows:
        del row["test"][last]
    both = [{"part": "both table", "words": row["words"], "test": {last: row["test"]["softmax"] + 1.0}} for row in rows[:-1]]
    found = verdict.summarise([*rows, *both])
    assert last not in found["table"]["test"]
    assert found["both table"]["pairs"] == 7, "a seed of which a space is missing does not count"
    assert found["both table"]["ours_minus"]["softmax"][0] == pytest.approx(1.0)
    assert set(found["both table"]["p_holm"]) == {"softmax", "fair"}


def test_the_direction_of_a_primary_comparison_is_that_of_the_ranks() -> None:
    differences = np.array([0.01 * n for n in range(1, 23)] + [-5.0, -6.0])
    assert verdict.verdict(differences, 0.003) == "better by ranks, not in the mean"
    assert verdict.verdict(-differences, 0.003) == "worse by ranks, not in the mean"
    assert verdict.verdict(differences + 6, 0.003) == "better" and verdict.verdict(differences, 0.2) == "no difference shown"


def test_a_seed_of_the_tables_counts_once_however_many_spaces_it_was_raced_in() -> None:
    rng = np.random.default_rng(0)
    rows = [raced("table", (space, f"seed{n}"), 1.0, rng) for n in range(4) for space in FIRST_SPACES]
    found = verdict.summarise(rows[:-1])
    assert found["table"]["pairs"] == 3, "the last seed lacks a space"
    assert found["table"]["primary"]["random"] == "no difference shown", "three pairs cannot show one"
    assert found["table: 2 layers, top 1"]["pairs"] == 4 and found["rows"]["table"] == 11
    first = np.mean([row["test"]["tpe"] for row in rows[:9]])
    assert found["table"]["test"]["tpe"][0] == pytest.approx(first, abs=1e-5)


def test_comparisons_within_spaces_are_corrected_for_all_of_them() -> None:
    rng = np.random.default_rng(0)
    rows = [raced("table", (space, f"seed{n}"), 1.0, rng) for n in range(8) for space in FIRST_SPACES]
    found = verdict.summarise(rows)
    least = 2 / 2**8  # p-value of eight wins out of eight
    assert found["table"]["primary_p_holm"]["random"] == pytest.approx(2 * least, abs=1e-5)
    assert found["table: 1 layer, top 2"]["primary_p_holm"]["random"] == pytest.approx(6 * least, abs=1e-5)
