"""The quick audit: what it trains, what its numbers add up to, and one small run of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lmsearch.audit import auditor, quick_planner
from lmsearch.audit.constant import constant_loss, entropy
from lmsearch.audit.ledger import Ledger
from lmsearch.audit.quick import (
    BALANCED,
    HAND_MADE,
    LEAST_STEPS,
    MENUS,
    ORDERLESS,
    PLANTED,
    RASTER,
    SHUFFLED,
    Order,
    Pace,
    QuickPlan,
    as_trained,
    control_steps,
    named,
    orders_of,
    quick_plan,
    scored,
    steps_of,
    taken,
)
from lmsearch.audit.quick_planner import left_out
from lmsearch.audit.quick_verdict import differences, directions_text, read_quick
from lmsearch.cli import main
from lmsearch.data import build_loaders, build_source
from lmsearch.data.few import few
from lmsearch.engine.objectives import Scores
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import Workers
from lmsearch.errors import ConfigError, DataError
from lmsearch.report.page.folder import Run
from lmsearch.report.page.quick import quick_page
from lmsearch.report.page.render import to_markdown
from lmsearch.search.discrete.architectures import ArchitectureSpace
from lmsearch.search.discrete.evaluators import Evaluation
from lmsearch.tasks.parts import memory, quick_audit

PLAN = QuickPlan(seeds=3, sets=5, epochs=2, images=100, steps=200)
CONSTANT = 5.0  # the loss of a constant answer to these trainings
SETS = (HAND_MADE, "shuffles", "random 0", "cross", "random 1")


SECOND = {HAND_MADE: "h_flip", "shuffles": "random0", "random 0": "v", "cross": "w2", "random 1": "random1"}  # directions


def rows(*, worth: float = 0.0, shuffle: float = 0.0, planted: float = 0.1, orderless: float = 0.5) -> dict[str, dict]:
    """Return made-up trainings: sets differ by `worth`, shuffles lose `shuffle` more, a seed moves all orders alike."""
    rng, found = np.random.default_rng(0), {}
    for order in orders():
        level = 1 + worth * SETS.index(order.name) / len(SETS) if order.name in SETS else 1.0
        for seed in range(3):
            loss = level + shuffle * order.shuffled + seed + 0.001 * rng.normal()
            found[named(order, seed)] = {"loss": loss, "score": -loss}
    for begin, value in ((PLANTED, planted), (ORDERLESS, orderless)):
        for seed in range(2):
            found[f"{begin}: h s{seed}"] = {"loss": value, "score": 0.0}
            found[f"{begin}: {SHUFFLED} s{seed}"] = {"loss": 0.5, "score": 0.0}
    return found


def orders() -> list[Order]:
    """Return the orders of these trainings."""
    single = [Order(RASTER, (("h",),), single=True), Order(SHUFFLED, (("random0",),), single=True, shuffled=True)]
    return single + [Order(name, (("h", SECOND.get(name, name)),), single=False, shuffled=name == "shuffles") for name in SETS]


def read(found: dict[str, dict], *, steps: int = 200, constant: float | None = CONSTANT) -> dict:
    """Return what a quick audit reads of trainings of so many steps beside controls of 150."""
    plan = replace(PLAN, steps=steps)
    return read_quick(found, orders(), plan, first_seed=0, planted="h", control_steps=150, constant=constant)


def verdict_of(**given: float) -> dict:
    """Return the verdict of made-up trainings."""
    return read(rows(**given))["verdict"]


def test_sets_that_differ_by_more_than_seeds_leave_a_search_something_to_find() -> None:
    found = verdict_of(worth=0.1)
    assert (found["answer"], found["use"]) == ("yes", HAND_MADE) and "A search may pay here" in found["sentences"][-1]


def test_the_order_to_use_is_named_by_its_directions() -> None:
    found = read(rows(worth=-0.1))
    assert (
        found["verdict"]["use"] == "random 1"
        and "Use: random 1 (in every layer h, random1)." in found["verdict"]["sentences"][-1]
    )
    assert next(o for o in found["orders"] if o["name"] == "random 1")["directions"] == [["h", "random1"]]
    assert directions_text([["h", "v"], ["w2"]]) == "layer 0: h, v; layer 1: w2"


def test_a_shuffle_that_loses_alone_asks_for_no_search() -> None:
    found = verdict_of(shuffle=0.1)
    assert found["answer"] == "no" and "order matters, since a shuffle loses" in found["sentences"][-1]
    assert "neither a shuffle nor" in (told := verdict_of()["sentences"][-1])
    assert "an audit of 4 sets with 3 seeds misses differences below about 2.1 seed deviations" in told


def test_a_hand_made_order_that_diverges_is_not_what_to_use() -> None:
    found = rows(worth=0.0)
    for seed in range(3):
        found[f"order {HAND_MADE} s{seed}"] = {"loss": math.inf, "score": -math.inf}
    judged = read(found)["verdict"]
    assert judged["answer"] == "undecided" and judged["use"] in SETS[2:] and HAND_MADE in judged["sentences"][-1]
    assert "did not end with a finite loss" in judged["sentences"][-1]


def test_a_shuffle_that_wins_is_not_told_as_losing() -> None:
    assert "neither a shuffle nor" in verdict_of(shuffle=-0.1)["sentences"][-1]


def test_trainings_that_fail_a_control_decide_nothing() -> None:
    for given, why in (({"planted": 0.4}, "miss a direction"), ({"orderless": 0.1}, "see an order where none matters")):
        found = verdict_of(worth=0.1, **given)
        assert found["answer"] == "undecided" and why in found["sentences"][-1]


def test_a_control_that_diverged_tells_nothing_and_is_a_dash_on_the_page(tmp_path: Path) -> None:
    for name, why in ((PLANTED, "of the planted task did not"), (ORDERLESS, "of the orderless task did not")):
        for direction, cells in (("h", "– | 0.5000"), (SHUFFLED, f"{0.1 if name == PLANTED else 0.5:.4f} | –")):
            found = rows(worth=0.1)
            found[f"{name}: {direction} s1"]["loss"] = math.inf
            judged = read(found)
            assert judged["verdict"]["answer"] == "undecided" and why in judged["verdict"]["sentences"][-1]
            assert not judged["controls"][name]["told_apart"] and "since a training diverged" in str(judged["verdict"])
            RunDir(tmp_path).write_json("audit.json", judged)
            run = Run(Path("run"), "audit", None, {}, result=json.loads((tmp_path / "audit.json").read_text()))
            assert f"{cells} | a training diverged" in to_markdown(quick_page(run))
            assert "another planted= or seed=" in str(quick_page(run).advice)


@pytest.mark.parametrize("worth", [0.0, 0.1])
def test_trainings_that_did_not_learn_or_are_shorter_than_the_controls_decide_nothing(worth: float) -> None:
    for given, why in (
        ({"constant": 2.0 - 0.01}, "none of them learned"),
        ({"steps": 149}, "shorter than the 150 of the controls"),
    ):
        found = read(rows(worth=worth), **given)["verdict"]
        assert (found["answer"], found["use"]) == ("undecided", HAND_MADE) and why in found["sentences"][-1]
        assert read(rows(worth=worth), constant=2.1, steps=150)["verdict"]["answer"] == ("yes" if worth else "no")
    assert "nothing tells whether" in read(rows(worth=worth), constant=None)["verdict"]["sentences"][1]


def test_a_constant_answer_loses_the_entropy_of_the_classes_or_the_variance_of_the_targets() -> None:
    digits = few(build_source("digits"), train=100, val=50)
    shares = np.bincount(digits.val.labels) / 50
    assert constant_loss(digits, batch_size=32) == pytest.approx(-(shares * np.log(shares)).sum())
    assert constant_loss(digits, batch_size=32, alike=True) == pytest.approx(np.log(10))
    assert entropy(np.array([5, 0, 5])) == pytest.approx(np.log(2))
    planted = few(build_source("planted", grid=4), train=64, val=64)
    targets = np.concatenate([b.targets.numpy() for b in build_loaders(planted, batch_size=48, seed=0).val])
    assert constant_loss(planted, batch_size=32) == pytest.approx(((targets - targets.mean()) ** 2).mean(), rel=1e-4)


def test_trainings_with_all_classes_alike_have_learned_where_their_balanced_loss_is_below_that_of_as_many_equal_classes() -> None:
    scores = Scores(torch.tensor([1.0, 1.0, 4.0]), torch.zeros(3), torch.tensor([0, 0, 2]))
    info, told = build_source("digits").info, {}
    for weights, sampler in (("none", "shuffled"), ("balanced", "shuffled"), ("none", "balanced")):
        recipe, source = SimpleNamespace(class_weights=weights), SimpleNamespace(info=info, sampler=sampler)
        for found in (scores, None):
            alone = SimpleNamespace(evaluated=lambda own, found=found: (Evaluation(0.5, 2.0, 1.0), found))
            setting = SimpleNamespace(recipe=recipe, source=source, alone=lambda alone=alone, **how: alone)
            told[weights, sampler, found is None] = scored(setting, (("h",),), 1, 0).get(BALANCED)
    assert list(told.values()) == [None, None, 2.5, math.inf, 2.5, math.inf]
    of_rows = rows(worth=0.1)
    for row in of_rows.values():
        row[BALANCED] = row["loss"] / 4
    given = {"first_seed": 0, "planted": "h", "control_steps": 150, "constant": 0.7}  # which the plain losses are above
    assert read_quick(of_rows, orders(), PLAN, **given)["learned"]["better"] is False
    found = read_quick(of_rows, orders(), PLAN, **given, compared=BALANCED)
    assert found["verdict"]["answer"] == "yes" and "loss with all classes alike, 0." in found["verdict"]["sentences"][1]
    del of_rows["order cross s1"][BALANCED]  # of before
    assert read_quick(of_rows, orders(), PLAN, **given, compared=BALANCED)["learned"]["better"] is None


def test_what_is_missing_or_diverged_is_told_and_left_out() -> None:
    less = rows()
    del less["order cross s1"]
    assert "trainings of cross were not done; with more minutes=" in read(less)["verdict"]["sentences"][-1]
    less["order random 1 s0"]["loss"] = float("inf")
    found = read(less)
    assert found["missing"] == ["cross", "random 1"] and found["verdict"]["answer"] == "undecided"
    assert "were completed; with more minutes=" in found["verdict"]["sentences"][-1] and found["not_done"] == ["cross"]
    assert read({})["verdict"]["answer"] == "undecided"
    two = read_quick(rows(), orders()[:5], PLAN, first_seed=0, planted="h", control_steps=150, constant=CONSTANT)["verdict"]
    assert two["answer"] == "undecided" and "fewer than 3 different sets of directions" in two["sentences"][-1]
    assert read_quick({}, orders()[:5], PLAN, first_seed=0, planted="h", control_steps=150, constant=CONSTANT)["few_sets"]


def setting_of(*, size: int = 1000, keep: int = 2) -> SimpleNamespace:
    """Return what a plan asks of a setting."""
    data = SimpleNamespace(epoch_size=lambda batch: size)
    space = ArchitectureSpace.of((("h", "v", "w2", "snake"),), (keep,))
    source = SimpleNamespace(train=data, val=data)
    recipe = SimpleNamespace(batch_size=50, epochs=10)
    return SimpleNamespace(source=source, recipe=recipe, keep=(keep,), hand_made=(("h", "v"),), space=space, seed=0, arms={})


CONTROL = SimpleNamespace(planted=setting_of(size=50))


def test_a_plan_takes_fewer_sets_before_shorter_trainings_and_longer_where_those_would_not_tell() -> None:
    made = {s: quick_plan(setting_of(), CONTROL, Pace(s, 2 * s, s), orders=20, minutes=9) for s in (0.001, 0.01, 0.02)}
    assert (made[0.001].steps, made[0.001].sets, made[0.001].images, made[0.001].epochs) == (200, MENUS[0][1], 1000, 10)
    assert [made[s].sets for s in (0.01, 0.02)] == [6, 4] and made[0.02].steps < 200
    slow, long_control = Pace(0.05, 0.1, 0.05), SimpleNamespace(planted=setting_of())
    needed = quick_plan(setting_of(), long_control, slow, orders=20, minutes=10)  # 8 of them, which are more than two
    assert (needed.steps, needed.sets) == (control_steps(long_control), 4) and needed.steps == 200
    assert quick_plan(setting_of(), long_control, slow, orders=20, minutes=60) == needed
    longer, large = SimpleNamespace(planted=setting_of(size=3000)), setting_of(size=10**5)  # controls of 600 steps
    assert quick_plan(large, longer, Pace(0.01, 0.02, 0.001), orders=20, minutes=60).steps == control_steps(longer) == 600
    long = quick_plan(setting_of(size=10**6), CONTROL, Pace(0.01, 0.02, 0.01), orders=20, minutes=2)
    assert long.epochs == 2 and long.images == long.steps * 50 // 2
    with pytest.raises(
        ConfigError,
        match=r"minutes=0.1 are too few for a quick audit: about 0.\d are needed, \d.\d for an answer; smaller images",
    ):
        quick_plan(setting_of(), CONTROL, Pace(0.01, 0.02, 0.01), orders=20, minutes=0.1)


def test_a_plan_tells_the_steps_that_its_trainings_have_and_they_are_as_long_as_the_controls() -> None:
    control, slow = SimpleNamespace(planted=setting_of(size=750)), Pace(0.05, 0.1, 0.05)
    stream = setting_of()
    stream.source.train = build_source("planted", grid=4, steps_per_epoch=40).train
    for setting in (*(setting_of(size=size) for size in (775, 1079, 1437, 1601, 2399, 10**5)), stream):
        size, plans = setting.source.train.epoch_size(50), []
        for minutes in (4.0, 10.0):
            plans.append(plan := quick_plan(setting, control, slow, orders=20, minutes=minutes))
            assert plan.steps == plan.epochs * (plan.images // 50) and plan.images <= size
            assert plan.epochs >= 2 and (setting is not stream or plan.images == size)
        assert plans[0].steps < 150 <= plans[1].steps <= (160 if setting is stream else 156)
    told = QuickPlan(3, 4, epochs=2, images=1601, steps=150)  # as plans of before
    assert as_trained(setting_of(size=1601), told).steps == 64 and as_trained(stream, told).steps == 80


def test_orders_are_compared_with_those_that_keep_as_many_directions() -> None:
    found = orders_of(
        setting_of(), {"cross": (("h", "h_flip", "v", "v_flip"),), "pair": (("h", "h_flip"),), "same": (("h", "v"),)}
    )
    names = [order.name for order in found]
    assert names[:6] == [RASTER, SHUFFLED, HAND_MADE, "shuffles", "random 0", "pair"]
    assert "cross" not in names and "same" not in names
    assert len([name for name in names if name.startswith("random ")]) == 5  # all that the space has but the hand-made one


def test_no_two_sets_are_the_same_network_and_a_random_one_has_its_number_whatever_else_is_trained() -> None:
    arms, found = {"snake": (("snake",),)}, []
    for hand_made, literature in (("w2",), {}), (("w2",), arms), (("v",), arms):
        setting = setting_of(keep=1)
        setting.hand_made = (hand_made,)
        found.append({order.name: order.architecture for order in orders_of(setting, literature) if not order.single})
        assert len(set(found[-1].values())) == len(found[-1]) and (("h",),) not in found[-1].values()  # h is raster
    named = {(name, own) for orders in found for name, own in orders.items() if name.startswith("random ")}
    assert len(named) == len(dict(named)) == 3 and [len(orders) for orders in found] == [4, 4, 4]
    swapped = setting_of()
    swapped.hand_made = (("v", "h"),)
    assert (("h", "v"),) not in [order.architecture for order in orders_of(swapped, {"same": (("h", "v"),)})]


def test_arms_that_are_named_come_before_random_sets_and_those_left_out_are_told() -> None:
    setting = setting_of()
    arms = {"pair": ("h", "h_flip"), "same": ("h", "v"), "other": ("v", "w2"), "third": ("w2", "snake")}
    setting.arms = {name: (own,) for name, own in {"cross": ("h", "h_flip", "v", "v_flip"), **arms}.items()}
    found = orders_of(setting, setting.arms)
    names = [order.name for order in found]
    assert names[2:8] == [HAND_MADE, "shuffles", "pair", "other", "third", "random 0"]
    trained = taken(found, replace(PLAN, sets=4))
    assert left_out(setting, found, trained) == (
        "Of arms= these are not trained: cross (another number of directions per layer than the search keeps, 2);"
        " same (trained under another name); third (no room among the 4 sets that are trained)."
    )
    setting.arms = {"pair": setting.arms["pair"]}
    assert left_out(setting, found, trained) == ""


def test_trainings_too_brief_to_tell_are_planned_again_with_more_minutes_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setting, control, pace = setting_of(), SimpleNamespace(planted=setting_of()), Pace(0.05, 0.1, 0.05)
    monkeypatch.setattr(quick_planner, "measure_pace", lambda *told: pace)

    def plan(minutes: float, workers: int = 1) -> tuple[QuickPlan, list[str]]:
        caplog.clear()
        planner = quick_planner.Planner(setting, control, orders_of(setting, {}), Workers(workers, 1, ()), minutes)
        ledger = Ledger(RunDir(tmp_path), identity="one", limit_s=60.0)
        found = QuickPlan(**planner.settled(ledger)["quick plan"])
        assert list(Ledger(RunDir(tmp_path), identity="one", limit_s=60.0).rows) == list(ledger.rows)
        return found, list(ledger.rows)

    short, _ = plan(5)
    assert LEAST_STEPS <= short.steps < control_steps(control) == 200
    ledger = Ledger(RunDir(tmp_path), identity="one", limit_s=60.0)
    for name in (f"order {HAND_MADE} s0", f"{PLANTED}: h s0"):
        ledger.record(name, {"loss": 1.0, "score": 0.0}, 0.0)
    assert plan(5) == (short, ["time", f"order {HAND_MADE} s0", f"{PLANTED}: h s0"]) and not caplog.text
    assert plan(0.01)[0] == short and not caplog.text
    assert plan(6)[0] == short and "minutes=6 workers=1 would give 4 of" in caplog.text
    planner = quick_planner.Planner(setting, control, orders_of(setting, {}), Workers(1, 1, ()), 30.0)
    assert 6 < (needed := planner.minutes_to_decide(pace)) < 30
    assert quick_plan(setting, control, pace, orders=20, minutes=needed).steps == 200
    assert quick_plan(setting, control, pace, orders=20, minutes=0.95 * needed).steps < 200
    monkeypatch.setattr(quick_planner, "measure_pace", lambda *told: Pace(0.5, 1.0, 0.5))  # busier than it was
    row = planner.settled(Ledger(RunDir(tmp_path), identity="one", limit_s=60.0))
    assert QuickPlan(**row["quick plan"]) == short and "the machine is slower now" in caplog.text
    assert planner.minutes_lacking(row) > 30
    monkeypatch.setattr(quick_planner, "measure_pace", lambda *told: pace)
    longer, rows = plan(30)
    assert longer.steps == 200 and rows == [f"{PLANTED}: h s0", "time"] and "planned again" in caplog.text
    assert plan(60)[0] == longer and not caplog.text
    assert plan(5)[0] == longer and "goes on as it was planned, with 4 sets of 200 steps" in caplog.text
    ledger = Ledger(RunDir(tmp_path), identity="one", limit_s=60.0)
    ledger.forget(["time"])
    ledger.record("time", {"pace": asdict(pace), "quick plan": asdict(replace(longer, epochs=9))}, 0.0)  # tells 200 steps
    assert plan(30)[0] == longer and "trainings of 180 steps, shorter than the 200" in caplog.text


def test_a_recipe_shorter_than_the_controls_is_promised_no_answer() -> None:
    setting, control = setting_of(), SimpleNamespace(planted=setting_of(size=3200))
    assert steps_of(setting) < control_steps(control)
    row = {"pace": asdict(Pace(0.05, 0.1, 0.05)), "quick plan": {"steps": 40}}
    planner = quick_planner.Planner(setting, control, orders_of(setting, {}), Workers(1, 1, ()), 5.0)
    assert planner.minutes_lacking(row) == 0
    with pytest.raises(ConfigError, match=r"about 1.\d are needed; smaller images"):
        quick_plan(setting, control, Pace(0.01, 0.02, 0.01), orders=20, minutes=0.1)


def test_one_direction_per_layer_is_trained_once_where_the_literature_has_it_too() -> None:
    setting = setting_of(keep=1)
    setting.hand_made = (("v",),)
    names = [order.name for order in orders_of(setting, {"raster": (("h",),), "snake": (("snake",),)})]
    assert names.count(RASTER) == 1 and "snake" in names and len(set(names)) == len(names)


@pytest.mark.parametrize("number", [2, 3, 8])
def test_the_deviation_that_seeds_leave_is_that_of_the_noise(number: int) -> None:
    rng, variances = np.random.default_rng(0), []
    for _ in range(400):
        found = differences((rng.normal(size=(number, 3)) + 10 * rng.normal(size=3)).tolist())
        variances.append((found["range"] / found["range_in_deviations"]) ** 2)
    assert np.mean(variances) == pytest.approx(1, abs=0.15)


def test_a_part_of_a_source_has_every_class_and_numbers_of_its_own() -> None:
    source = build_source("digits")
    part = few(source, train=100, val=50)
    assert part.train.epoch_size(1) == 100 and part.test is part.val and len(part.val.labels) == 50
    assert np.bincount(part.train.labels).min() >= 9 and few(source, train=10**6, val=10**6).train is source.train
    loader = build_loaders(part, batch_size=20, seed=0).train
    batch = next(iter(loader))
    assert batch.indices.max() < 100 and batch.targets.tolist() == part.train.labels[batch.indices.numpy()].tolist()


def test_a_budget_that_fits_nothing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "quick=true", "minutes=0.001", "model.depth=1", "model.embed_dim=8", f"run_dir={tmp_path / 'run'}"]
    assert main([*words, "model.patch_size=2"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lmsearch: error")]
    assert len(told) == 1 and "minutes=0.001 are too few for a quick audit" in told[0] and not (tmp_path / "run").exists()


def test_what_does_not_fit_into_memory_is_refused_before_anything_is_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "room_on", lambda device: 1)
    words = ["audit", "quick=true", "model.depth=1", "model.embed_dim=8", f"run_dir={tmp_path / 'run'}"]
    assert main([*words, "model.patch_size=2"]) == 2
    assert "GiB are free on cpu; lower micro_batch" in capsys.readouterr().err and not (tmp_path / "run").exists()


def pretend(ledger: Ledger, jobs: Mapping[str, object], workers: object) -> None:
    """Write down trainings that were not run."""
    for number, name in enumerate(jobs):
        ledger.record(name, {"loss": 1.0 + 0.01 * (number % 3), "score": 0.5}, 0.0)


@pytest.mark.usefixtures("drawing")
def test_quiet_leaves_the_answer_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_planner, "measure_pace", lambda *told: Pace(0.05, 0.1, 0.01))
    monkeypatch.setattr(quick_audit, "complete", pretend)
    words = ["audit", "quick=true", "model.depth=1", "model.embed_dim=8", "model.patch_size=2", f"run_dir={tmp_path}"]
    assert main([*words, "quiet=true"]) == 0
    sentences = json.loads((tmp_path / "audit.json").read_text())["verdict"]["sentences"]
    assert capsys.readouterr().out == sentences[-1] + "\n"
    assert main(words) == 0 and "\n".join(sentences) in capsys.readouterr().out


@pytest.mark.parametrize("quick", ["true", "false"])
def test_an_audit_that_ends_with_an_error_is_told_as_failed_and_goes_on(
    quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*told: object) -> None:
        raise DataError("a.png: not a readable image")

    monkeypatch.setattr(quick_planner, "measure_pace", lambda *told: Pace(0.05, 0.1, 0.01))
    monkeypatch.setattr(quick_audit, "complete", broken)
    monkeypatch.setattr(auditor.Auditor, "run", broken)
    words = ["audit", f"quick={quick}", "model.depth=1", "model.embed_dim=8", "model.patch_size=2", f"run_dir={tmp_path}"]
    words.append("minutes=60")
    assert main(words) == 2
    assert "a.png" in (tmp_path / "error.txt").read_text()
    capsys.readouterr()
    assert main(["status", f"runs={tmp_path}"]) == 0
    assert "failed" in (told := capsys.readouterr().out) and "a.png: not a readable image" in told
    if quick == "true":
        monkeypatch.setattr(quick_audit, "complete", pretend)
        assert main(words) == 0 and not (tmp_path / "error.txt").exists()


def test_the_page_says_what_lets_an_audit_decide() -> None:
    answer = {"verdict": {"answer": "undecided", "use": HAND_MADE}, "orders": [], "steps": {"trainings": 40, "controls": 150}}
    for given, told in (
        ({"steps": {"trainings": 40, "controls": 150, "most": 200}}, "minutes=20"),
        ({"steps": {"trainings": 40, "controls": 150, "most": 200, "minutes_needed": 12}}, "minutes=12"),
        ({"steps": {"trainings": 40, "controls": 150, "most": 200, "minutes_needed": 9}}, "minutes=20"),
        ({"steps": {"trainings": 40, "controls": 150, "most": 40}}, "more epochs="),
        ({"steps": {"trainings": 150, "controls": 150}, "missing": ["cross"], "not_done": ["cross"]}, "minutes=20"),
        ({"steps": {"trainings": 150, "controls": 150}, "missing": ["cross"], "not_done": []}, "A lower optim.lr"),
        ({"steps": {"trainings": 150, "controls": 150}}, "more workers= or a smaller model, with overwrite=true"),
        ({"few_sets": True, "not_done": ["cross"]}, "More candidates, or another keep="),
    ):
        run = Run(Path("run"), "audit", None, {"minutes": 10.0}, result=answer | given, command="lmsearch audit minutes=10")
        assert told in str(quick_page(run).advice)


@pytest.mark.usefixtures("drawing")
@pytest.mark.slow
def test_a_quick_audit_runs_goes_on_and_leaves_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_planner, "measure_pace", lambda *told: Pace(0.018, 0.036, 0.01))  # however busy the machine is
    words = [
        "audit",
        "quick=true",
        "model.depth=1",
        "model.embed_dim=8",
        "model.patch_size=2",
        f"run_dir={tmp_path}",
        "minutes=60",
    ]
    assert main(words) == 0
    found = json.loads((tmp_path / "audit.json").read_text())
    assert found["controls"][PLANTED]["told_apart"] and not found["controls"][ORDERLESS]["told_apart"]
    assert found["steps"]["trainings"] >= found["steps"]["controls"] == 150 and found["learned"]["better"]
    assert found["verdict"]["answer"] in ("yes", "no") and "The test set was not looked at" in capsys.readouterr().out
    before = (tmp_path / "parts.jsonl").read_text()
    assert main(words) == 0 and (tmp_path / "parts.jsonl").read_text() == before
    assert main(["report", f"run_dir={tmp_path}"]) == 0
    assert "## The orders" in (tmp_path / "report.md").read_text()
