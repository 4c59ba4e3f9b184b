"""The studies on real images: rows, words that are accepted, equal budgets, summaries, and a tiny run of their rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_idx

from experiments.e6_heldout import run as heldout
from experiments.e6_real import plan as fixed
from experiments.e6_real import run as e6
from experiments.e6_real import verdict
from experiments.e6_transfer import run as transfer
from experiments.e7_ablations import run as e7
from experiments.records import append_record, read_records
from experiments.study import NotYet, Study, run_rows
from lmsearch import scanbench
from lmsearch.config import compose_settings
from lmsearch.settings.tasks import Retrain


def test_rows_differ_and_what_a_row_needs_comes_before_it() -> None:
    for rows in (fixed.rows(), e7.rows(), heldout.rows()):
        assert len({row.key for row in rows}) == len(rows)
    kinds = [row.facts["kind"] for row in fixed.rows() if row.facts["plan"] == "main" and row.facts["seed"] == 3]
    end = len(kinds) - kinds[::-1].index("transfer") - kinds.count("transfer")
    before = kinds[: end - 2 * len(fixed.ATTEMPTS)]
    assert sorted(before, key=["baselines", "search", "try", "validate", "retrain"].index) == before
    assert kinds[len(before) : end] == ["search", "retrain"] * len(fixed.ATTEMPTS)
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
        for arm, samples in ((fixed.OURS, 128), ("halving", 254), ("halving, half held out", 424)):  # of one choice, on average
            epoch = plan.supernet_steps(arm) * 24
            spent = plan.supernet_epochs(arm) * epoch + (8 + 4 * 3 * 16) * samples / 32 * 12 / 3
            assert 0 <= plan.evaluations * plan.alone_cost - spent < epoch
    eight = replace(fixed.PLANS["main"], epochs=8)
    assert [eight.supernet_epochs(arm) for arm in fixed.SUPERNETS] == [18, 16, 21]
    assert eight.alone_cost == 8 * 75 * 12 + 187.5


def test_trainings_that_count_share_their_seeds_within_a_pair_and_with_no_other() -> None:
    counted = [row for row in fixed.rows() if row.part in ("main retrain", "main transfer")]
    pairs = {seed: {tuple(fixed.seeds_of(row)) for row in counted if row.facts["seed"] == seed} for seed in range(10)}
    assert all(len(own) == 1 for own in pairs.values())
    assert len({seed for own in pairs.values() for seeds in own for seed in seeds}) == 10 * fixed.RUNS


def test_only_the_main_plan_knows_the_official_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "ROOT", str(write_idx(tmp_path, train=120, test=24, side=8)))
    plan = replace(fixed.PLANS["pilot"], images=40, val_fraction=0.1)
    whole, held = (fixed.alone(one, fixed.words_of(one, 3), 0).source for one in (replace(plan, official=True), plan))
    assert (whole.val.epoch_size(1), whole.test.epoch_size(1)) == (12, 24)
    assert (held.val.epoch_size(1), held.test.epoch_size(1)) == (12, 12)
    assert not set(held.val.places) & set(held.test.places)
    assert [Counter(half.labels.tolist()) for half in (held.val, held.test)] == [dict.fromkeys(range(4), 3)] * 2
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
            if arm != "evolution":
                found.append(one("transfer", arm, test=test))
        found += [one("validate", arm, val=0.7 + 0.1 * (arm == "cross"), test=0.75) for arm in fixed.LITERATURE]
        found.append(one("search", fixed.OURS, chosen=[["h", "v", "w2", "w7"]] * 3, cost=10.0))
    return found


def test_a_summary_compares_pairs_of_seeds() -> None:
    lone = [record | {"seed": 7} for record in made_up()[:1]]  # a seed of which ours alone is there: in no pair
    before = [r | {"arm": "raster", "test": 0.1} for r in made_up() if r["kind"] == "transfer" and r["arm"] == "cross"][:2]
    summary = verdict.summarise([*made_up(), *lone, *before])["main"]  # `raster` was the best of the literature for a while
    assert summary["best_of_the_literature"] == "cross"
    primary = summary["primary"]
    assert [primary[name]["seeds"] for name in ("random", fixed.BEST)] == [3, 3]
    assert primary["random"]["difference"][0] == pytest.approx(0.02) and primary["random"]["won"] == 3
    assert set(summary["primary_p_holm"]) == {"random", fixed.BEST}
    assert summary["agreement"]["jaccard"] == [1.0] * 3 and summary["agreement"]["p"] < 0.01
    assert summary["changed_images"]["turned 15"]["minus random"][0] == pytest.approx(0.02)
    assert summary["transfer"]["minus random"][0] == pytest.approx(0.02)
    assert set(summary["transfer"]) == {*(three := (fixed.OURS, "random", fixed.BEST)), *(f"minus {arm}" for arm in three[1:])}
    assert len(summary["transfer"][f"minus {fixed.BEST}"]) == 3 and summary["transfer"][fixed.BEST][0] == pytest.approx(0.8)
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


def test_of_the_literature_the_best_so_far_is_trained_anew_and_an_arm_has_rows_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(e6, "HERE", tmp_path)
    plan, rows = fixed.PLANS["main"], fixed.rows()

    def validates(best: str, seed: int) -> None:
        for row in rows:
            if row.part == "main validate" and row.facts["seed"] == seed:
                score = {"val": 0.5 + (1 + seed) * 0.1 * (row.facts["arm"] == best)}
                append_record(tmp_path / "results.jsonl.gz", {"part": row.part, "words": row.words} | row.facts | score)

    def chosen() -> set[str]:
        """The arms of seed 0 that may be trained on more images."""
        found = set()
        for row in rows:
            if row.part == "main transfer" and row.facts["seed"] == 0 and row.facts["arm"] in fixed.LITERATURE:
                try:
                    assert e6.choice_of(row, plan) == fixed.literature(row.facts["arm"])
                    found.add(row.facts["arm"])
                except NotYet:
                    pass
        return found

    assert chosen() == set()
    validates("cross", 0)
    assert chosen() == {"cross"}
    validates("raster", 1)
    assert chosen() == {"raster"}


def test_a_search_that_diverges_is_a_row_and_its_choice_counts_as_guessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed, "ROOT", str(write_idx(tmp_path / "idx", train=1000, test=40, side=8)))
    tiny = replace(fixed.PLANS["main"], seeds=(0,), images=96, epochs=2, evaluations=1, val_fraction=0.04)
    monkeypatch.setitem(fixed.PLANS, "main", tiny)
    monkeypatch.setattr(fixed.Searched, "words", ("search=fair", "optim.lr=1e30"))
    monkeypatch.setattr(e6, "HERE", tmp_path)
    rows = {row.facts["kind"]: row for row in fixed.main_rows(0) if row.facts["arm"] == fixed.OURS}
    rows["transfer"] = fixed.made("main", "transfer", fixed.OURS, 0)
    records = []
    for kind in ("search", "retrain", "transfer"):
        row = rows[kind]
        records.append({"part": row.part, "words": row.words} | row.facts | e6.work(row))
        append_record(tmp_path / "results.jsonl.gz", records[-1])
    search, retrained, transferred = records
    assert (search["chosen"], search["diverged"], search["cost"] > 0) == (None, True, True) and "finite" in search["reason"]
    assert retrained["test"] == [0.25] * 3 and retrained["diverged"] == 3 and set(retrained["changed"].values()) == {0.25}
    assert transferred["test"] == 0.25
    found = verdict.summarise(records)["main"]
    assert found["diverged"] == 3 and found["agreement"] == {}


def test_more_images_and_no_noise_tell_more_of_choices(tmp_path: Path) -> None:
    rng, records = np.random.default_rng(0), []
    for row in heldout.rows():
        truth = (
            heldout.gains(-scanbench.load("fashion").test.mean(axis=1)) if row.facts["space"] == heldout.ONE else np.arange(60.0)
        )
        noise = rng.normal(size=(2, len(truth)))
        told = {
            "32": truth.std() * 4 * noise[0] - truth,
            "128": truth.std() * 2 * noise[0] - truth,
            "480": truth.std() * noise[1] / 4 - truth,
            "others": 3 - 2 * truth,
        }
        records.append(row.facts | {"losses": {size: values.tolist() for size, values in told.items()}})
    summary = heldout.summarise(records)
    assert len(summary) == 1 + 4 + 4 + 2
    for found in (values for name, values in summary.items() if name.startswith(tuple(heldout.SPACES))):
        means = {size: {name: values[0] for name, values in told.items()} for size, told in found.items()}
        assert means["others"]["correlation"] == pytest.approx(1) and 0.9 < means["480"]["correlation"] < 1
        assert means["32"]["correlation"] < 0.5
        assert means["32"]["gain of the best, as seen"] > 2 * means["32"]["gain of the best, in truth"]
        assert means["others"]["gain of the best, as seen"] == means["others"]["gain of the best, in truth"]
    for name, found in summary.items():
        if name.startswith(heldout.MORE):
            assert list(found) == ["480 minus 128"] and found["480 minus 128"][1] > 0
        elif name.startswith(heldout.HALF):
            assert found["others"] == pytest.approx([0, 0, 0]) and found["480"][1] < 0 < found["480"][2]
    heldout.draw(summary, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 0
    assert len(heldout.summarise(records[:4])) == 1  # one seed alone


@pytest.mark.slow
def test_a_tiny_run_of_both_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "ROOT", str(write_idx(tmp_path / "idx", train=800, test=40, side=16)))
    tiny = replace(fixed.PLANS["main"], seeds=(0,), images=64, epochs=1, evaluations=4, val_fraction=0.05)
    monkeypatch.setattr(fixed, "PLANS", {name: replace(tiny, official=name == "main") for name in fixed.PLANS})
    monkeypatch.setattr(e7, "PLAN", tiny)
    monkeypatch.setattr(e6, "HERE", tmp_path)
    pilots = [next(row for row in fixed.rows() if row.facts["kind"] == kind) for kind in ("learn", "spread")]
    drawn = next(row for row in fixed.rows() if row.facts["arm"] == "random0")
    rows = [*pilots, drawn, *(row for row in fixed.rows() if row.facts["kind"] not in ("learn", "spread"))]
    study = Study(tmp_path, rows, e6.work, verdict.summarise, verdict.draw)
    with pytest.raises(NotYet):
        e6.work(next(row for row in rows if row.part == "main retrain"))
    run_rows(study, rows, limit_s=None)
    records = [record for record in read_records(study.path) if "key" in record]
    summary = verdict.summarise(records)
    left = {row.words[0] for row in rows} - {record["arm"] for record in records}
    retrained = sum(r["part"] == "main retrain" for r in records)
    assert not left and retrained == 4 + len(fixed.ATTEMPTS)  # one arm of the literature: the best validated
    assert sum(r["part"] == "main transfer" for r in records) == 3 and 0 <= summary["pilot"]["val"]["raster, 8 epochs"] <= 1
    assert summary["main"]["primary"][fixed.BEST]["seeds"] == 1 and summary["main"]["cost"][fixed.OURS] > 0
    assert {len(layer) for r in records if r["kind"] == "search" for layer in r["chosen"]} == {4}
    assert all(summary["main"]["attempts"][arm]["minus random"]["seeds"] == 1 for arm in fixed.ATTEMPTS)
    levels = {(row.facts["family"], row.facts["training"]): row for row in e7.rows()}
    for place in ((e7.VMAMBA, "searched"), (e7.VIM, str(e7.FACTORS["position"]["class token"].training))):
        assert 0 <= e7.work(levels[place])["test"] <= 1
    monkeypatch.setattr(heldout, "CHOICES", 3)
    smaller = {name: replace(asked, plan=replace(tiny, model=asked.plan.model)) for name, asked in heldout.SPACES.items()}
    monkeypatch.setattr(heldout, "SPACES", smaller)
    for row, images in zip(heldout.rows()[:4], (12, 32, 12, 32), strict=True):
        told = heldout.work(row)
        assert told["images"] == images and set(told["losses"]) == ({"others"} if images == 12 else {"32", "others"})
        assert len(told["losses"]["others"]) == (28 if row.facts["space"] == heldout.ONE else 3)


def test_deviations_between_seeds_are_not_smaller_for_what_a_seed_does_to_all() -> None:
    rng, variances = np.random.default_rng(0), []
    for _ in range(300):
        scores = rng.normal(size=(3, 3)) + 5 * rng.normal(size=3)
        found = verdict.differing(scores.tolist())
        variances.append((np.ptp(scores.mean(axis=1)) / found["range_in_deviations"]) ** 2)
    assert np.mean(variances) == pytest.approx(1, abs=0.15), "it would be 2/3 without the correction"


def test_ranks_of_own_directions_come_with_their_exact_chance() -> None:
    cells = [(task, arm, seed) for task in transfer.METRICS for arm in transfer.ARMS for seed in (0, 1)]
    best = transfer.own_ranks({(task, arm, seed): float(arm == task) for task, arm, seed in cells}, (0, 1), transfer.ARMS)
    assert set(best["ranks"].values()) == {1.0} and best["p"] == pytest.approx(5.0**-6, abs=1e-6)
    same = transfer.own_ranks(dict.fromkeys(cells, 0.5), (0, 1), transfer.ARMS)
    assert set(same["ranks"].values()) == {3.0} and same["p"] == 1.0
    worst = transfer.own_ranks({(task, arm, seed): -float(arm == task) for task, arm, seed in cells}, (0,), transfer.ARMS)
    assert set(worst["ranks"].values()) == {5.0} and worst["p"] == pytest.approx(1.0)


def test_that_searching_pays_is_not_taken_for_own_directions_that_serve_better() -> None:
    cells = [(task, arm, seed) for task in transfer.METRICS for arm in transfer.ARMS for seed in (0, 1, 2)]
    records = [{"task": task, "arm": arm, "seed": seed, "test": float(arm in transfer.METRICS)} for task, arm, seed in cells]
    found = transfer.matrix(records)
    assert set(found["own_ranks"]["ranks"].values()) == {2.0} and found["own_ranks"]["p"] < 0.02
    assert set(found["own_ranks_of_searched"]["ranks"].values()) == {2.0} and found["own_ranks_of_searched"]["p"] == 1.0
