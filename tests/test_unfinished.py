"""Parts of an audit and trials that are stopped go on where they were: the same numbers, no step done twice, nothing left."""

from __future__ import annotations

import json
import logging
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from test_exact_resume import signalled

from lmsearch.audit.ledger import Ledger, Row
from lmsearch.audit.parts import parts_of
from lmsearch.audit.setting import Plan, Setting
from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.engine.checkpoint import fingerprint
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.threads import cores
from lmsearch.engine.unfinished import Unfinished
from lmsearch.interrupts import SAVED, Stopped, answering_signals
from lmsearch.settings.tasks import Audit
from lmsearch.tasks.audit import OF_A_SEARCH, make_setting
from lmsearch.tasks.parts.build import build_data, build_precision
from lmsearch.testing.faults import main as faults

TINY = ["data=planted", "data.grid=4", "data.num_train=160", "model.embed_dim=8", "model.d_state=2", "batch_size=32"]
PLAN = Plan(epochs=2, rounds=1, per_round=1)
TRIALS = ["search", "search=random", *TINY, "epochs=2", "search.evaluate=standalone", "search.trials=2", "optim.ema_decay=0.9"]
ROUND, SHUFFLED, HAND_MADE = "searched round 0", "control shuffled", "hand-made round 0"


def setting_of(*words: str) -> Setting:
    """Return what an audit of the tiny planted task audits."""
    settings = compose_settings(Audit, [*TINY, "keep=2", *words]).changed(OF_A_SEARCH)
    return make_setting(settings, build_data(settings.data), build_precision(settings))


def job_of(setting: Setting, key: str, folder: Path | None, *, every_s: float | None = None) -> Callable[[], Row]:
    """Return one part of an audit, which is kept in a folder while it runs, in none for None."""
    within = None if folder is None else Unfinished.of(RunDir(folder), "a run", every_s=every_s)
    return parts_of(setting, None, PLAN, within=within)[key]


@pytest.mark.parametrize(
    ("key", "words", "every"),
    [
        (ROUND, ["search=darts", "search.recheck=0"], 7),  # a search that learns alphas, then a training: 8 steps and 10
        (SHUFFLED, ["search.holdout=0.2"], 7),
        (HAND_MADE, ["optim.mixup=0.3", "optim.ema_decay=0.9"], 4),
    ],
)
def test_a_part_that_is_stopped_again_and_again_ends_as_the_whole_one(
    key: str, words: list[str], every: int, tmp_path: Path
) -> None:
    setting = setting_of(*words)
    with signalled(signal.SIGTERM, after=0) as steps:
        whole = job_of(setting, key, None)()
    done, stops = [], 0
    while True:
        with answering_signals(), signalled(signal.SIGTERM, after=every) as here:
            try:
                row = job_of(setting, key, tmp_path, every_s=600)()
                break
            except Stopped:
                stops += 1
                assert len(here) == every, "no step after the one in which the signal came"
            finally:
                done += here
    assert json.dumps(row) == json.dumps(whole)
    assert done == steps and stops == (len(steps) - 1) // every >= 1, "no step is done twice"


def test_the_supernets_of_a_recheck_go_on_too(tmp_path: Path) -> None:
    def weights(setting: Setting) -> list[str]:
        found = setting.search(epochs=1, seed=0)
        return [fingerprint(fresh.state_dict()) for fresh in found.recheck(lambda number, session: setting.train(session))]

    setting = setting_of("search.recheck=0.5")
    with signalled(signal.SIGTERM, after=0) as steps:
        whole = weights(setting)
    kept = setting.part(SHUFFLED, Unfinished.of(RunDir(tmp_path), "a run", every_s=600))
    with answering_signals(), signalled(signal.SIGTERM, after=len(steps) - 1) as done, pytest.raises(Stopped):
        weights(kept)  # in the last step but one of the second
    with signalled(signal.SIGTERM, after=0) as rest:
        assert weights(kept) == whole
    assert len(done) + len(rest) == len(steps) > 8 and len(whole) == 2


def test_brief_trainings_are_written_when_it_is_time_and_not_at_every_end_of_an_epoch(tmp_path: Path) -> None:
    for every_s, written in ((600.0, 0), (None, 1), (0.0, 1)):
        folder = tmp_path / str(every_s)
        job_of(setting_of(), HAND_MADE, folder, every_s=every_s)()
        assert len([*folder.rglob("*.pt")]) == written, every_s


def test_a_search_that_is_trained_is_kept_for_what_comes_after_it(tmp_path: Path) -> None:
    setting = setting_of("search.recheck=0").part(ROUND, Unfinished.of(RunDir(tmp_path), "a run", every_s=600))
    setting.search(epochs=1, seed=0)
    with signalled(signal.SIGTERM, after=0) as done:
        again = setting.search(epochs=1, seed=0)
    assert done == [] and again.cost > 0


def test_a_state_that_is_damaged_or_of_another_run_is_not_gone_on_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    setting = setting_of()
    whole = job_of(setting, HAND_MADE, tmp_path, every_s=0.0)()
    (state,) = tmp_path.rglob("*.pt")
    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING), signalled(signal.SIGTERM, after=0) as steps:
        assert job_of(setting, HAND_MADE, tmp_path, every_s=0.0)() == whole
    assert len(steps) == 10 and f"{state}: not a readable checkpoint" in caplog.text and "is done again" in caplog.text
    for run, seed, expected in (("a run", 0, 0), ("a run", 1, 10), ("another run", 0, 10)):
        with signalled(signal.SIGTERM, after=0) as steps:
            kept = setting.part(HAND_MADE, Unfinished.of(RunDir(tmp_path), run, every_s=0.0))
            kept.alone(epochs=2, seed=seed)(setting.hand_made)
        assert len(steps) == expected, (run, seed)


def test_a_ledger_counts_what_a_part_took_before_and_deletes_its_states(tmp_path: Path) -> None:
    ledger = Ledger(RunDir(tmp_path), identity="a", limit_s=60.0, every_s=0.0)
    ledger.once("one", dict)
    setting = setting_of()

    def part(within: Unfinished) -> Row:
        return parts_of(setting, None, PLAN, within=within)[HAND_MADE]()

    with answering_signals(), signalled(signal.SIGTERM, after=6), pytest.raises(Stopped):
        ledger.once(HAND_MADE, partial(part, ledger.unfinished))
    again = Ledger(RunDir(tmp_path), identity="a", limit_s=60.0, every_s=0.0)
    before = again.unfinished.inside(HAND_MADE).seconds()
    assert before > 0.0
    row = again.once(HAND_MADE, partial(part, again.unfinished))
    assert row["took_s"] >= round(before, 2) and not [*tmp_path.rglob("*.pt")]


def test_what_a_kill_left_beside_the_row_of_a_part_or_of_an_audit_without_rows_goes(tmp_path: Path) -> None:
    ledger = Ledger(RunDir(tmp_path), identity="a", limit_s=60.0)
    ledger.once("one", dict)
    for key in ("one", "two"):
        folder = ledger.unfinished.inside(key).folder
        folder.make()
        folder.write("x.pt", b"")
    again = Ledger(RunDir(tmp_path), identity="a", limit_s=60.0)
    assert [*tmp_path.rglob("*.pt")] == [again.unfinished.inside("two").folder / "x.pt"]
    (tmp_path / "parts.jsonl").unlink()
    Ledger(RunDir(tmp_path), identity="a", limit_s=60.0)
    assert [*tmp_path.rglob("*.pt")] == []


def test_a_training_that_may_go_back_has_something_to_go_back_to(tmp_path: Path) -> None:
    setting = setting_of("optim.on_nonfinite=rollback")
    with answering_signals(), signalled(signal.SIGTERM, after=1), pytest.raises(Stopped):
        job_of(setting, HAND_MADE, tmp_path, every_s=600)()
    alone = setting.part(HAND_MADE, Unfinished.of(RunDir(tmp_path), "a run", every_s=600)).alone(epochs=2, seed=0)
    with signalled(signal.SIGTERM, after=0) as rest:
        alone(setting.hand_made)
    assert rest[0] == (0, 1) and len(rest) == 9


def trials_of(folder: Path) -> list[list[str]]:
    """Return what trials.csv says, without seconds and numbers, of which one that was cut off has had two."""
    lines = [line.split(",") for line in (folder / "trials.csv").read_text().splitlines()]
    return [line[1:6] + line[7:] for line in lines]


def test_a_trial_that_a_signal_stops_goes_on_inside_its_training(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with signalled(signal.SIGTERM, after=0) as steps:
        assert main([*TRIALS, f"run_dir={whole}"]) == 0
    with signalled(signal.SIGTERM, after=13) as done:
        assert main([*TRIALS, f"run_dir={cut}"]) == SAVED
    assert len([*(cut / "parts").rglob("*.pt")]) == 1
    over = shutil.copytree(cut, tmp_path / "over")
    with signalled(signal.SIGTERM, after=0) as again:
        assert main([*TRIALS, f"run_dir={over}", "overwrite=true"]) == 0
    assert again == steps, "what starts over does nothing but all"
    with signalled(signal.SIGTERM, after=0) as rest:
        assert main([*TRIALS, f"run_dir={cut}"]) == 0
    assert done + rest == steps and trials_of(cut) == trials_of(whole)
    assert (cut / "genotype.json").read_bytes() == (whole / "genotype.json").read_bytes()
    assert not (cut / "parts").exists() and not (whole / "parts").exists()


QUICK = ["audit", "quick=true", *TINY, "epochs=8", "minutes=60", "threads=1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "workers"),
    [("kill", 1), ("flip", 1), pytest.param("term", 2, marks=pytest.mark.skipif(cores() < 2, reason="two workers"))],
)
def test_a_quick_audit_that_is_disturbed_leaves_the_same(
    mode: str, workers: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*QUICK, f"workers={workers}", "save_every_s=0.05"]
    assert faults([f"mode={mode}", "kills=3", f"out={tmp_path / 'out'}", *words]) == 0, capfd.readouterr().out
    assert [*(tmp_path / "out").rglob("*.pt")] == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["kill", "term"])
def test_a_search_of_trials_that_is_disturbed_leaves_the_same(
    mode: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*TRIALS, "search.trials=6", "save_every_s=0"]
    assert faults([f"mode={mode}", "kills=3", f"out={tmp_path / 'out'}", *words]) == 0, capfd.readouterr().out
