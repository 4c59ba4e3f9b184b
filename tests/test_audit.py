"""The audit: its parts, what they add up to, and one small run of it from the command line."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lmsearch.audit import auditor, quick_planner, verdict
from lmsearch.audit.auditor import Auditor
from lmsearch.audit.ledger import Ledger, OutOfTime, Row
from lmsearch.audit.parts import draw_pool, searched
from lmsearch.audit.quick import Pace
from lmsearch.audit.setting import Plan, Setting, Speed, derivation_cost, make_plan, per_round
from lmsearch.audit.shuffled import shuffled
from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.data import build_source, search_loaders
from lmsearch.engine.lock import LOCK
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import Workers
from lmsearch.engine.train import TrainingDiverged
from lmsearch.errors import ConfigError, FileError
from lmsearch.report.page.audit import audit_page
from lmsearch.report.page.folder import Run
from lmsearch.scan.directions import label, parse_direction
from lmsearch.search.discrete.architectures import ArchitectureSpace
from lmsearch.settings.tasks import Audit
from lmsearch.status import Status
from lmsearch.tasks.audit import OF_A_SEARCH, identity, make_control, make_setting
from lmsearch.tasks.parts.audited import open_ledger
from lmsearch.tasks.parts.build import build_data, build_precision

NAMES = ("h", "v", "w2", "w4", "h_flip", "v_flip")


def parts(*, worth: float = 0.1, search: float = 0.1, found: bool = True, shuffled: str = "indeterminate") -> list[Row]:
    """Return the rows of a made-up audit: architectures differ by `worth`, the search is ahead by `search`."""
    rng = np.random.default_rng(0)

    def trained(key: str, name: str, level: float, **more: object) -> Row:
        score = level + 0.001 * rng.normal()
        return {"key": key, "architecture": [[name]], "val": score, "test": score, "took_s": 1.0} | more

    rows: list[Row] = [
        {"key": "control planted", "planted": "v_flip", "derived": [["v_flip"]], "found": found, "status": "ok"},
        {"key": "control shuffled", "status": shuffled},
    ]
    level = {name: 0.5 + worth * i / len(NAMES) for i, name in enumerate(NAMES)}
    scores = [{"architecture": [[name]], "alpha": level[name], "masked": level[name]} for name in NAMES]
    for number in range(3):
        rows.append(trained(f"searched round {number}", "h", 0.5 + worth + search, scores=scores))
        rows.append(trained(f"hand-made round {number}", "h", 0.5 + worth))
        for name in NAMES[2 * number : 2 * number + 2]:
            rows.append(trained(f"random round {number}: {name}", name, level[name]))
    return rows + [trained(f"second seed: {name}", name, level[name]) for name in NAMES]


def read(rows: list[Row], *, epochs: int = 4, size: int = 70) -> dict:
    """Return what the rows show; the recipe has 4 epochs."""
    return verdict.read(rows, epochs=epochs, full_epochs=4, per_round=2, size=size)


def test_a_search_that_beats_both_alternatives_is_warranted() -> None:
    measured = read(parts())
    assert measured["verdict"]["answer"] == "yes" and measured["verdict"]["use"] == "search"
    assert measured["agreement"]["tau"]["alpha"]["mean"] > 0.8
    assert measured["verdict"]["sentences"][-1].startswith("Search is warranted here")


def test_a_verdict_without_a_test_set_says_so() -> None:
    told = verdict.read(parts(), epochs=4, full_epochs=4, per_round=2, size=70, tested_on="validation")["verdict"]["sentences"]
    assert told[0].startswith("There is no test set") and told[1:] == read(parts())["verdict"]["sentences"]


def test_a_search_that_was_not_rechecked_can_still_fail_on_shuffled_targets() -> None:
    assert not read(parts(shuffled="unconfirmed"))["controls"]["shuffled_passed"]


def test_supernets_without_alphas_are_compared_by_masking_alone() -> None:
    rows = parts()
    for row in rows:
        for said in row.get("scores", ()):
            said.pop("alpha", None)  # the rows share it
    assert list(read(rows)["agreement"]["tau"]) == ["masked"]


def test_architectures_that_differ_no_more_than_seeds_do_not_warrant_a_search() -> None:
    measured = read(parts(worth=0.0))
    assert measured["verdict"]["answer"] == "no" and measured["spread"]["shows_from"] == pytest.approx(2.09, abs=0.01)
    told = "not shown to differ by more than seeds; an audit of 6 that are trained twice misses differences below about 2.1 seed"
    assert told in measured["verdict"]["sentences"][-1] and "analysis of variance p = 0" in measured["verdict"]["sentences"][1]
    assert "analysis of variance p < 0.001" in read(parts())["verdict"]["sentences"][1]


def test_directions_by_hand_that_diverge_are_not_what_to_use() -> None:
    rows = parts(worth=0.0) + [row | {"key": "hand-made round 3"} for row in parts() if row["key"] == "hand-made round 0"]
    rows += [row | {"key": str(row["key"]).replace("round 0", "round 3")} for row in parts() if "d round 0" in str(row["key"])]
    rows += [
        row | {"key": str(row["key"]).replace("round 0", "round 3")} for row in parts() if "random round 0" in str(row["key"])
    ]
    next(row for row in rows if row["key"] == "hand-made round 1").update(val=-math.inf, test=-math.inf)
    judged = read(rows)["verdict"]
    assert (judged["answer"], judged["use"]) == ("undecided", "random search") and "lower optim.lr" in judged["sentences"][-1]


@pytest.mark.parametrize(
    ("worth", "search", "judged", "why"),
    [
        (0.0, 0.1, ("no", "random search"), "not shown to differ"),
        (0.1, 0.1, ("yes", "search"), "beats"),
        (0.1, -0.05, ("undecided", "random search"), "diverged in a round that is not complete"),
    ],
)
def test_directions_by_hand_that_diverge_in_a_round_that_is_not_complete_decide_nothing_else(
    worth: float, search: float, judged: tuple[str, str], why: str
) -> None:
    rows = parts(worth=worth, search=search)
    rows += [row | {"key": "hand-made round 3", "val": -math.inf, "test": -math.inf} for row in rows[3:4]]
    found = read(rows)
    assert found["race"]["diverged"] == 0 and found["hand_made_diverged"] == 1
    assert (found["verdict"]["answer"], found["verdict"]["use"]) == judged and why in found["verdict"]["sentences"][-1]


def test_few_architectures_have_an_agreement_without_interval() -> None:
    rows = [row for row in parts() if row["key"] not in {f"second seed: {name}" for name in NAMES[3:]}]
    for row in rows:
        row["scores"] = row.get("scores", [])[:3]
    measured = read(rows)
    assert measured["agreement"]["architectures"] == 3 and measured["agreement"]["tau"]["alpha"]["low"] is None
    assert "alphas +1.00 (no interval: 3 architectures, 5 are needed)" in " ".join(measured["verdict"]["sentences"])


def test_a_search_behind_the_best_alternative_is_not_used() -> None:
    judged = read(parts(search=-0.05))["verdict"]
    assert (judged["answer"], judged["use"]) == ("no", "hand-made directions")


@pytest.mark.parametrize(("others", "answer"), [(0, "no"), (7, "undecided")])
def test_the_best_of_many_arms_must_be_ahead_by_more_than_the_luck_of_many(others: int, answer: str) -> None:
    ahead = (0.02, 0.04, 0.03, 0.05)
    p = verdict.paired_p([0.5] * 4, np.add(ahead, 0.5))
    assert 0.05 / 9 < p < 0.05 / 2
    level = ["searched round", "hand-made round", *(f"arm {name} round" for name in range(others))]
    rows = [{"key": f"{arm} {n}", "val": 0.5, "test": 0.5} for n in range(4) for arm in level]
    rows += [{"key": f"random round {n}: h", "val": 0.5, "test": 0.5 + more} for n, more in enumerate(ahead)]
    raced = verdict.race(rows, per_round=1, also=[str(name) for name in range(others)])
    assert raced is not None and raced["p_holm"]["random search"] == pytest.approx(p * (others + 2))
    assert verdict.decide(read(parts()) | {"race": raced})[:2] == (answer, "random search")


def test_a_search_level_with_the_alternatives_is_undecided() -> None:
    assert read(parts(search=0.0))["verdict"]["answer"] == "undecided"


@pytest.mark.parametrize("failing", [{"found": False}, {"shuffled": "ok"}])
def test_a_failed_control_outweighs_a_won_race(failing: dict) -> None:
    judged = read(parts(**failing))["verdict"]
    assert judged["answer"] == "no" and "cannot be trusted" in judged["sentences"][-1]


def test_a_verdict_on_shortened_trainings_says_so() -> None:
    assert "2 of 4 epochs" in read(parts(), epochs=2)["verdict"]["sentences"][0]
    assert "epochs" not in read(parts())["verdict"]["sentences"][0]


def test_missing_parts_make_the_verdict_undecided() -> None:
    judged = read(parts()[:4])["verdict"]
    assert judged["answer"] == "undecided" and "more minutes" in judged["sentences"][-1]


def test_more_minutes_are_offered_where_parts_were_not_done_and_may_decide() -> None:
    for size, not_done, told in (
        (70, None, "minutes=20"),  # of before, which does not tell
        (70, ["random round 1: w2"], "minutes=20"),
        (70, [], "Use the hand-made directions."),
        (2, ["random round 1: w2"], "More candidates, or another keep="),
    ):
        result = verdict.read(parts()[:4], epochs=4, full_epochs=4, per_round=2, size=size, not_done=not_done)
        run = Run(Path("run"), "audit", None, {"minutes": 10.0}, result=result, command="lmsearch audit minutes=10")
        advice, said = str(audit_page(run).advice), result["verdict"]["sentences"][-1]
        assert told in advice and all(("minutes=" in text) is (told == "minutes=20") for text in (advice, said))
    assert "Go on with it" in str(audit_page(replace(run, result={})).advice)


def test_trainings_that_diverge_are_left_out_and_counted() -> None:
    rows = parts()
    rows[-1] |= {"val": -math.inf, "test": -math.inf}
    measured = read(rows)
    assert measured["spread"]["architectures"] == len(NAMES) - 1 and measured["spread"]["analysis_of_variance_p"] < 0.05
    assert measured["verdict"]["answer"] == "yes" and "1 trainings diverged" in " ".join(measured["verdict"]["sentences"])


@pytest.mark.parametrize(("arm", "answer"), [("searched round 0", "undecided"), ("hand-made round 2", "undecided")])
def test_a_race_with_a_diverged_network_is_not_won_by_it(arm: str, answer: str) -> None:
    rows = parts()
    first = [row for row in rows if "round 0" in str(row["key"])]
    for number in range(3, 5):  # enough rounds are left
        rows += [row | {"key": str(row["key"]).replace("round 0", f"round {number}")} for row in first]
    next(row for row in rows if row["key"] == arm).update(val=-math.inf, test=-math.inf)
    measured = read(rows)
    assert (measured["race"]["rounds"], measured["race"]["diverged"]) == (4, 1)
    assert measured["verdict"]["answer"] == answer and "diverged" in measured["verdict"]["sentences"][-1]
    assert math.isfinite(measured["race"]["search_minus"]["hand-made directions"]["low"])


@pytest.mark.parametrize(("control", "told"), [(0, "diverged on the planted"), (1, "on shuffled targets it diverged")])
def test_a_control_that_diverges_decides_nothing(control: int, told: str) -> None:
    rows = parts()
    rows[control] |= {"status": Status.DIVERGED, "found": False}
    judged = read(rows)["verdict"]
    assert judged["answer"] == "undecided" and "diverged in a control" in judged["sentences"][-1]
    assert told in judged["sentences"][0]


def test_an_audit_that_goes_on_says_that_it_keeps_its_plan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    setting = digits_setting("model.depth=1", "model.embed_dim=8")
    speed = Speed(1.0, 13, 1.0, 1.0, 16, 1.0, 0.0, 0.0, 0.0)
    for minutes, warned in ((30.0, False), (300.0, True), (0.1, False)):
        ledger = Ledger(RunDir(tmp_path), identity="a", limit_s=60 * minutes)
        first = make_plan(setting, speed, minutes=30.0)
        ledger.once("plan", lambda plan=first: {"speed": asdict(speed), "plan": asdict(plan)}, must=True)
        caplog.clear()
        assert Auditor(setting, None, ledger, minutes, Workers(1, 1)).plan() == first
        assert ("goes on as it was planned" in caplog.text) is warned


def test_a_search_that_diverges_is_a_part_of_the_audit_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*args: object, **options: object) -> None:
        raise TrainingDiverged("the loss is nan in step 3")

    monkeypatch.setattr(Setting, "search", diverges)
    row = searched(digits_setting(), epochs=1)
    assert row["status"] == Status.DIVERGED and "step 3" in row["reason"] and row["derived"] == []


def test_a_space_of_two_architectures_is_named_as_the_reason() -> None:
    judged = read(parts()[:4], size=2)["verdict"]
    assert judged["answer"] == "undecided" and "the search space has 2 architectures" in judged["sentences"][-1]


def test_more_minutes_continue_an_audit_and_another_recheck_is_another_one() -> None:
    words = ["model.depth=2", "model.embed_dim=8"]
    said = []
    for more in ([], ["minutes=99"], ["search.recheck=0.5"]):
        cfg = audited(*words, *more)
        said.append(identity(cfg, make_setting(cfg, build_data(cfg.data), build_precision(cfg))))
    assert said[0] == said[1] != said[2]


def test_a_part_is_done_once_also_after_a_restart_and_a_cut_off_line(tmp_path: Path) -> None:
    path = tmp_path / "parts.jsonl"
    Ledger(RunDir(tmp_path), identity="a", limit_s=60).once("one", lambda: {"value": 1})
    with path.open("a") as file:
        file.write('{"key": "tw')
    again = Ledger(RunDir(tmp_path), identity="a", limit_s=60)
    assert again.once("one", lambda: {"value": 2})["value"] == 1
    assert again.once("two", lambda: {"value": 3})["value"] == 3
    assert [json.loads(line).get("key") for line in path.read_text().splitlines()] == [None, "one", "two"]


@pytest.mark.parametrize(
    "row",
    [{}, {"key": 3}, {"key": "one"}, {"key": "one", "took_s": "a"}, {"key": "plan", "took_s": 1, "plan": 3, "speed": {}},
     {"key": "random round 0: h", "took_s": 1, "val": 0.5, "test": 0.5}, {"key": "control shuffled", "took_s": 1, "status": []},
     {"key": "second seed: h", "took_s": 1, "val": 0.5, "test": 0.5, "architecture": [1]},
     {"key": "searched round 0", "took_s": 1, "val": 0.5, "test": 0.5, "scores": [{"architecture": [["h"]], "masked": "a"}]}],
)  # fmt: skip
def test_a_row_of_another_shape_is_named(row: dict, tmp_path: Path) -> None:
    (tmp_path / "parts.jsonl").write_text('{"identity": "a"}\n' + json.dumps(row) + "\n")
    with pytest.raises(FileError, match="parts.jsonl: line 2 is damaged"):
        Ledger(RunDir(tmp_path), identity="a", limit_s=60)


def test_no_part_starts_when_the_time_is_up(tmp_path: Path) -> None:
    ledger = Ledger(RunDir(tmp_path), identity="a", limit_s=0.0)
    with pytest.raises(OutOfTime):
        ledger.once("one", lambda: {})
    assert ledger.once("plan", lambda: {"value": 1}, must=True)["value"] == 1


def test_an_audit_that_never_began_leaves_its_folder_to_the_next_one(tmp_path: Path) -> None:
    Ledger(RunDir(tmp_path), identity="a", limit_s=1)
    assert Ledger(RunDir(tmp_path), identity="b", limit_s=1).once("one", lambda: {"value": 1})["value"] == 1
    assert Ledger(RunDir(tmp_path), identity="b", limit_s=1).once("one", lambda: {"value": 2})["value"] == 1


def test_the_folder_of_another_audit_is_refused(tmp_path: Path) -> None:
    Ledger(RunDir(tmp_path), identity="a", limit_s=1).once("one", lambda: {})
    with pytest.raises(ConfigError, match="overwrite=true"):
        Ledger(RunDir(tmp_path), identity="b", limit_s=1)


def test_the_time_of_a_plan_counts_every_training() -> None:
    one = {"search_step_s": 2, "search_steps": 10, "health_s": 3, "alone_step_s": 1, "alone_steps": 10, "evaluation_s": 0}
    speed = Speed(**one, recheck=0.5, derive_s=1, derive_cost=0)
    plan = Plan(epochs=1, rounds=3, per_round=3)
    assert speed.total_s(plan) == 5 * (20 + 1) + (3 * 5 + 8) * 10 + 2 * (3 + 0.5 * 10)
    assert plan.parts == 1 + 2 + 3 * 5 + 8


def audited(*words: str) -> Audit:
    """Return the settings that `lmsearch audit` with these words goes by."""
    return compose_settings(Audit, words).changed(OF_A_SEARCH)


def digits_setting(*words: str) -> Setting:
    """Return what `lmsearch audit` with these words would audit."""
    cfg = audited(*words)
    return make_setting(cfg, build_data(cfg.data), build_precision(cfg))


@pytest.mark.parametrize(
    ("words", "share"),
    [
        (["search=darts"], 1.0),
        (["search=darts", "search.shrink=[[0.5,4],[0.75,2]]", "keep=2"], (2 * 8 + 4 + 2) / 32),
        (["search=darts", "search.shrink=[[0.25,2]]", "keep=4"], (8 + 3 * 4) / 32),
        (["search=bilevel"], 1.0),
        (["search=bilevel", "search.alpha_warmup_epochs=2"], (2 + 2 * 2) / 8),
    ],
)
def test_the_race_charges_the_branches_that_a_search_runs(words: list[str], share: float) -> None:
    planted = ["data=planted", "data.grid=5", "data.steps_per_epoch=1", "model.embed_dim=8", "model.d_state=2", "batch_size=8"]
    setting = digits_setting(*planted, "epochs=4", "optim.warmup_epochs=0", *words)
    whole = 4 * setting.options.branches_per_step(setting.keep, setting.candidates)
    assert setting.options.branches_over(4, setting.keep, setting.candidates) == share * whole
    session = setting.session(epochs=4, seed=0)
    session.train()
    assert session.cost == share * whole * len(session.loaders.weights)


def test_the_race_also_charges_the_derivation() -> None:
    setting = digits_setting("epochs=16", "search.derivation=climb")
    cost = derivation_cost(setting, 216)
    assert cost == pytest.approx((8 + 4 * 3 * 16) * 12 * 128 / 64 / 3)  # choices x branches x batches x a forward pass's share
    at = {"search_step_s": 1, "search_steps": 13, "health_s": 0, "alone_step_s": 1, "alone_steps": 16, "evaluation_s": 0}
    speeds = [Speed(**at, recheck=0, derive_s=0, derive_cost=c) for c in (0.0, cost)]
    spent = 16 * 13 * 24 + 16 * 16 * 12  # supernet, and the network that it ends with
    assert [per_round(setting, s, 16) for s in speeds] == [spent // (16 * 16 * 12), int((spent + cost) // (16 * 16 * 12))]
    assert per_round(setting, speeds[1], 4) > per_round(setting, speeds[1], 16)  # a climb is not shorter after a short training


def test_the_control_of_a_space_with_layers_of_their_own_searches_the_first(tmp_path: Path) -> None:
    space = tmp_path / "two.yaml"
    space.write_text("name: two\ncandidates: [[h, v, v_flip], [h, w2]]\nkeep: [2, 1]\n")
    cfg = audited("model.depth=2", f"search_space={space}", "hand_made=[h,v]")
    source, precision = build_data(cfg.data), build_precision(cfg)
    setting = make_setting(cfg, source, precision)
    assert setting.spec.directions == (("h", "v", "v_flip"), ("h", "w2")) and setting.keep == (2, 1)
    assert make_control(cfg, source, precision, setting.options).setting.spec.directions == (("h", "v", "v_flip"),)


def test_what_is_cut_keeps_the_share_of_its_warm_ups() -> None:
    setting = digits_setting("search=darts", "epochs=12", "optim.warmup_epochs=4", "search.alpha_warmup_epochs=6")
    assert setting.alone(epochs=3, seed=0).recipe.warmup_epochs == 1
    (recipe, *_) = (fresh.recipe for fresh in setting.session(epochs=3, seed=0).fresh())
    assert recipe.warmup_epochs == recipe.epochs / 3
    assert setting.options.over(3, of=12).alpha_warmup_epochs == 1


@pytest.mark.parametrize(("size", "per_round"), [(6, 2), (6, 4), (6, 5), (6, 6), (100, 3)])
def test_no_architecture_is_drawn_twice_in_a_round(size: int, per_round: int) -> None:
    space = ArchitectureSpace.of((tuple(f"d{i}" for i in range(size)),), (1,))
    drawn = draw_pool(SimpleNamespace(space=space, seed=0), Plan(epochs=1, rounds=4, per_round=per_round))
    assert all(len(set(drawn[n * per_round : (n + 1) * per_round])) == per_round for n in range(4))
    first = size // per_round * per_round
    assert len(set(drawn[:first])) == min(first, 4 * per_round)


def test_data_without_a_test_set_is_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        for name, value in (("a", 0), ("b", 255)):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(8):
                Image.new("RGB", (16, 16), (value, 16 * number, 0)).save(tmp_path / split / name / f"{number}.png")
    words = ["data=imagefolder", f"data.root={tmp_path}", "data.img_size=16", "model.patch_size=4", "batch_size=4"]
    small = ["model.depth=1", "model.embed_dim=8", "search_space=localmamba8_w4", "search.holdout=0.5", "minutes=0"]
    assert main(["audit", *words, *small, f"run_dir={tmp_path / 'run'}"]) == 2
    assert "too few" in capsys.readouterr().err and "no test set" in caplog.text


def test_an_own_order_is_planted_and_taken_as_hand_made(tmp_path: Path) -> None:
    table = np.random.default_rng(0).permutation(64).tolist()
    (tmp_path / "own.yaml").write_text(f"name: own\ncandidates: [h, v, mine]\nkeep: 1\norders: {{mine: {{8x8: {table}}}}}\n")
    words = ["model.depth=2", f"search_space={tmp_path / 'own.yaml'}", "planted=mine", "hand_made=[mine]"]
    cfg = audited(*words)
    source, precision = build_data(cfg.data), build_precision(cfg)
    setting = make_setting(cfg, source, precision)
    planted = make_control(cfg, source, precision, setting.options)
    assert [[label(d) for d in layer] for layer in setting.hand_made] == [["mine"], ["mine"]]
    assert parse_direction(planted.direction).indices((8, 8)).tolist() == table
    assert planted.direction in planted.setting.spec.directions[0]


def test_shuffled_labels_keep_the_classes_and_lose_the_images() -> None:
    source = build_source("digits")
    mixed = shuffled(source, seed=0)
    first = np.arange(64)
    before, after = source.train.eval_batch(first), mixed.train.eval_batch(first)
    assert torch.equal(before.inputs, after.inputs)
    assert np.array_equal(np.bincount(source.train.labels), np.bincount(mixed.train.labels))
    assert (before.targets == after.targets).float().mean() < 0.3


def test_shuffled_dense_targets_belong_to_other_images_also_in_a_search() -> None:
    source = build_source("planted")
    loaders = search_loaders(shuffled(source, seed=0), holdout=0.5, batch_size=8, seed=0)
    plain = search_loaders(source, holdout=0.5, batch_size=8, seed=0)
    mixed, right = next(iter(loaders.weights)), next(iter(plain.weights))
    assert torch.equal(mixed.inputs, right.inputs) and torch.equal(mixed.targets, right.targets.roll(1, 0))


@pytest.mark.parametrize("num_train", [None, 4])
def test_a_dense_target_that_is_alone_in_its_batch_is_that_of_another_sample(num_train: int | None) -> None:
    source = build_source("planted", grid=3, num_train=num_train, val_size=3, test_size=1)
    mixed = shuffled(source, seed=0)
    for first in map(np.array, ([0], [2])):
        passes = [mixed.train.train_batch(first, seed=0, epoch=epoch) for epoch in range(8)]
        for epoch, batch in enumerate(passes):
            right = source.train.train_batch(first, seed=0, epoch=epoch)
            assert torch.equal(batch.inputs, right.inputs) and not torch.equal(batch.targets, right.targets)
        assert len({batch.targets.numpy().tobytes() for batch in passes}) > 1  # not always the same other one
        assert not torch.equal(mixed.val.eval_batch(first).targets, source.val.eval_batch(first).targets)
        assert torch.equal(mixed.val.eval_batch(first).targets, mixed.val.eval_batch(first).targets)
    held = search_loaders(mixed, holdout=0.5, batch_size=1, seed=0).holdout
    plain = search_loaders(source, holdout=0.5, batch_size=1, seed=0).holdout
    assert not any(torch.equal(a.targets, b.targets) for a, b in zip(held, plain, strict=True))
    assert len(mixed.test.eval_batch(np.array([0])).targets) == 1  # there is no other one


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["planted=w3"], "w3"),
        (["search=random"], "supernet"),
        (["minutes=0"], "too few"),
        (["hand_made=[x]"], "'x'"),
        (["hand_made=[h,h,v,w2]"], "names one direction twice"),
        (["hand_made=[h,v]"], "names fewer"),
        (["search.derivation=topk"], "topk"),
        (["search=darts", "search.alpha_warmup_epochs=99"], "search.alpha_warmup_epochs=99"),
        (["resume=must"], "holds nothing to go on with"),
        (["resume=must", "quick=true"], "holds nothing to go on with"),
        (["resume=must", "overwrite=true"], "overwrite=true starts it over"),
    ],
)
def test_what_cannot_be_audited_is_one_clear_line(
    words: list[str], needle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "model.depth=1", "model.embed_dim=8", f"run_dir={tmp_path / 'run'}", *words]) == 2
    assert needle in capsys.readouterr().err.strip().splitlines()[-1]


def test_an_audit_that_may_go_on_with_nothing_refuses_a_folder_with_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "parts.jsonl").write_text("{}\n")
    assert main(["audit", "model.depth=1", "model.embed_dim=8", f"run_dir={tmp_path}", "resume=never"]) == 2
    assert "holds work (parts.jsonl)" in capsys.readouterr().err and (tmp_path / "parts.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize("quick", ["false", "true"])
def test_an_audit_that_does_not_fit_leaves_an_earlier_one_as_it_was(
    quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "measure", lambda setting: Speed(1.0, 13, 1.0, 1.0, 16, 1.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(quick_planner, "measure_pace", lambda *told: Pace(1.0, 1.0, 1.0))
    earlier = ("parts.jsonl", "audit.json", "report.html", "config.yaml")
    for name in earlier:
        (tmp_path / name).write_text(name)
    words = ["audit", "model.depth=1", "model.embed_dim=8", f"quick={quick}", "minutes=0.001", "overwrite=true"]
    assert main([*words, f"run_dir={tmp_path}"]) == 2
    assert "minutes=0.001 are too few" in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != LOCK} == {name: name for name in earlier}


def test_an_audit_that_starts_over_leaves_no_page_of_the_earlier_one(tmp_path: Path) -> None:
    pages = ("report.html", "report.md", "report.json", "card.png", "about.json", "example.png", "taken_further.txt")
    for name in ("parts.jsonl", "audit.json", "audit.png", *pages):
        (tmp_path / name).write_text("of an earlier one")
    cfg = audited("model.depth=1", "model.embed_dim=8", "overwrite=true")
    setting = make_setting(cfg, build_data(cfg.data), build_precision(cfg))
    ledger = open_ledger(cfg, RunDir(tmp_path), setting, first="one", plan=lambda: {"value": 1})
    assert list(ledger.rows) == ["one"] and {path.name for path in tmp_path.iterdir()} == {"parts.jsonl", "manifest.json"}


@pytest.mark.usefixtures("drawing")
@pytest.mark.slow
def test_a_small_audit_ends_with_a_verdict_and_resumes_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "data=planted", "data.direction=v", "epochs=2", "data.steps_per_epoch=10"]
    words += ["keep=4", "minutes=2", f"run_dir={tmp_path}"]
    assert main(words) == 0
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "audit.json").read_text())
    assert result["controls"]["planted_found"] and result["controls"]["shuffled_passed"]
    assert result["verdict"]["answer"] in ("yes", "no", "undecided") and result["verdict"]["sentences"][-1] in said
    assert (tmp_path / "audit.png").stat().st_size > 0
    rows = (tmp_path / "parts.jsonl").read_text()
    assert main([*words, "seed=1"]) == 2, "another configuration is another audit"
    assert main([*words, "strict=true"]) == (0 if result["verdict"]["answer"] == "yes" else 3)
    assert main(words) == 0
    assert (tmp_path / "parts.jsonl").read_text() == rows


def test_a_round_that_was_cut_short_takes_no_part_in_the_race() -> None:
    whole = parts()
    cut = [row for row in whole if row["key"] != "random round 2: h_flip"]
    assert read(whole)["race"]["rounds"] == 3
    assert read(cut)["race"] is None  # two rounds are too few to conclude from
