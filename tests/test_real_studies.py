"""The studies on real images: rows, words that are accepted, equal budgets, summaries, and a tiny run of their rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from idx_files import write_idx

from experiments.e6_real import plan as fixed
from experiments.e6_real import run as e6
from experiments.e6_real import verdict
from experiments.e7_ablations import run as e7
from experiments.records import read_records
from experiments.study import NotYet, Study, run_rows
from lmsearch.config import compose_settings
from lmsearch.settings.tasks import Retrain


def test_rows_differ_and_what_a_row_needs_comes_before_it() -> None:
    for rows in (fixed.rows(), e7.rows()):
        assert len({row.key for row in rows}) == len(rows)
    kinds = [row.facts["kind"] for row in fixed.rows() if row.facts["plan"] == "main" and row.facts["seed"] == 3]
    assert sorted(kinds, key=["baselines", "search", "try", "validate", "retrain", "transfer"].index) == kinds
    assert fixed.LITERATURE == tuple(name for name in fixed.ARMS if name != "published")
    seeds = [row.facts["seed"] for row in fixed.rows() if row.part in ("main search", "main retrain")]
    assert seeds == sorted(seeds) and [row.facts["seed"] for row in e7.rows()] == sorted(row.facts["seed"] for row in e7.rows())


def test_rows_of_another_plan_have_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {row.key for row in fixed.rows() if row.facts["plan"] == "main"}
    monkeypatch.setattr(fixed, "ROOT", "elsewhere")
    assert before == {row.key for row in fixed.rows() if row.facts["plan"] == "main"}
    monkeypatch.setitem(fixed.PLANS, "main", replace(fixed.PLANS["main"], epochs=12))
    assert not before & {row.key for row in fixed.rows()}


def test_the_supernet_costs_as_much_as_the_networks_of_random_search_up_to_an_epoch() -> None:
    for plan in (fixed.PLANS["main"], replace(fixed.PLANS["main"], epochs=12)):
        epoch = plan.supernet_steps * 24
        spent = plan.supernet_epochs * epoch + (8 + 4 * 3 * 16) * 4 * 12 / 3
        assert 0 <= plan.evaluations * plan.alone_cost - spent < epoch
    assert fixed.PLANS["main"].supernet_epochs == 18 and fixed.PLANS["main"].alone_cost == 8 * 75 * 12 + 187.5


def test_trainings_that_count_share_their_seeds_within_a_pair_and_with_no_other() -> None:
    counted = [row for row in fixed.rows() if row.part in ("main retrain", "main transfer")]
    pairs = {seed: {tuple(fixed.seeds_of(row)) for row in counted if row.facts["seed"] == seed} for seed in range(10)}
    assert all(len(own) == 1 for own in pairs.values())
    assert len({seed for own in pairs.values() for seeds in own for seed in seeds}) == 10 * fixed.RUNS


def test_only_the_main_plan_knows_the_official_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "ROOT", str(write_idx(tmp_path, train=120, test=24, side=8)))
    plan = replace(fixed.PLANS["mend"], images=40, val_fraction=0.1)
    whole, held = (fixed.alone(one, fixed.words_of(one, 3), 0).source for one in (replace(plan, official=True), plan))
    assert (whole.val.epoch_size(1), whole.test.epoch_size(1)) == (12, 24)
    assert (held.val.epoch_size(1), held.test.epoch_size(1)) == (12, 12)
    assert not set(held.val.places) & set(held.test.places)
    other = fixed.alone(plan, fixed.words_of(plan, 4), 0).source
    assert not (other.train.images == held.train.images).all()


def test_proposals_are_those_of_random_search_until_evolution_breeds() -> None:
    history: list = []
    for _ in range(3):
        history.append(e6.Tried(e6.propose(5, history), 0.0))
    assert len({one.architecture for one in history}) == 3 and e6.propose(5, history) in e6.SPACE_OF_ALL
    history[1] = replace(history[1], score=1.0)
    bred = e6.propose(5, history, bred=True)
    assert any(bred in set(e6.SPACE_OF_ALL.neighbours(one.architecture)) for one in history)


def test_every_training_of_the_ablations_is_run_once_and_its_words_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "ROOT", "x")
    trained = Counter((row.facts["family"], row.facts["training"]) for row in e7.rows())
    assert set(trained.values()) == {len(e7.SEEDS)} and (e7.VMAMBA, "first-4") in trained
    for factor, family in (("windows", e7.VIM), ("attention", e7.VMAMBA), ("position", e7.VIM)):
        for each in e7.FACTORS[factor].values():
            settings = compose_settings(Retrain, ["genotype=none", *e7.level_words(family, 0), *each.training.words])
            assert settings.model.name == family and settings.epochs == fixed.EPOCHS


def test_kept_directions_are_nested_drawn_by_seed_and_differ_on_the_grid_of_their_layer() -> None:
    sets = {n: e7.directions(e7.VMAMBA, e7.Training(f"first {n}"), 2) for n in (1, 4, 8)}
    assert all(set(few) < set(more) for few, more in zip(sets[1], sets[4], strict=True))
    assert [len(layer) for layer in sets[8]] == [8, 8, 6] and "w7" not in sets[8][2]
    assert sets[4] != e7.directions(e7.VMAMBA, e7.Training("first 4"), 3)


def made_up() -> list[dict]:
    """Return records of three seeds: ours is better than all by a little that depends on the seed, `cross` validates best."""
    found = []
    for seed in range(3):

        def one(kind: str, arm: str, seed: int = seed, **told: object) -> dict:
            return {"plan": "main", "kind": kind, "seed": seed, "arm": arm} | told

        for arm in (fixed.OURS, *fixed.SEARCHES, "cross"):
            test = 0.8 + 0.01 * (arm == fixed.OURS) * (1 + seed)
            found.append(one("retrain", arm, test=[test] * 3, changed={"turned 15": test - 0.3}))
            found.append(one("transfer", fixed.BEST if arm == "cross" else arm, test=test))
        found += [one("validate", arm, val=0.7 + 0.1 * (arm == "cross"), test=0.75) for arm in fixed.LITERATURE]
        found.append(one("search", fixed.OURS, chosen=[["h", "v", "w2", "w7"]] * 3, cost=10.0))
    return found


def test_a_summary_compares_pairs_of_seeds() -> None:
    lone = [record | {"seed": 7} for record in made_up()[:1]]  # a seed of which ours alone is there: in no pair
    summary = verdict.summarise([*made_up(), *lone])["main"]
    assert summary["best_of_the_literature"] == "cross"
    primary = summary["primary"]
    assert [primary[name]["seeds"] for name in ("random", fixed.BEST)] == [3, 3]
    assert primary["random"]["difference"][0] == pytest.approx(0.02) and primary["random"]["won"] == 3
    assert set(summary["primary_p_holm"]) == {"random", fixed.BEST}
    assert summary["agreement"]["jaccard"] == [1.0] * 3 and summary["agreement"]["p"] < 0.01
    assert summary["changed_images"]["turned 15"]["minus random"][0] == pytest.approx(0.02)
    assert summary["transfer"]["minus random"][0] == pytest.approx(0.02)
    assert summary["ours_minus"][verdict.PICK][0] == pytest.approx(0.07)
    assert verdict.best_validated([]) is None and verdict.summarise([])["main"]["primary_p_holm"] == {}


def test_the_primary_comparison_with_random_needs_no_row_of_the_literature() -> None:
    records = [record for record in made_up() if record["arm"] in (fixed.OURS, "random")]
    primary = verdict.summarise(records)["main"]["primary"]
    assert primary["random"]["seeds"] == 3 and primary[fixed.BEST]["seeds"] == 0


def test_levels_are_compared_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    levels = e7.FACTORS["attention"]
    records = [
        {"family": e7.VIM, "training": str(levels[name].training), "seed": seed, "test": 0.5 + gain * seed, "same": ""}
        for name, gain in (("none", 0.0), ("channel", 0.1))
        for seed in range(3)
    ]
    summary = e7.summarise(records)
    found = summary["attention, local_vim"]
    assert found["channel"]["minus none"][0] == pytest.approx(0.1) and "spatial and channel" not in found
    e7.draw(summary, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 0


@pytest.mark.slow
def test_a_tiny_run_of_both_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "ROOT", str(write_idx(tmp_path / "idx", train=800, test=40, side=16)))
    tiny = replace(fixed.PLANS["main"], seeds=(0,), images=48, epochs=1, evaluations=4, val_fraction=0.05)
    monkeypatch.setattr(fixed, "PLANS", {name: replace(tiny, official=name == "main") for name in fixed.PLANS})
    monkeypatch.setattr(e7, "PLAN", tiny)
    monkeypatch.setattr(e6, "HERE", tmp_path)
    rows = [row for row in fixed.rows() if row.facts["kind"] not in ("learn", "spread")]
    rows = [row for row in rows if row.facts["plan"] != "mend" or row.facts["arm"] in ("0", "1", "2", "3", "random", "darts")]
    study = Study(tmp_path, rows, e6.work, verdict.summarise, verdict.draw)
    with pytest.raises(NotYet):
        e6.work(next(row for row in rows if row.part == "main retrain"))
    run_rows(study, rows, limit_s=None)
    records = [record for record in read_records(study.path) if "key" in record]
    summary = verdict.summarise(records)
    left = {row.words[0] for row in rows} - {record["arm"] for record in records}
    assert not left and sum(r["part"] == "main retrain" for r in records) == 4  # one arm of the literature: the best validated
    assert summary["main"]["primary"][fixed.BEST]["seeds"] == 1 and summary["main"]["cost"][fixed.OURS] > 0
    assert {len(layer) for r in records if r["kind"] == "search" for layer in r["chosen"]} == {4}
    levels = {(row.facts["family"], row.facts["training"]): row for row in e7.rows()}
    for place in ((e7.VMAMBA, "searched"), (e7.VIM, str(e7.FACTORS["position"]["class token"].training))):
        assert 0 <= e7.work(levels[place])["test"] <= 1
